"""The messages of the service.

Every message is one object with a ``type``. Times are seconds of the LSL clock unless the name says
otherwise. A value that was not measured is null, never 0. Fields may be added; none changes its meaning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, TypeAdapter

from clmer_server.protocol.codes import PROTOCOL, ByeReason, ErrorCode, ErrorMessage, NoticeCode, ProtocolName
from clmer_server.protocol.parts import (
    TOPICS,
    ClockReading,
    EmotionEvent,
    Grid,
    Limits,
    Modalities,
    ModelInfo,
    Number,
    Part,
    RequestId,
    ServerInfo,
    SourceMode,
    StreamEntry,
    Topic,
)
from clmer_streaming.types import ChannelFault, FloatArray

PREVIEW_LAYOUT = """Blocks of samples for people to look at: a short header, then float32 values, all little-endian.

::

    offset  bytes  what
         0      4  "CLMP"
         4      1  version of this header, 1
         5      1  topic: 1 eeg.preview, 2 face.preview
         6      2  uint16, bytes of this header: the values begin there
         8      2  uint16, rows C (channels)
        10      2  uint16, columns n (samples)
        12      4  uint32, number of the block within its topic and session
        16      8  float64, time of the first column in seconds
        24      8  float64, seconds from one column to the next; 0 where there is only one
        32      -  name of the session in UTF-8, filled up with zero bytes to a multiple of 8

The values follow row by row. NaN: not measured.
"""
"""What a binary block of a preview holds, byte by byte."""


class Welcome(Part):
    """First message of every connection."""

    type: Literal["welcome"] = "welcome"
    protocol: ProtocolName = PROTOCOL
    session: str
    server: ServerInfo
    model: ModelInfo
    streams: tuple[StreamEntry, ...]
    capabilities: tuple[str, ...] = (*TOPICS, "marker", "clock.sync")  # topics, and requests that can succeed
    clock: ClockReading
    limits: Limits = Limits()
    source: SourceMode
    grid: Grid


class ChannelEntry(Part):
    """One EEG channel in one window."""

    name: str
    good: bool  # false: masked
    faults: tuple[ChannelFault, ...]
    sd_uv: Number  # uV, in the model's band
    filled_share: Number  # 0-1, of invented values
    stuck_share: Number  # 0-1, of raw values that repeat the one before
    line_share: Number  # 0-1, of the mains
    muscle_share: Number  # 0-1, of 20-45 Hz
    correlation: Number  # 0-1, largest |r| with another good channel
    contact: Number  # 0-4, as the headset itself reports it


class QualityMessage(Part):
    """Quality of the inputs of one window, channel by channel."""

    type: Literal["quality"] = "quality"
    session: str
    seq: int  # of the prediction for the same window
    t_end: float
    reasons: tuple[str, ...]
    modalities: Modalities
    channels: tuple[ChannelEntry, ...]  # of EEG, in the model's order; empty where there is no EEG to judge


class StreamStatusMessage(StreamEntry):
    """A stream's state has changed, or its measured rate is due."""

    type: Literal["stream.status"] = "stream.status"
    session: str


class MarkedWindows(Part):
    """The windows that a marker falls in: ``t_start <= t < t_end``."""

    t_end_first: float
    t_end_last: float
    seq_first: int | None  # of their predictions; null before the session's first window
    seq_last: int | None


class MarkerMessage(Part):
    """An event of the experiment, as a stream or a client delivered it."""

    type: Literal["marker"] = "marker"
    session: str
    t: Number  # s
    id: str  # new for each marker of a session
    label: str
    value: Number  # null where there are only words
    source: str  # the stream within the session; "websocket" for those of clients
    uncertainty_s: Number = None  # of t, where the client's clock placed it; null where nobody knows
    windows: MarkedWindows | None = None


class Notice(Part):
    """A message for people."""

    type: Literal["notice"] = "notice"
    session: str | None = None  # whose; null where it is the service's own
    code: NoticeCode
    message: str


