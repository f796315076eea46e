"""The parts that several messages share, and the prediction.

To be read in this order: types of fields, parts, the parts of a prediction, ``EmotionEvent``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from clmer_streaming.types import ChannelFault, StreamKind

MAX_INBOUND_BYTES = 64 * 1024
"""Longest message that a client may send."""


def finite_or_none(value: Any) -> Any:
    """Return ``value``, or None for a NaN or an infinity: JSON knows neither."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number: TypeAlias = Annotated[float | None, BeforeValidator(finite_or_none)]
"""A finite number, or null where nothing was measured."""

Topic: TypeAlias = Literal["predictions", "quality", "status", "markers", "eeg.preview", "face.preview"]
"""What a client can subscribe to."""

TOPICS: tuple[Topic, ...] = get_args(Topic)
"""All topics."""

DEFAULT_TOPICS: tuple[Topic, ...] = ("predictions", "status", "markers")
"""Topics of a client that never subscribes."""

RequestId: TypeAlias = (
    Annotated[StrictInt, Field(ge=-(2**53), le=2**53)] | Annotated[StrictStr, Field(min_length=1, max_length=64)]
)
"""Id that the client gives to a message; the answer carries it."""


class Part(BaseModel):
    """Base of all messages and their parts: immutable; unknown fields are refused; errors contain no values."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True, hide_input_in_errors=True
    )


class ServerInfo(Part):
    """The program that serves."""

    name: Literal["clmer"] = "clmer"
    version: str


class ModelRef(Part):
    """The model that answered."""

    id: str
    sha256: str
    config_hash: str  # of the signal settings, see PreprocessConfig.config_hash


class ModelInfo(ModelRef):
    """The model, as clients need to know it before the first prediction."""

    labels: tuple[str, ...]
    trained_on: str  # "simulated" for what ships
    runner: str
    device: str
    eeg_ch_names: tuple[str, ...] = ()  # in the order of eeg.preview
    eeg_rate_hz: Number = None  # of eeg.preview


class StreamEntry(Part):
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
    n_lost: int  # samples that a packet counter proves to be missing
    n_lost_estimated: int = 0  # samples that seem to be missing, by the stamps alone
    n_dropped: int
    chunk_s: Number
    delay_s: Number = None  # s that are taken off its stamps; null before it is announced


class ClockReading(Part):
    """One moment on both clocks."""

    lsl_time: float  # s
    unix_time: float  # s


class Limits(Part):
    """What the service accepts from a client."""

    max_message_bytes: int = MAX_INBOUND_BYTES
    max_messages_per_s: Number = 50.0  # of one client, which may send those of two seconds at once; null: as it likes
    max_connections: int = 256  # WebSockets in all
    max_connections_per_address: int = 64
    hello_timeout_s: float = 5.0  # for the token, where it comes in the first message


class Grid(Part):
    """The windows: each ``window_s`` long, one every ``hop_s``, ends at whole multiples of ``hop_s``."""

    window_s: float
    hop_s: float


SourceMode: TypeAlias = Literal["live", "replay"]
"""Whether the input arrives now or is read from a recording."""


VOLATILE_FIELDS = ("session", "t_out", "unix_time", "latency_ms", "batch")
"""Fields of a prediction that may differ between two runs of one recording; all others are equal.

A session's name and the times of sending are new in every run; how many windows shared one call of the model
depends on how many were waiting.
"""


class EegQuality(Part):
    """The EEG of one window."""

    used: bool
    quality: Number  # 0-1
    age_ms: Number
    channels_ok: int | None
    interpolated_frac: Number  # 0-1
    channels_bad: tuple[str, ...] = ()  # channels that were masked
    faults: dict[str, tuple[ChannelFault, ...]] = Field(default_factory=dict)  # by channel that anything ails


class FaceQuality(Part):
    """The face of one window."""

    used: bool
    present: Number  # share of the window's slots with a face, 0-1
    confidence: Number  # 0-1
    yaw_deg: Number
    fps: Number
    age_ms: Number


class SeriesQuality(Part):
    """A further series of one window: a physiological signal, or numbers on slots such as HOG."""

    used: bool
    quality: Number  # 0-1
    age_ms: Number


class Modalities(Part):
    """What each modality contributed."""

    eeg: EegQuality
    face: FaceQuality
    series: dict[str, SeriesQuality] = Field(default_factory=dict)  # by name; empty for a model without further series


class Latency(Part):
    """Where the time went, in milliseconds. Against the stamps of a recording most of it is null."""

    acquire: Number = None  # stamp of the newest EEG sample -> here, when the window closed; null in a replay
    face: Number = None  # stamp of the newest frame -> its numbers here; null in a replay
    window: Number  # end of the window -> window complete; null in a replay, whose stamps are of another day
    model: Number  # the model's own time; null where it was not asked
    publish: Number  # model answered -> message handed to the clients
    total: Number  # end of the window -> message handed to the clients; null in a replay


class Smoothed(Part):
    """A mean of the valid predictions, where the client asked for one."""

    tau_s: Number  # s, time constant of an exponential mean; null for one over windows
    n_windows: int | None = None  # that a mean of log-probabilities is over; null for an exponential one
    probs: dict[str, float]
    label: str  # the most probable one
    valence: Number
    arousal: Number


class Calibration(Part):
    """What the inputs were calibrated against."""

    face: str | None
    eeg: str | None


class EmotionEvent(Part):
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
    prediction_set: tuple[str, ...] | None = None  # classes that are not excluded, the most probable first
    coverage: Number = None  # share of windows whose class is to be in the set; null: the model has no sets
    smoothed: Smoothed | None = None  # beside the values, never in their place; null where none was asked for
    modalities: Modalities
    latency_ms: Latency
    model: ModelRef
    runner: str
    batch: int  # windows in the same call of the model; 0 where it was not asked
    trained_on: str
    calibration: Calibration
    crc: int  # CRC-32 of the window: equal live, replayed and offline
    source: SourceMode
