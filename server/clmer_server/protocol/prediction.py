"""The answer for one window, and what it says of the inputs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from clmer_server.protocol.parts import ModelRef, Number, Part, SourceMode
from clmer_streaming.types import ChannelFault

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
    """An exponential mean of the valid predictions so far, where the client asked for one."""

    tau_s: float  # s, its time constant
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
