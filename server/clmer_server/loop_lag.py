"""How late the event loop is: what every client waits for beside its own messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

INTERVAL_S = 0.5
"""How often the loop is asked to wake up."""


class LoopLag:
    """Wakes up at even intervals, and keeps how late the newest waking was.

    Attributes:
        seconds: Lateness of the newest waking.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the running loop as long as the context lasts."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.seconds = max(0.0, loop.time() - due)
