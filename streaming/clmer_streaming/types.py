"""The items that sources deliver, and the window that a model sees.

In this order: the vocabularies (``StreamKind``, ``Reason``, ``FaceFlag``), the items (``StreamInfo``, ``Chunk``,
``FaceSample``, ``Marker``, ``Tick``, ``Gap``, ``RestBaseline``), ``Window`` with its ``ChannelQuality``,
``StreamStatus``, and the interfaces ``Stage`` and ``Source``.

Conventions: arrays are ``(channels, time)``; times are float64 seconds of the LSL clock (``pylsl.local_clock()``);
behind the channel stage EEG is in microvolts; invented values are marked in ``filled``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from typing import Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
"""An array of float64."""

IndexArray: TypeAlias = npt.NDArray[np.intp]
"""An array of indices."""

BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""An array of bool."""

StreamKind: TypeAlias = Literal["eeg", "face", "markers", "physio", "contact", "other"]
"""What a stream carries: ``contact`` is the headset's own channel quality; ``other`` is recorded, never used."""

INPUT_KINDS: frozenset[StreamKind] = frozenset({"eeg", "face", "physio"})
"""Kinds of streams that windows are made of."""

CLOCK_KINDS: frozenset[StreamKind] = frozenset({"eeg", "face"})
"""Kinds of streams whose stamps set the time of a session; the others may be on a clock of their own."""

FaceCalibration: TypeAlias = Literal["none", "prior", "running", "explicit"]
"""Which neutral face the action units were measured against."""

FACE_CALIBRATIONS: tuple[FaceCalibration, ...] = ("none", "prior", "running", "explicit")
"""All face calibration states; a stream carries the index into this tuple."""


class Reason(StrEnum):
    """Why a value is absent, or what weakens it. Members are only ever added: they are on the wire and in files."""

    WARMING_UP = "warming_up"
    GAP = "gap"
    EEG_MISSING = "eeg_missing"
    EEG_STALE = "eeg_stale"
    EEG_CHANNELS_BAD = "eeg_channels_bad"
    EEG_FLAT = "eeg_flat"
    EEG_NOISY = "eeg_noisy"
    EEG_MUSCLE = "eeg_muscle"
    EEG_CLOCK_JUMP = "eeg_clock_jump"
    FACE_MISSING = "face_missing"
    FACE_MULTIPLE = "face_multiple"
    FACE_SMALL = "face_small"
    FACE_TURNED = "face_turned"
    FACE_BLURRED = "face_blurred"
    FACE_DARK = "face_dark"
    VIDEO_STALE = "video_stale"
    FACE_EXTRACTOR_MISMATCH = "face_extractor_mismatch"
    UNCALIBRATED = "uncalibrated"
    MODALITY_FALLBACK = "modality_fallback"
    LOW_CONFIDENCE = "low_confidence"
    OVERLOAD_SKIPPED = "overload_skipped"
    MODEL_ERROR = "model_error"


