"""One connection as the hubs see it: what waits for it, and whether it has been told goodbye."""

from __future__ import annotations

import asyncio

from clmer_server.letters import Letter
from clmer_server.mailbox import Mailbox
from clmer_server.protocol.names import Encoding


class Client:
    """A mailbox with a reader behind it; lives on the event loop.

    Args:
        capacity: Messages that may wait.
        encoding: How its messages are written.
    """

    def __init__(self, capacity: int, encoding: Encoding = Encoding.JSON) -> None:
        self.encoding = encoding
        self.mailbox = Mailbox(capacity)
        self.ending = False  # nothing is added any more
        self.stalled = False  # a replay no longer waits for it
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def crowded(self) -> bool:
        """Whether half of the mailbox is full."""
        return len(self.mailbox) * 2 > self.mailbox.capacity

    def put(self, letter: Letter, alone: bool = False) -> None:
        """Add a message, unless goodbye has been said; ``alone``: in place of an earlier one of its key."""
        if self.ending:
            return
        self.mailbox.put(letter, alone=alone)
        self._changed.set()
        if self.crowded:
            self._room.clear()

    def end(self, letter: Letter) -> None:
        """Add the last message."""
        self.put(letter)
        self.ending = True
        self._room.set()

    def leave(self) -> None:
        """Take no more messages: the connection has gone."""
        self.ending = True
        self._room.set()

    async def take(self) -> Letter | None:
        """Return the next message to send, waiting for it; None behind the last one."""
        while (letter := self.mailbox.take()) is None:
            if self.ending:
                return None
            self._changed.clear()
            await self._changed.wait()
        self.stalled = False
        if not self.crowded:
            self._room.set()
        return letter

    async def room(self, timeout_s: float) -> None:
        """Wait until the mailbox is no longer crowded; a client that takes longer is not waited for again."""
        if self.stalled or self._room.is_set():
            return
        try:
            await asyncio.wait_for(self._room.wait(), timeout_s)
        except TimeoutError:
            self.stalled = True
