"""The way of a face stream's samples to the slots of a window."""

from __future__ import annotations

import dataclasses
import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import PreprocessConfig, WindowConfig
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.types import (
    BoolArray,
    FaceFlag,
    FaceSample,
    FloatArray,
    IndexArray,
    Reason,
    StreamInfo,
    StreamStatus,
)

_FLAG_REASONS = {
    FaceFlag.MULTIPLE: Reason.FACE_MULTIPLE,
    FaceFlag.SMALL: Reason.FACE_SMALL,
    FaceFlag.TURNED: Reason.FACE_TURNED,
    FaceFlag.BLURRED: Reason.FACE_BLURRED,
    FaceFlag.DARK: Reason.FACE_DARK,
}
_YAW = 4  # index of yaw in a pose
_ENDS = (
    3 * N_LANDMARKS,
    3 * N_LANDMARKS + 2 * len(AU_NAMES),
)  # of landmarks and action units in a row of both and gaze
_N_NUMBERS = _ENDS[1] + 2


@dataclass(frozen=True, eq=False)
class FaceCut:
    """The face of one window on F slots; a slot without a valid frame is 0 and masked."""

    landmarks: FloatArray  # (F, 68, 3) cm
    aus: FloatArray  # (F, 17, 2)
    gaze: FloatArray  # (F, 2) rad
    mask: BoolArray  # (F,)
    frames: tuple[FaceSample, ...]  # all frames of the window, valid or not
    valid: tuple[FaceSample, ...]  # those with a face that can be trusted

    def reasons(self) -> tuple[Reason, ...]:
        """Return what ails the frames: FACE_MISSING unless half of the slots are filled, and majority flags."""
        if not self.frames:
            return (Reason.VIDEO_STALE,)
        missing = () if 2 * np.sum(self.mask) >= self.mask.size else (Reason.FACE_MISSING,)
        flags = [frame.flags for frame in self.frames if frame.flags]  # few, as a rule
        flagged = [r for flag, r in _FLAG_REASONS.items() if 2 * sum(flag in f for f in flags) > len(self.frames)]
        return (*missing, *flagged)

    def quality(self, t_end: float, window_s: float) -> dict[str, float]:
        """Return the window's face measures; NaN where there was no face."""
        valid = self.valid
        return {
            "present": float(np.mean(self.mask)),
            "quality": float(np.mean([f.quality for f in valid])) if valid else float("nan"),
            "yaw_deg": float(np.degrees(np.mean([f.pose[_YAW] for f in valid]))) if valid else float("nan"),
            "fps": len(self.frames) / window_s,
            "age_s": t_end - valid[-1].t if valid else float("nan"),
        }


@dataclass(frozen=True, slots=True)
class _Frame:
    sample: FaceSample
    numbers: FloatArray | None  # (240,) what is averaged; None where it cannot be trusted
    track: int  # changes where the face was lost or the picture cut


