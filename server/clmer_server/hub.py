"""Hands every message to every client; lives on the event loop and never waits for a client.

A message is encoded once. Each client has a bounded mailbox, which its own sender task empties; a slow client
loses its oldest messages and is told so by a ``gap``.
"""

from __future__ import annotations

import asyncio
import contextlib

from clmer_server.mailbox import Letter, Mailbox
from clmer_server.protocol.outbound import Bye, Message, Notice, StreamStatusMessage, Welcome, encode
from clmer_server.protocol.parts import StreamEntry
from clmer_server.protocol.prediction import EmotionEvent

MAILBOX_CAPACITY = 256
"""Messages that may wait for one client: two minutes at a hop of 0.5 s, some 300 kB."""

MAX_KEPT_NOTICES = 32
"""Notices that are told to a client that comes later."""

ROOM_TIMEOUT_S = 2.0
"""How long a replay waits for one client before it goes on without it."""


class Client:
    """One connection: what waits for it, and whether it has been told goodbye."""

    def __init__(self, capacity: int) -> None:
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

    def put(self, letter: Letter) -> None:
        """Add a message, unless goodbye has been said."""
        if self.ending:
            return
        self.mailbox.put(letter)
        self._changed.set()
        if self.crowded:
            self._room.clear()

    def end(self, letter: Letter) -> None:
        """Add the last message."""
        self.put(letter)
        self.ending = True
        self._room.set()

    async def take(self) -> str | None:
        """Return the next text to send, waiting for it; None behind the last one."""
        while (text := self.mailbox.take()) is None:
            if self.ending:
                return None
            self._changed.clear()
            await self._changed.wait()
        self.stalled = False
        if not self.crowded:
            self._room.set()
        return text

    async def room(self, timeout_s: float) -> None:
        """Wait until the mailbox is no longer crowded; a client that takes longer is not waited for again."""
        if self.stalled or self._room.is_set():
            return
        try:
            await asyncio.wait_for(self._room.wait(), timeout_s)
        except TimeoutError:
            self.stalled = True


class Hub:
    """All clients of one session. Every method is called on the event loop.

    Args:
        capacity: Messages that may wait for one client.
    """

    def __init__(self, capacity: int = MAILBOX_CAPACITY) -> None:
        self.first_client = asyncio.Event()
        self._n_dropped_before = 0  # by clients that have gone
        self._capacity = capacity
        self._clients: set[Client] = set()
        self._streams: dict[str, StreamEntry] = {}
        self._notices: list[Notice] = []
        self._bye: Bye | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def n_clients(self) -> int:
        """Connections now."""
        return len(self._clients)

    @property
    def n_dropped(self) -> int:
        """Messages that slow clients have lost so far."""
        return self._n_dropped_before + sum(client.mailbox.n_dropped for client in self._clients)

    @property
    def streams(self) -> tuple[StreamEntry, ...]:
        """The newest status of every stream."""
        return tuple(self._streams.values())

    def attach(self, welcome: Welcome) -> Client:
        """Return a new client, with the welcome, earlier notices and, if it is over, the goodbye waiting for it."""
        client = Client(self._capacity)
        client.put(Letter(encode(welcome)))
        for notice in self._notices:
            client.put(Letter(encode(notice)))
        if self._bye is not None:
            client.end(Letter(encode(self._bye)))
        self._clients.add(client)
        self._empty.clear()
        self.first_client.set()
        return client

    def detach(self, client: Client) -> None:
        """Forget a client that has gone."""
        self._clients.discard(client)
        self._n_dropped_before += client.mailbox.n_dropped
        client.ending = True
        if not self._clients:
            self._empty.set()

    def publish(self, message: Message) -> None:
        """Give the message to every client, and keep what later clients must know."""
        if isinstance(message, Bye):
            self.say_goodbye(message)
            return
        if isinstance(message, StreamStatusMessage):
            entry = message.model_dump(exclude={"type", "session"})
            self._streams[message.source] = StreamEntry.model_validate(entry)
        elif isinstance(message, Notice):
            self._notices = [*self._notices, message][-MAX_KEPT_NOTICES:]
        seq = message.seq if isinstance(message, EmotionEvent) else None
        letter = Letter(encode(message), seq)
        for client in self._clients:
            client.put(letter)

    def say_goodbye(self, bye: Bye) -> None:
        """Let ``bye`` be the last message of every client, now and later; only the first goodbye counts."""
        if self._bye is None:
            self._bye = bye
            for client in self._clients:
                client.end(Letter(encode(bye)))

    async def room(self, timeout_s: float = ROOM_TIMEOUT_S) -> None:
        """Wait until every client that keeps up has room: the back-pressure of a replay."""
        for client in tuple(self._clients):
            await client.room(timeout_s)

    async def emptied(self, timeout_s: float) -> None:
        """Wait until every client has gone, but no longer than ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)
