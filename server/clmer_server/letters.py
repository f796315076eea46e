"""A message on its way to the clients, encoded and framed once for all that speak the same encoding."""

from __future__ import annotations

from websockets.frames import Frame, Opcode

from clmer_server.protocol.encoding import encode_as
from clmer_server.protocol.names import Encoding
from clmer_server.protocol.outbound import MarkerMessage, Message, QualityMessage, StreamStatusMessage
from clmer_server.protocol.parts import Topic
from clmer_server.protocol.prediction import EmotionEvent
from clmer_server.protocol.preview import Preview

_TOPICS: dict[type[Message], Topic] = {
    EmotionEvent: "predictions",
    QualityMessage: "quality",
    StreamStatusMessage: "status",
    MarkerMessage: "markers",
}


class Letter:
    """A message and its address.

    Args:
        message: What is sent.

    Attributes:
        topic: Whom it is for; None where everybody gets it.
        session: Whose it is; None where it answers one client.
        seq: Of a prediction; None for a message of any other type.
        key: What a newer letter of the same key takes the place of.
    """

    __slots__ = ("_framed", "_written", "key", "message", "seq", "session", "topic")

    def __init__(self, message: Message | Preview) -> None:
        self.message = message
        self.topic = message.topic if isinstance(message, Preview) else _TOPICS.get(type(message))
        self.session: str | None = getattr(message, "session", None)
        self.seq = message.seq if isinstance(message, EmotionEvent) else None
        self.key = (self.session, self.topic, message.source if isinstance(message, StreamStatusMessage) else "")
        self._written: dict[Encoding, str | bytes] = {}
        self._framed: dict[Encoding, bytes] = {}

    def written(self, encoding: Encoding) -> str | bytes:
        """Return the message as clients read it."""
        if isinstance(self.message, Preview):
            return self.message.content
        if encoding not in self._written:
            self._written[encoding] = encode_as(self.message, encoding)
        return self._written[encoding]

    def framed(self, encoding: Encoding) -> bytes:
        """Return the WebSocket frame around it: the same for every client, since servers neither mask nor compress."""
        if encoding not in self._framed:
            content = self.written(encoding)
            frame = Frame(Opcode.TEXT, content.encode()) if isinstance(content, str) else Frame(Opcode.BINARY, content)
            self._framed[encoding] = frame.serialize(mask=False)
        return self._framed[encoding]