class FaceFlag(IntFlag):
    """Findings about the face of one frame. No bit set means a good face."""

    NONE = 0
    MISSING = 1
    RESET = 2
    MULTIPLE = 4
    SMALL = 8
    TURNED = 16
    BLURRED = 32
    DARK = 64


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The announcement of a stream, which precedes every other item of it.

    Announcing a source again ends its segment: channels, rate or identity may have changed.

    Example::

        StreamInfo("eeg", "eeg", "EmotivDataStream-EEG", ("AF3", "F7", "F3"), 128.0, unit="microvolts")
    """

    source: str  # name by which items refer to this stream within a session
    kind: StreamKind
    name: str  # the stream's own name, e.g. "EmotivDataStream-EEG"
    ch_names: tuple[str, ...]  # as the stream has them, or as a map renamed them; "" where unnamed
    sfreq: float  # nominal rate in Hz; 0 for irregular streams
    unit: str = ""  # that of most channels, as the stream declares it; "" where it declares none
    source_id: str = ""
    hostname: str = ""
    manufacturer: str = ""
    extractor: str = ""  # face streams: which extractor made the numbers; "" if unknown
    delay_s: float = 0.0  # known device delay in seconds, taken off every stamp
    type: str = ""  # content as the stream declares it, e.g. "EEG"
    units: tuple[str, ...] = ()  # of each channel, where they differ; empty where all have ``unit``
    n_labels: int | None = None  # channels that the header describes, where they are not as many as the stream has
    channel_format: str = "double64"  # of the stream itself; what a recorder keeps the samples in
    xml: str = field(default="", repr=False, compare=False)  # the whole header as the stream has it; "" without one
    note: str = ""  # what is odd about the stream, in a sentence for people; "" where nothing is


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive samples of one stream.

    A source fills ``t`` with the stamps as received and ``x`` with the stream's own channels. Behind the
    timeline ``t`` is counted time, and ``filled`` marks the values that were invented (bridged or held).

    Example::

        Chunk("eeg", t=100.0 + np.arange(16) / 128, x=np.zeros((14, 16)))
    """

    source: str
    t: FloatArray  # (n,) seconds
    x: FloatArray  # (C, n); int64 where the stream has that format, which float64 cannot hold bit for bit
    filled: BoolArray | None = None  # (C, n); None where every value was measured


@dataclass(frozen=True, slots=True, eq=False)
class FaceSample:
    """The face of one video frame. Every number is NaN where there was no face.

    Numbers are rounded to float32 where they are made, so that live and recorded ones are the same bits. Landmarks are
    in the order of iBUG 300-W, action units (FACS) in that of ``face.layout.AU_NAMES``.
    """

    t: float  # seconds
    landmarks: FloatArray  # (68, 3) cm, pose-normalised; x to the subject's left, y up, z to the camera
    aus: FloatArray  # (17, 2) intensity 0-5 and presence 0/1
    gaze: FloatArray  # (2,) rad; horizontal (to the subject's left), vertical (up)
    pose: FloatArray  # (6,) x, y, z in cm in the camera's frame, then pitch, yaw, roll in rad
    quality: float  # 0 (nothing to trust, no face) to 1
    flags: FaceFlag = FaceFlag.NONE
    calibration: FaceCalibration = "none"
    source: str = "face"


@dataclass(frozen=True, slots=True)
class Marker:
    """An event of the experiment; the Preprocessor ignores it."""

    t: float  # seconds
    id: str
    label: str
    value: float | None = None
    source: str = "markers"
    fields: tuple[str, ...] = ()  # every channel of the sample; empty where the label is all of it
    uncertainty_s: float | None = None  # s, of t, where another clock stamped it; None where unknown


@dataclass(frozen=True, slots=True)
class Tick:
    """A report that a source had nothing new at time ``t``."""

    t: float  # seconds
    source: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time without samples of a source; it ends the segment before it."""

    t0: float  # seconds, the last sample before the gap
    t1: float  # seconds, the first sample after it
    source: str
    reason: Literal["lost_samples", "clock_jump", "invalid_values", "stream_restarted", "replay_loop"]


@dataclass(frozen=True, slots=True)
class RestBaseline:
    """A participant's EEG at rest, by which later windows are normalized; see ``pipeline.baseline``."""

    t: float  # seconds, when it was measured or loaded
    ch_names: tuple[str, ...]  # of the model, C of them
    baseline_uv: tuple[float, ...]  # (C,) uV, of the signal in the model's band and reference
    scale_uv: tuple[float, ...]  # (C,) uV, its standard deviation; above 0
    signal: str  # hash of the signal settings that it was measured with
    seconds: float  # of clean signal that it rests on
    source: str = "rest"


Item: TypeAlias = StreamInfo | Chunk | FaceSample | Marker | Tick | Gap | RestBaseline
"""What a source delivers, a recorder keeps and a Preprocessor takes."""