class FaceSlots:
    """Keeps face samples and averages them over the slots of a window.

    Args:
        config: Window length, slots and the least quality of a frame that counts.
    """

    def __init__(self, config: WindowConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self._frames: list[_Frame] = []
        self._times: list[float] = []  # s, of each; never steps back
        self._track = 0
        self.watermark = -np.inf  # s; every sample before it has arrived

    def push(self, sample: FaceSample) -> None:
        """Add one frame. Frames that go back in time are kept out of the order and dropped."""
        if sample.t >= self.watermark:
            self._track += bool(sample.flags) and FaceFlag.RESET in sample.flags
            self._frames.append(_Frame(sample, self._numbers(sample), self._track))
            self._times.append(sample.t)
            self.watermark = sample.t

    def cut(self, t_end: float) -> FaceCut:
        """Return the window that ends at ``t_end``: slot i is the mean of the valid samples in its interval.

        Where the face was lost or the picture cut within a slot, those before are left out: it may be another person's.
        """
        n_slots, window_s = self._config.face_slots, self._config.window_s
        t_start = t_end - window_s
        inside = self._frames[bisect_left(self._times, t_start) : bisect_left(self._times, t_end)]
        valid = [frame for frame in inside if frame.numbers is not None]
        slots = [slot_at(frame.sample.t - t_start, window_s, n_slots) for frame in valid]
        last_track = {slot: frame.track for slot, frame in zip(slots, valid, strict=True)}
        kept = [(slot, frame) for slot, frame in zip(slots, valid, strict=True) if frame.track == last_track[slot]]
        bounds = np.searchsorted([slot for slot, _ in kept], np.arange(n_slots + 1))  # of the frames that fill slot i
        means = slot_means([frame.numbers for _, frame in kept if frame.numbers is not None], bounds, _N_NUMBERS)
        landmarks, aus, gaze = np.split(means, _ENDS, axis=1)
        return FaceCut(
            landmarks=landmarks.reshape(n_slots, N_LANDMARKS, 3),
            aus=aus.reshape(n_slots, len(AU_NAMES), 2),
            gaze=gaze.copy(),
            mask=np.diff(bounds) > 0,
            frames=tuple(frame.sample for frame in inside),
            valid=tuple(frame.sample for frame in valid),
        )

    def _numbers(self, frame: FaceSample) -> FloatArray | None:
        """Return landmarks, action units and gaze in one row; None where they cannot be trusted."""
        if FaceFlag.MISSING in frame.flags or not frame.quality >= self._config.min_face_quality:
            return None
        numbers = np.concatenate((frame.landmarks, frame.aus, frame.gaze), axis=None)
        return numbers if np.isfinite(numbers).all() else None

    def forget_before(self, t: float) -> None:
        """Drop frames that no window ending after ``t`` needs."""
        n_old = bisect_left(self._times, t - self._config.window_s - 1.0)
        del self._frames[:n_old], self._times[:n_old]


def slot_at(offset_s: float, window_s: float, n_slots: int) -> int:
    """Return the slot of a moment, which lies so many seconds behind the beginning of its window."""
    return min(int(offset_s / window_s * n_slots), n_slots - 1)


def slot_means(values: Sequence[FloatArray], bounds: IndexArray, n_numbers: int) -> FloatArray:
    """Return (F, n_numbers): the mean of the values of each slot, 0 where it has none.

    Args:
        values: Rows (n_numbers,), slot after slot.
        bounds: (F + 1,) of the rows that fill each slot.
        n_numbers: Length of a row.
    """
    means = np.zeros((bounds.size - 1, n_numbers))
    if values:
        stacked = np.array(values)
        for slot, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
            if first < last:
                np.add.reduce(stacked[first:last], axis=0, out=means[slot])
                means[slot] /= last - first
    return means


class FacePath:
    """Keeps the faces of the stream that was announced last, if the model can use them.

    Args:
        config: The settings of the artifact.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._extractor = config.extractor
        self.slots = FaceSlots(config.window)
        self.info: StreamInfo | None = None  # None before any was announced
        self.n_samples = 0

    @property
    def fits(self) -> bool:
        """Whether there is a stream, made by the extractor that the model wants."""
        return self.info is not None and self.info.extractor == self._extractor

    def stamp(self, sample: FaceSample) -> float:
        """Return the time of a sample in seconds, the stream's delay taken off."""
        return sample.t - (self.info.delay_s if self.info is not None else 0.0)

    def push(self, sample: FaceSample) -> None:
        """Keep a sample of the stream."""
        self.n_samples += 1
        t = self.stamp(sample)
        self.slots.push(sample if t == sample.t else dataclasses.replace(sample, t=t))

    def reasons(self, cut: FaceCut) -> tuple[Reason, ...]:
        """Return what ails the face of a window."""
        if self.info is None:
            return (Reason.FACE_MISSING,)
        return cut.reasons() if self.fits else (Reason.FACE_EXTRACTOR_MISMATCH,)

    def status(self, info: StreamInfo, liveness: Liveness) -> StreamStatus:
        """Return what is known now of the announced stream."""
        mismatch = f"made by extractor {info.extractor or 'unknown'!r}, the model wants {self._extractor!r}: not used"
        return StreamStatus(
            source=info.source,
            kind="face",
            name=info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (info.note, "" if self.fits else mismatch))),
            nominal_rate_hz=info.sfreq,
            n_samples=self.n_samples,
            delay_s=info.delay_s,
        )
