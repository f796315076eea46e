"""How late the event loop is: what every client waits for beside its own messages."""

from __future__ import annotations

import asyncio

INTERVAL_S = 0.5
"""How often the loop is asked to wake up."""


class LoopLag:
    """Wakes up at even intervals, and keeps how late the newest waking was.

    Attributes:
        seconds: Lateness of the newest waking.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        """Watch the running loop, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.seconds = max(0.0, loop.time() - due)
