"""How a session's threads have messages published on the event loop: at once, or when clients have room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from clmer_server.delivery import HandOver


def live_hand_over(loop: asyncio.AbstractEventLoop) -> HandOver:
    """Return a hand-over for a live session: a client that is slow loses messages."""

    def hand_over(call: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(call)

    return hand_over


class ReplayHandOver:
    """Calls one after the other, each when clients that keep up have room, so that a replay loses nothing at any speed.

    The thread that hands over never waits. A replay is held back all the same: few of its windows may be on their way.

    Args:
        loop: Where the calls are made.
        room: Waits until there is room, e.g. ``Hub.room``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, room: Callable[[], Awaitable[None]]) -> None:
        self._loop = loop
        self._room = room
        self._calls: deque[Callable[[], None]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, call: Callable[[], None]) -> None:
        """Queue a call; from any thread."""
        self._loop.call_soon_threadsafe(self._add, call)

    def _add(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._make_calls())

    async def _make_calls(self) -> None:
        while self._calls:
            await self._room()
            try:
                self._calls.popleft()()
            except Exception as error:  # as the loop does with a call of its own: the next ones are made
                self._loop.call_exception_handler({"message": "a message was not published", "exception": error})