ChannelFault: TypeAlias = Literal[
    "missing", "flat", "railed", "noisy", "filled", "contact", "line", "muscle", "uncorrelated"
]
"""A fault of an EEG channel; ``pipeline.quality.MASKING`` lists those that mask it."""


@dataclass(frozen=True, slots=True)
class ChannelQuality:
    """The quality of one EEG channel in one window; a measure is NaN where it was not taken."""

    name: str
    good: bool  # False: masked
    faults: tuple[ChannelFault, ...]
    sd_uv: float  # uV, in the model's band
    filled_share: float  # 0-1, of invented values
    stuck_share: float  # 0-1, of raw values that repeat the one before
    line_share: float  # 0-1, of the mains in the unfiltered signal
    muscle_share: float  # 0-1, of 20-45 Hz in the power of 4-45 Hz
    correlation: float  # 0-1, largest |r| with another good channel
    contact: float  # 0-4, as the headset itself reports it


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One model input on the absolute grid ``t_end = index * hop``.

    ``series`` always holds every modality of the configuration, of fixed shape; what could not be measured
    is 0 there and False in ``mask``. Further series are (C, T) with a mask (C,), like EEG, or (F, C) with a mask (F,).

    Example::

        if window.mask["eeg"].any():
            good = window.series["eeg"][window.mask["eeg"]]  # (n_good, T) uV
    """

    index: int
    t_start: float  # seconds
    t_end: float  # seconds
    series: Mapping[str, FloatArray]  # eeg (C, T) uV; landmarks (F, 68, 3) cm; aus (F, 17, 2); gaze (F, 2) rad
    mask: Mapping[str, BoolArray]  # eeg (C,); landmarks, aus, gaze (F,)
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by series; see pipeline.window
    reasons: tuple[Reason, ...] = ()
    calibration: Mapping[str, str] = field(default_factory=dict)  # {"face": ..., "eeg": ...}
    channels: tuple[ChannelQuality, ...] = ()  # of EEG, in the model's order; empty where there is no EEG to judge
    crc: int = 0  # CRC-32 of index, series and masks


Items: TypeAlias = list[Item]
"""Several items, in order."""

StreamState: TypeAlias = Literal["connecting", "live", "stalled", "lost"]
"""Whether samples of a stream arrive: none yet, arriving, silent, silent for long."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The state of one stream at one moment of stream time, and its counts."""

    source: str
    kind: StreamKind
    name: str
    state: StreamState
    since: float  # seconds; when the state was entered
    reason: str = ""  # a sentence for people; "" when nothing is wrong
    nominal_rate_hz: float = 0.0
    rate_hz: float = 0.0  # effective rate of the current segment; 0 before it is known
    drift_ppm: float = 0.0  # (rate_hz / the rate counted by - 1) * 1e6; that one is the nominal, if it holds
    n_samples: int = 0  # received since the stream was announced
    n_gaps: int = 0
    n_bridged: int = 0  # samples invented to bridge short losses
    n_lost: int = 0  # samples that a packet counter proves to be missing
    n_lost_estimated: int = 0  # samples that seem to be missing, by the stamps alone
    n_dropped: int = 0  # samples or frames that were received and not used, whatever the reason
    chunk_s: float = 0.0  # longest of the last chunks in seconds; what a sample may wait at the sender
    delay_s: float | None = None  # seconds that are taken off its stamps; None before it is announced


Out_co = TypeVar("Out_co", covariant=True)


class Stage(Protocol[Out_co]):
    """A step of the pipeline whose output depends on the samples alone, not on how they were cut into chunks."""

    def push(self, item: Item) -> Sequence[Out_co]:
        """Process one item and return what became ready by it, in order."""

    def reset(self) -> None:
        """Forget everything, as if newly made."""


class Source(Protocol):
    """Delivers items in a thread of its own. Only sources read clocks."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Call ``put`` with each item in order; return when the stream has ended or ``stop`` is set.

        Args:
            put: Takes an item; it may block (back-pressure).
            stop: Ends the run. A source waits on it rather than sleeping, so that a stop takes effect at once.
        """
