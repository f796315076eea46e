"""The track of samples of any rate that are averaged over the F slots of a window: the face, and a user's own series.

``SlotBuffer`` keeps the samples and cuts windows from them, ``SlottedTrack`` feeds it with the samples of one stream.
The functions before them turn a face into a row of numbers and back, and judge the face of a window by its frames.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from clmer_streaming.clock import FAR_S
from clmer_streaming.config import PreprocessConfig, SlotSeriesConfig, WindowConfig
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.pipeline.channels import resolve_series
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.track import Track
from clmer_streaming.types import (
    BoolArray,
    Chunk,
    FaceFlag,
    FaceSample,
    FloatArray,
    Gap,
    IndexArray,
    Reason,
    StreamInfo,
    StreamStatus,
)


@dataclass(frozen=True, slots=True)
class SlotSample:
    """One sample of a stream that is averaged over slots."""

    t: float  # s
    values: FloatArray | None  # (C,); None where they were not all measured, or cannot be trusted
    run: int = 0  # a slot averages one run: another begins where the face was lost or the picture cut
    face: FaceSample | None = None  # the frame, of a face


@dataclass(frozen=True, eq=False)
class SlotCut:
    """One series of one window on F slots; a slot without a measured sample is 0 and masked."""

    x: FloatArray  # (F, C)
    mask: BoolArray  # (F,)
    t_last: float  # s, the newest measured sample of the window; NaN without
    samples: tuple[SlotSample, ...] = ()  # all of the window, measured or not
    reasons: tuple[Reason, ...] = ()  # what weakens a face

    @property
    def faces(self) -> list[FaceSample]:
        """The frames with a face that can be trusted."""
        return [sample.face for sample in self.samples if sample.face is not None and sample.values is not None]


def empty_cut(n_slots: int, n_values: int, *reasons: Reason) -> SlotCut:
    """Return the cut of a series that no stream gives."""
    return SlotCut(np.zeros((n_slots, n_values)), np.zeros(n_slots, dtype=np.bool_), np.nan, (), reasons)


N_FACE_VALUES = 3 * N_LANDMARKS + 2 * len(AU_NAMES) + 2
"""Numbers of a face that are averaged: landmarks, action units and gaze in one row."""

_FACE_PARTS = (3 * N_LANDMARKS, 3 * N_LANDMARKS + 2 * len(AU_NAMES))  # where action units and gaze begin in the row
_YAW = 4  # index of yaw in a pose
_FLAG_REASONS = {
    FaceFlag.MULTIPLE: Reason.FACE_MULTIPLE,
    FaceFlag.SMALL: Reason.FACE_SMALL,
    FaceFlag.TURNED: Reason.FACE_TURNED,
    FaceFlag.BLURRED: Reason.FACE_BLURRED,
    FaceFlag.DARK: Reason.FACE_DARK,
}


def face_values(sample: FaceSample, min_quality: float) -> FloatArray | None:
    """Return landmarks, action units and gaze in one row (240,); None where they cannot be trusted."""
    if FaceFlag.MISSING in sample.flags or not sample.quality >= min_quality:
        return None
    values = np.concatenate((sample.landmarks, sample.aus, sample.gaze), axis=None)
    return values if np.isfinite(values).all() else None


def split_face(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return landmarks (F, 68, 3) in cm, action units (F, 17, 2) and gaze (F, 2) in rad of rows (F, 240)."""
    landmarks, aus, gaze = np.split(x, _FACE_PARTS, axis=1)
    return landmarks.reshape(-1, N_LANDMARKS, 3), aus.reshape(-1, len(AU_NAMES), 2), gaze.copy()


def face_reasons(cut: SlotCut) -> tuple[Reason, ...]:
    """Return what weakens a face: FACE_MISSING unless half of the slots are filled, and flags of most frames."""
    frames = [sample.face for sample in cut.samples if sample.face is not None]
    if not frames:
        return (Reason.VIDEO_STALE,)
    missing = () if 2 * np.sum(cut.mask) >= cut.mask.size else (Reason.FACE_MISSING,)
    flags = [frame.flags for frame in frames if frame.flags]  # few, as a rule
    flagged = [reason for flag, reason in _FLAG_REASONS.items() if 2 * sum(flag in f for f in flags) > len(frames)]
    return (*missing, *flagged)


def face_quality(cut: SlotCut, t_end: float, window_s: float) -> dict[str, float]:
    """Return the measures of a window's face; NaN where there was no face."""
    faces = cut.faces
    return {
        "present": float(np.mean(cut.mask)),
        "quality": float(np.mean([face.quality for face in faces])) if faces else float("nan"),
        "yaw_deg": float(np.degrees(np.mean([face.pose[_YAW] for face in faces]))) if faces else float("nan"),
        "fps": len(cut.samples) / window_s,
        "age_s": t_end - cut.t_last,
    }