class GapMessage(Part):
    """Messages that this client does not get: it was too slow, or came back too late."""

    type: Literal["gap"] = "gap"
    session: str | None = None  # whose messages; null for answers to the client
    from_seq: int | None  # first and last prediction that went; null where none did
    to_seq: int | None
    dropped: int  # messages of any kind
    topics: dict[str, int] = Field(default_factory=dict)  # how many of each; "other" for what has no topic
    reason: Literal["slow_client", "not_kept"] = "slow_client"


class TopicFailure(Part):
    """A topic that could not be subscribed to."""

    topic: str
    code: ErrorCode
    message: str


class PlacedMarker(Part):
    """Where a client's marker was placed."""

    id: str  # as the marker message has it
    t: float  # s, LSL clock; in a replay, of the recording
    uncertainty_s: Number


class Ack(Part):
    """The client's message was acted upon."""

    type: Literal["ack"] = "ack"
    id: RequestId | None = None
    topics: tuple[Topic, ...] = ()  # those that were subscribed to, or left
    failed: tuple[TopicFailure, ...] = ()  # those that were not, and why
    marker: PlacedMarker | None = None


class ClockReply(Part):
    """The answer to ``clock.sync``; the client stamps its arrival as t3 and sends that with the next one."""

    type: Literal["clock.reply"] = "clock.reply"
    id: RequestId
    t0: float  # s, client's clock, as it sent it
    t1: float  # s, LSL clock, the message came
    t2: float  # s, LSL clock, this answer goes
    offset_s: Number = None  # LSL clock less client's clock, by the best exchange so far; null before the first
    uncertainty_s: Number = None  # of the offset, now
    n_exchanges: int = 0  # that count


class Bye(Part):
    """Last message of a connection that the service ends."""

    type: Literal["bye"] = "bye"
    reason: ByeReason
    retry_after_s: float | None = None  # s, until it makes sense to connect again; null where a person must act first


Message: TypeAlias = (
    Welcome
    | Ack
    | ErrorMessage
    | EmotionEvent
    | QualityMessage
    | StreamStatusMessage
    | MarkerMessage
    | GapMessage
    | ClockReply
    | Notice
    | Bye
)
"""Anything the service sends, but for the binary blocks of previews."""

MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
"""Reads a message of any type back from JSON."""


PreviewTopic: TypeAlias = Literal["eeg.preview", "face.preview"]
"""Topics of the binary blocks."""

MAGIC = b"CLMP"
"""The first bytes of every block; no MessagePack message begins so."""

VERSION = 1
_TOPIC_NUMBERS: dict[PreviewTopic, int] = {"eeg.preview": 1, "face.preview": 2}
_FIXED = struct.Struct("<4sBBHHHIdd")


@dataclass(frozen=True, eq=False)
class Preview:
    """A block of samples for people to look at; ``content`` is what is sent."""

    topic: PreviewTopic
    session: str
    number: int  # grows by one from block to block
    t: float  # s, of the first column
    interval_s: float  # between two columns; 0 for a single one
    values: FloatArray  # (C, n)

    @cached_property
    def content(self) -> bytes:
        """The block as it is sent."""
        name = self.session.encode()
        name += bytes(-(_FIXED.size + len(name)) % 8)
        rows, columns = self.values.shape
        head = _FIXED.pack(
            MAGIC,
            VERSION,
            _TOPIC_NUMBERS[self.topic],
            _FIXED.size + len(name),
            rows,
            columns,
            self.number % 2**32,
            self.t,
            self.interval_s,
        )
        return head + name + np.ascontiguousarray(self.values, dtype="<f4").tobytes()


def parse_preview(content: bytes) -> Preview:
    """Return the block that ``Preview.content`` holds.

    Raises:
        ValueError: It is none, or of a version that is not known.
    """
    if content[:4] != MAGIC or len(content) < _FIXED.size or content[4] != VERSION:
        raise ValueError(f"no preview of version {VERSION}: {content[:8]!r}")
    _, _, number_of_topic, n_header, rows, columns, number, t, interval_s = _FIXED.unpack_from(content)
    topic = next(name for name, value in _TOPIC_NUMBERS.items() if value == number_of_topic)
    session = content[_FIXED.size : n_header].rstrip(b"\0").decode()
    values = np.frombuffer(content, "<f4", rows * columns, n_header).reshape(rows, columns)
    return Preview(topic, session, number, t, interval_s, values.astype(np.float64))
