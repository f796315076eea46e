"""The messages of the WebSocket protocol ``clmer.v1.json``, as the service sends them.

Every message is one JSON object with a ``type``. Times are seconds of the LSL clock unless the name says
otherwise. A value that was not measured is null, never 0. Fields may be added; none changes its meaning.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from clmer_streaming.types import ChannelFault, StreamKind

PROTOCOL: Literal["clmer.v1.json"] = "clmer.v1.json"
"""The WebSocket subprotocol of these messages."""

MAX_INBOUND_BYTES = 64 * 1024
"""Longest message that a client may send."""

VOLATILE_FIELDS = ("session", "t_out", "unix_time", "latency_ms", "batch")
"""Fields of a prediction that may differ between two runs of one recording; all others are equal.

A session's name and the times of sending are new in every run; how many windows shared one call of the model
depends on how many were waiting.
"""


def finite_or_none(value: Any) -> Any:
    """Return ``value``, or None for a NaN or an infinity: JSON knows neither."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number: TypeAlias = Annotated[float | None, BeforeValidator(finite_or_none)]
"""A finite number, or null where nothing was measured."""


class _Part(BaseModel):
    """A part of a message: immutable, without fields that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerInfo(_Part):
    """The program that sends."""

    name: Literal["clmer"] = "clmer"
    version: str


class ModelRef(_Part):
    """Which model answered."""

    id: str
    sha256: str
    config_hash: str  # of the signal settings, see PreprocessConfig.config_hash


class ModelInfo(ModelRef):
    """What a client should know of the model before the first prediction."""

    labels: tuple[str, ...]
    trained_on: str  # "simulated" for what ships
    runner: str
    device: str


class StreamEntry(_Part):
    """One input stream at one moment."""

    source: str
    kind: StreamKind
    name: str
    state: Literal["connecting", "live", "stalled", "lost"]
    since: Number
    reason: str
    nominal_rate_hz: Number  # null for an irregular stream
    rate_hz: Number  # measured; null before it is known
    drift_ppm: Number
    n_samples: int
    n_gaps: int
    n_bridged: int
    n_lost: int
    n_dropped: int
    chunk_s: Number


class ClockReading(_Part):
    """One moment on both clocks."""

    lsl_time: float  # s
    unix_time: float  # s


class Limits(_Part):
    """What the service accepts from a client."""

    max_message_bytes: int = MAX_INBOUND_BYTES


class Grid(_Part):
    """The windows: each ``window_s`` long, one every ``hop_s``, ends at whole multiples of ``hop_s``."""

    window_s: float
    hop_s: float


SourceMode: TypeAlias = Literal["live", "replay"]
"""Whether the input arrives now or is read from a recording."""


class Welcome(_Part):
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


class EegQuality(_Part):
    """The EEG of one window."""

    used: bool
    quality: Number  # 0-1
    age_ms: Number
    channels_ok: int | None
    interpolated_frac: Number  # 0-1
    channels_bad: tuple[str, ...] = ()  # channels that were masked
    faults: dict[str, tuple[ChannelFault, ...]] = {}  # by channel, where there are any: what ails it, masked or not


class FaceQuality(_Part):
    """The face of one window."""

    used: bool
    present: Number  # share of the window's slots with a face, 0-1
    confidence: Number  # 0-1
    yaw_deg: Number
    fps: Number
    age_ms: Number


class SeriesQuality(_Part):
    """A further physiological series of one window."""

    used: bool
    quality: Number  # 0-1
    age_ms: Number


class Modalities(_Part):
    """What each modality contributed."""

    eeg: EegQuality
    face: FaceQuality
    series: dict[str, SeriesQuality] = {}  # by name; empty for a model without further series


class Latency(_Part):
    """Where the time went, in milliseconds."""

    window: Number  # end of the window -> window complete; null in a replay, whose stamps are of another day
    model: Number  # the model's own time; null where it was not asked
    publish: Number  # model answered -> message handed to the clients
    total: Number  # end of the window -> message handed to the clients; null in a replay


class Calibration(_Part):
    """What the inputs were calibrated against."""

    face: str | None
    eeg: str | None


class EmotionEvent(_Part):
    """The answer for one window: how probable each emotion is, and whether that can be trusted."""

    type: Literal["prediction"] = "prediction"
    seq: int  # grows by one from one event of a session to the next
    session: str
    participant: str | None = None
    t_start: float
    t_end: float  # a whole multiple of the grid's hop
    t_out: float
    unix_time: float  # of t_out
    valid: bool
    reasons: tuple[str, ...]  # see clmer_streaming.types.Reason; warnings where valid
    probs: dict[str, float] | None
    label: str | None
    valence: Number  # P(high)
    arousal: Number  # P(high)
    confidence: Number
    entropy: Number
    modalities: Modalities
    latency_ms: Latency
    model: ModelRef
    runner: str
    batch: int  # windows in the same call of the model; 0 where it was not asked
    trained_on: str
    calibration: Calibration
    crc: int  # CRC-32 of the window: equal live, replayed and offline
    source: SourceMode


class StreamStatusMessage(StreamEntry):
    """A stream's state has changed, or its measured rate is due."""

    type: Literal["stream.status"] = "stream.status"
    session: str


class MarkerMessage(_Part):
    """An event of the experiment, as a stream delivered it."""

    type: Literal["marker"] = "marker"
    session: str
    t: Number  # s
    id: str  # new for each marker of a session
    label: str
    value: Number  # null where the stream has only words
    source: str  # the stream within the session


class Notice(_Part):
    """Something a person should read."""

    type: Literal["notice"] = "notice"
    code: str
    message: str


class GapMessage(_Part):
    """This client was too slow: its oldest messages went."""

    type: Literal["gap"] = "gap"
    from_seq: int | None  # first and last prediction that went; null where none did
    to_seq: int | None
    dropped: int  # messages of any type
    reason: Literal["slow_client"] = "slow_client"


class ErrorMessage(_Part):
    """The client's message could not be acted upon."""

    type: Literal["error"] = "error"
    code: Literal["bad_message", "unknown_type"]
    message: str
    fatal: bool = False  # whether the connection ends here


class Bye(_Part):
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