_CLOCK_SET_S = 10.0  # s; stamps that fall back further are a clock that was set, not samples out of order
_AHEAD_S = 1.0  # s ahead of the known time; such a stamp must be confirmed by the next one
_LARGEST = float(np.finfo(np.float32).max)  # what a model can take; means of such numbers stay finite


class SlotBuffer:
    """Keeps samples of any rate and averages them over the slots of a window.

    Args:
        n_values: Numbers of a sample, C.
        config: Window length and slots.

    Attributes:
        watermark: Time in seconds before which every sample has arrived; -inf before one.
        t_first: Time in seconds of the sample that came first; NaN before it.
        last_t: Newest stamp in seconds that can be believed; NaN before one.
        n_dropped: Samples out of order, or with a stamp that means nothing.
    """

    def __init__(self, n_values: int, config: WindowConfig) -> None:
        self._n_values = n_values
        self._config = config
        self._samples: list[SlotSample] = []
        self._held: SlotSample | None = None  # the newest sample, while it must be confirmed
        self.watermark = -np.inf
        self.t_first = np.nan
        self.last_t = np.nan
        self.n_dropped = 0

    def push(self, t: FloatArray, x: FloatArray, now: float = np.nan) -> None:
        """Add samples of a stream that may be on a clock of its own.

        Samples that step back in time are dropped. One that is stamped more than a second ahead of the known time is
        held until the next one confirms it, by a stamp that is not before it: a wild stamp costs its sample alone.

        Args:
            t: (n,) stamps in seconds.
            x: (C, n) values.
            now: Time in seconds that other streams have reached; NaN where there are none.
        """
        for stamp, values in zip(t.tolist(), x.T.copy(), strict=True):
            if not math.isfinite(stamp) or self.watermark - _CLOCK_SET_S <= stamp < self.watermark:
                self.n_dropped += 1
                continue
            self._end_hold(stamp, now)
            measured = bool((np.abs(values) <= _LARGEST).all())  # false for NaN, too
            sample = SlotSample(stamp, values if measured else None)
            if stamp > now + _AHEAD_S:
                self._held = sample
                self.last_t = self.last_t if stamp > now + FAR_S else stamp
            else:
                self.add(sample, now)

    def _end_hold(self, stamp: float, now: float) -> None:
        """Add the sample that is held, or drop it, by the stamp of the next one."""
        held, self._held = self._held, None
        if held is not None and held.t <= stamp:
            self.add(held, now)
        elif held is not None:
            self.n_dropped += 1

    def add(self, sample: SlotSample, now: float = np.nan) -> None:
        """Add a sample whose stamp is believed."""
        if sample.t < self.watermark:  # the clock was set back: samples of times to come are void
            self._samples = [s for s in self._samples if s.t <= sample.t or s.t <= now + _AHEAD_S]
        if math.isnan(self.t_first):
            self.t_first = sample.t
        self._samples.append(sample)
        self.watermark = self.last_t = sample.t

    def cut(self, t_end: float) -> SlotCut:
        """Return the window that ends at ``t_end`` seconds: each slot is the mean of the samples in its interval.

        Where another run begins within a slot, the samples before it are left out: it may be another person's face.
        """
        n_slots, window_s = self._config.face_slots, self._config.window_s
        t_start = t_end - window_s
        held = () if self._held is None or not self._held.t <= self.last_t else (self._held,)
        inside = [sample for sample in (*self._samples, *held) if t_start <= sample.t < t_end]
        placed = [
            (min(int((sample.t - t_start) / window_s * n_slots), n_slots - 1), sample.run, sample.values)
            for sample in inside
            if sample.values is not None
        ]
        last_run = {slot: run for slot, run, _ in placed}
        kept = sorted([(slot, values) for slot, run, values in placed if run == last_run[slot]], key=itemgetter(0))
        t_last = max([sample.t for sample in inside if sample.values is not None], default=math.nan)
        bounds = np.searchsorted([slot for slot, _ in kept], np.arange(n_slots + 1))  # of the samples in slot i
        x = _slot_means([values for _, values in kept], bounds, self._n_values)
        return SlotCut(x, np.diff(bounds) > 0, t_last, tuple(inside))

    @property
    def n_kept(self) -> int:
        """Number of samples that are kept."""
        return len(self._samples) + (self._held is not None)

    def trim(self, t_end: float, now: float) -> None:
        """Drop samples that no window ending after ``t_end`` needs, and those too far ahead of ``now`` (seconds)."""
        earliest, latest = t_end - self._config.window_s - 1.0, now + FAR_S
        in_time = [sample for sample in self._samples if sample.t <= latest]
        self.n_dropped += len(self._samples) - len(in_time)
        self._samples = [sample for sample in in_time if sample.t >= earliest]


def _slot_means(values: Sequence[FloatArray], bounds: IndexArray, n_values: int) -> FloatArray:
    """Return (F, n_values): the mean of the rows of each slot, slot after slot; 0 where it has none."""
    means = np.zeros((bounds.size - 1, n_values))
    if values:
        stacked = np.array(values)
        for slot, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
            if first < last:
                np.add.reduce(stacked[first:last], axis=0, out=means[slot])
                means[slot] /= last - first
    return means


