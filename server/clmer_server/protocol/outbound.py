"""What the service sends.

Every message is one JSON object with a ``type``. Times are seconds of the LSL clock unless the name says
otherwise. A value that was not measured is null, never 0. Fields may be added; none changes its meaning.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from clmer_server.protocol.parts import (
    ClockReading,
    Grid,
    Limits,
    ModelInfo,
    Number,
    Part,
    ServerInfo,
    SourceMode,
    StreamEntry,
)
from clmer_server.protocol.prediction import EmotionEvent

PROTOCOL: Literal["clmer.v1.json"] = "clmer.v1.json"
"""The WebSocket subprotocol of these messages."""


class Welcome(Part):
    """First message of every connection."""

    type: Literal["welcome"] = "welcome"
    protocol: Literal["clmer.v1.json"] = PROTOCOL
    session: str
    server: ServerInfo
    model: ModelInfo
    streams: tuple[StreamEntry, ...]
    capabilities: tuple[str, ...] = ("predictions", "status", "markers")
    clock: ClockReading
    limits: Limits = Limits()
    source: SourceMode
    grid: Grid


class StreamStatusMessage(StreamEntry):
    """A stream's state has changed, or its measured rate is due."""

    type: Literal["stream.status"] = "stream.status"
    session: str


class MarkerMessage(Part):
    """An event of the experiment, as a stream delivered it."""

    type: Literal["marker"] = "marker"
    session: str
    t: Number  # s
    id: str  # new for each marker of a session
    label: str
    value: Number  # null where the stream has only words
    source: str  # the stream within the session


class Notice(Part):
    """Something a person should read."""

    type: Literal["notice"] = "notice"
    code: str
    message: str


class GapMessage(Part):
    """This client was too slow: its oldest messages went."""

    type: Literal["gap"] = "gap"
    from_seq: int | None  # first and last prediction that went; null where none did
    to_seq: int | None
    dropped: int  # messages of any type
    reason: Literal["slow_client"] = "slow_client"


class ErrorMessage(Part):
    """The client's message could not be acted upon."""

    type: Literal["error"] = "error"
    code: Literal["bad_message", "unknown_type"]
    message: str
    fatal: bool = False  # whether the connection ends here


class Bye(Part):
    """Last message of every connection that the service ends."""

    type: Literal["bye"] = "bye"
    reason: str
    retry_after_s: float | None = None


Message: TypeAlias = (
    Welcome | EmotionEvent | StreamStatusMessage | MarkerMessage | Notice | GapMessage | ErrorMessage | Bye
)
"""Anything the service sends."""

MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
"""Reads a message of any type back from JSON."""


def encode(message: Message) -> str:
    """Return the message as one line of JSON."""
    return message.model_dump_json()
