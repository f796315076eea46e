"""Cuts off clients that have stopped reading.

Such a client must be aborted: an ordinary close first waits until everything before it was read. A slow client that
still reads is left alone; it loses its oldest messages, and is told so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STALL_S = 5.0
"""How long a mailbox may stay full, without one message leaving it."""

LOOK_S = 0.5
"""Time between two looks."""


@dataclass(eq=False)
class Watched:
    """One connection under watch.

    Args:
        is_full: Whether what waits for the client fills its mailbox.
        abort: Ends the connection at once.
    """

    is_full: Callable[[], bool]
    abort: Callable[[], None]
    stalled_since: float | None = None

    def sent(self) -> None:
        """Note that a message has left the mailbox."""
        self.stalled_since = None


class Watchdog:
    """Looks at all connections twice a second, while it is run.

    Args:
        clock: Seconds; only differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_evicted = 0
        self._clock = clock
        self._watched: set[Watched] = set()

    @contextmanager
    def watching(self, is_full: Callable[[], bool], abort: Callable[[], None]) -> Iterator[Watched]:
        """Watch one connection while the context lasts."""
        watched = Watched(is_full, abort)
        self._watched.add(watched)
        try:
            yield watched
        finally:
            self._watched.discard(watched)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Abort every connection whose mailbox has stayed full for too long."""
        now = self._clock()
        for watched in tuple(self._watched):
            if not watched.is_full():
                watched.stalled_since = None
            elif watched.stalled_since is None:
                watched.stalled_since = now
            elif now - watched.stalled_since >= STALL_S:
                self.n_evicted += 1
                self._watched.discard(watched)
                watched.abort()
