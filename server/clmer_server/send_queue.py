"""The queue of messages that wait for one client, and the messages in it.

To be read in this order: ``OutboundMessage``, which is encoded once for all clients of an encoding; ``SendQueue``,
which is bounded and counts what it drops; ``Subscriber``, the queue with the waiting around it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

from websockets.frames import Frame, Opcode

from clmer_server.protocol.codes import Encoding
from clmer_server.protocol.encoding import encode_as
from clmer_server.protocol.outbound import (
    GapMessage,
    MarkerMessage,
    Message,
    Preview,
    QualityMessage,
    StreamStatusMessage,
)
from clmer_server.protocol.parts import EmotionEvent, Topic

_TOPICS: dict[type[Message], Topic] = {
    EmotionEvent: "predictions",
    QualityMessage: "quality",
    StreamStatusMessage: "status",
    MarkerMessage: "markers",
}


class OutboundMessage:
    """A message on its way to any number of clients.

    Args:
        message: The message.

    Attributes:
        topic: Clients that subscribed to it get the message; None: all do.
        session: The session that it comes from; None where it answers one client.
        seq: Number of a prediction; None for a message of any other type.
        key: Equal for messages of which the newer one can replace the older one.
    """

    __slots__ = ("_encoded", "_framed", "key", "message", "seq", "session", "topic")

    def __init__(self, message: Message | Preview) -> None:
        self.message = message
        self.topic = message.topic if isinstance(message, Preview) else _TOPICS.get(type(message))
        self.session: str | None = getattr(message, "session", None)
        self.seq = message.seq if isinstance(message, EmotionEvent) else None
        self.key = (self.session, self.topic, message.source if isinstance(message, StreamStatusMessage) else "")
        self._encoded: dict[Encoding, str | bytes] = {}
        self._framed: dict[Encoding, bytes] = {}

    def encoded(self, encoding: Encoding) -> str | bytes:
        """Return the message as text or bytes, encoded once for all clients."""
        if isinstance(self.message, Preview):
            return self.message.content
        if encoding not in self._encoded:
            self._encoded[encoding] = encode_as(self.message, encoding)
        return self._encoded[encoding]

    def framed(self, encoding: Encoding) -> bytes:
        """Return the WebSocket frame around it: the same for every client, since servers neither mask nor compress."""
        if encoding not in self._framed:
            content = self.encoded(encoding)
            frame = Frame(Opcode.TEXT, content.encode()) if isinstance(content, str) else Frame(Opcode.BINARY, content)
            self._framed[encoding] = frame.serialize(mask=False)
        return self._framed[encoding]


_RANKS: dict[Topic | None, int] = {"eeg.preview": 0, "face.preview": 0, "quality": 1, "predictions": 1}
"""Order in which messages are dropped from a full queue; those that a newer one replaces go first."""

_LAST_RANK = 2  # of all others


@dataclass(slots=True)
class _Loss:
    """Messages of one session that were dropped since the last ``gap``."""

    first_seq: int | None = None
    last_seq: int | None = None
    topics: Counter[str] = field(default_factory=Counter)

    def add(self, message: OutboundMessage) -> None:
        self.topics[message.topic or "other"] += 1
        if message.seq is not None:
            self.first_seq = message.seq if self.first_seq is None else self.first_seq
            self.last_seq = message.seq


class SendQueue:
    """A bounded queue of messages for one client; not thread-safe.

    A full queue drops its oldest preview, then its oldest prediction or quality, because a newer one replaces it.
    Only where it holds none of these does it drop another message. A ``gap`` that counts what was dropped is returned
    before anything else.

    Args:
        capacity: Messages that may wait.

    Attributes:
        n_dropped: Messages dropped since the client connected.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_dropped = 0
        self._messages: deque[OutboundMessage] = deque()
        self._losses: dict[str | None, _Loss] = {}  # by session

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._messages)

    @property
    def full(self) -> bool:
        """Whether one more message would push another one out."""
        return len(self._messages) >= self.capacity

    def put(self, message: OutboundMessage, *, latest: bool = False) -> None:
        """Add a message; a full queue drops another one first.

        Args:
            message: What to add.
            latest: Whether it replaces an earlier one of its key.
        """
        if latest and (same := [i for i, old in enumerate(self._messages) if old.key == message.key]):
            self._drop(same[0])
        if self.full:
            self._drop(self._least_important())
        self._messages.append(message)

    def get(self) -> OutboundMessage | None:
        """Return the next message to send, or None where nothing waits."""
        if self._losses:
            session, loss = self._losses.popitem()
            dropped = loss.topics.total()
            gap = GapMessage(
                session=session, from_seq=loss.first_seq, to_seq=loss.last_seq, dropped=dropped, topics=loss.topics
            )
            return OutboundMessage(gap)
        return self._messages.popleft() if self._messages else None

    def _least_important(self) -> int:
        ranks = [_RANKS.get(message.topic, _LAST_RANK) for message in self._messages]
        return ranks.index(min(ranks))

    def _drop(self, place: int) -> None:
        message = self._messages[place]
        self._losses.setdefault(message.session, _Loss()).add(message)
        del self._messages[place]
        self.n_dropped += 1


class Subscriber:
    """A connected client: its send queue, and the waiting for messages and for room. Used on the event loop.

    Args:
        capacity: Messages that may wait.
        encoding: How its messages are encoded.

    Attributes:
        queue: The messages that wait.
        ending: Whether nothing more is added.
        stalled: Whether a replay no longer waits for it.
    """

    def __init__(self, capacity: int, encoding: Encoding = Encoding.JSON) -> None:
        self.encoding = encoding
        self.queue = SendQueue(capacity)
        self.ending = False
        self.stalled = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def crowded(self) -> bool:
        """Whether half of the queue is full."""
        return len(self.queue) * 2 > self.queue.capacity

    def put(self, message: OutboundMessage, latest: bool = False) -> None:
        """Add a message unless the last one was added; ``latest``: in place of an earlier one of its key."""
        if self.ending:
            return
        self.queue.put(message, latest=latest)
        self._changed.set()
        if self.crowded:
            self._room.clear()

    def end(self, message: OutboundMessage) -> None:
        """Add the last message."""
        self.put(message)
        self.ending = True
        self._room.set()

    def leave(self) -> None:
        """Accept no more messages: the connection is closed."""
        self.ending = True
        self._room.set()

    async def get(self) -> OutboundMessage | None:
        """Wait for the next message to send and return it; None after the last one."""
        while (message := self.queue.get()) is None:
            if self.ending:
                return None
            self._changed.clear()
            await self._changed.wait()
        self.stalled = False
        if not self.crowded:
            self._room.set()
        return message

    async def wait_for_room(self, timeout_s: float) -> None:
        """Wait until the queue is no longer crowded; a client that takes longer is not waited for again."""
        if self.stalled or self._room.is_set():
            return
        try:
            await asyncio.wait_for(self._room.wait(), timeout_s)
        except TimeoutError:
            self.stalled = True