class SlottedTrack(Track[SlotCut]):
    """Keeps the samples of one stream and averages them over the slots of a window.

    Args:
        info: The stream: of faces, or of the numbers of a further series.
        series: The further series that it gives; None for a face.
        config: The settings of the artifact.
        liveness: The state of the stream.

    Raises:
        StreamError: A channel of the series is missing.

    Example::

        track = SlottedTrack(info, None, config, Liveness())
        track.push(FaceSample(t, landmarks, aus, gaze, pose, quality), now=t)
        cut = track.cut(102.5)  # cut.x is (F, 240), cut.mask (F,)
    """

    def __init__(
        self, info: StreamInfo, series: SlotSeriesConfig | None, config: PreprocessConfig, liveness: Liveness
    ) -> None:
        super().__init__("face" if series is None else series.name, info, liveness)
        self._is_face = series is None
        self._extractor = config.extractor
        self._min_quality = config.window.min_face_quality
        self._run = 0
        self._n_gaps = 0
        n_values = N_FACE_VALUES
        if series is not None:
            channels = resolve_series(info, series)
            self._picks = np.array(channels.picks, dtype=np.intp)
            self._scales = np.where(np.isnan(channels.scales), 1.0, channels.scales)[:, None]
            n_values = len(channels.picks)
        self._buffer = SlotBuffer(n_values, config.window)

    def resume(self, info: StreamInfo, liveness: Liveness) -> bool:
        """Continue the stream after it was announced again, if its samples mean the same; return whether they do."""
        if not (self._is_face or info == self.info):
            return False
        self.info, self.liveness = info, liveness
        return True

    @property
    def _mismatch(self) -> str:
        """Why the faces are not used, in a sentence for people; empty where they are."""
        if not self._is_face or self.info.extractor == self._extractor:
            return ""
        return f"made by extractor {self.info.extractor or 'unknown'!r}, the model wants {self._extractor!r}: not used"

    @property
    def t_first(self) -> float:
        """Time in seconds of the first sample; NaN before it."""
        return self._buffer.t_first

    @property
    def last_t(self) -> float:
        """Newest stamp in seconds that can be believed; NaN before one."""
        return self._buffer.last_t

    @property
    def watermark(self) -> float:
        """Time in seconds before which every sample has arrived; -inf before one."""
        return self._buffer.watermark

    @property
    def n_kept(self) -> int:
        """Number of samples that are kept."""
        return self._buffer.n_kept

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the faces are not used, in a sentence for people."""
        return (self._mismatch,)

    def push(self, item: Chunk | FaceSample | Gap, now: float, quiet_until: float = -np.inf) -> bool:
        """Add a face, or a raw Chunk (C_stream, n); nothing waits."""
        if self._mismatch:
            return False
        if isinstance(item, FaceSample):
            self._push_face(item)
        elif isinstance(item, Chunk):
            self._push_chunk(item, now if math.isfinite(now) else math.nan)
        elif not self._is_face:
            self._n_gaps += 1
        return True

    def _push_face(self, sample: FaceSample) -> None:
        t = sample.t - self.info.delay_s
        self.n_samples += 1
        if t >= self.watermark:  # one that steps back in time is dropped
            self._run += FaceFlag.RESET in sample.flags
            self._buffer.add(SlotSample(t, face_values(sample, self._min_quality), self._run, sample))
        self.liveness.observe(t, t, 0.0)

    def _push_chunk(self, chunk: Chunk, now: float) -> None:
        before = self.last_t
        self.n_samples += chunk.t.size
        self._buffer.push(chunk.t - self.info.delay_s, chunk.x[self._picks] * self._scales, now)
        if math.isfinite(self.last_t) and self.last_t != before:
            span_s = float(chunk.t[-1] - chunk.t[0])
            chunk_s = span_s if 0 <= span_s <= _CLOCK_SET_S else 0.0  # stamps may make no sense
            self.liveness.observe(self.last_t - chunk_s, self.last_t, chunk_s)

    def cut(self, t_end: float) -> SlotCut:
        """Return the window that ends at ``t_end`` seconds."""
        cut = self._buffer.cut(t_end)
        if not self._is_face:
            return cut
        mismatch = (Reason.FACE_EXTRACTOR_MISMATCH,) if self._mismatch else ()
        return dataclasses.replace(cut, reasons=mismatch or face_reasons(cut))

    def trim(self, t_end: float, now: float) -> None:
        """Drop samples that no window ending after ``t_end`` needs, and those too far ahead of ``now`` (seconds)."""
        self._buffer.trim(t_end, now)

    def status(self) -> StreamStatus:
        """Return what is known now of the stream."""
        return dataclasses.replace(super().status(), n_gaps=self._n_gaps, n_dropped=self._buffer.n_dropped)
