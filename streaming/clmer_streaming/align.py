"""Face samples on the slots of a window."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import WindowConfig
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.types import BoolArray, FaceFlag, FaceSample, FloatArray, IndexArray, Reason

_FLAG_REASONS = {
    FaceFlag.MULTIPLE: Reason.FACE_MULTIPLE,
    FaceFlag.SMALL: Reason.FACE_SMALL,
    FaceFlag.TURNED: Reason.FACE_TURNED,
    FaceFlag.BLURRED: Reason.FACE_BLURRED,
    FaceFlag.DARK: Reason.FACE_DARK,
}
_YAW = 4  # index of yaw in a pose


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
        self._samples: deque[tuple[FaceSample, bool]] = deque()  # each with whether it can be trusted
        self.watermark = -np.inf  # s; every sample before it has arrived

    def push(self, sample: FaceSample) -> None:
        """Add one frame. Frames that go back in time are kept out of the order and dropped."""
        if sample.t >= self.watermark:
            self._samples.append((sample, self._trusted(sample)))
            self.watermark = sample.t

    def cut(self, t_end: float) -> FaceCut:
        """Return the window that ends at ``t_end``: slot i is the mean of the valid samples in its interval.

        Where the face was lost or the picture cut within a slot, those before are left out: it may be another person's.
        """
        n_slots, window_s = self._config.face_slots, self._config.window_s
        t_start = t_end - window_s
        inside = [(frame, trusted) for frame, trusted in self._samples if t_start <= frame.t < t_end]
        tracks = itertools.accumulate(FaceFlag.RESET in frame.flags for frame, _ in inside)
        valid = [(frame, track) for (frame, trusted), track in zip(inside, tracks, strict=True) if trusted]
        slot_of = [min(int((frame.t - t_start) / window_s * n_slots), n_slots - 1) for frame, _ in valid]
        last_track = {slot: track for slot, (_, track) in zip(slot_of, valid, strict=True)}
        kept = [(slot, frame) for slot, (frame, track) in zip(slot_of, valid, strict=True) if track == last_track[slot]]
        bounds = np.searchsorted([slot for slot, _ in kept], np.arange(n_slots + 1))  # of the frames that fill slot i
        return FaceCut(
            landmarks=_slot_means([frame.landmarks for _, frame in kept], bounds, (N_LANDMARKS, 3)),
            aus=_slot_means([frame.aus for _, frame in kept], bounds, (len(AU_NAMES), 2)),
            gaze=_slot_means([frame.gaze for _, frame in kept], bounds, (2,)),
            mask=np.diff(bounds) > 0,
            frames=tuple(frame for frame, _ in inside),
            valid=tuple(frame for frame, _ in valid),
        )

    def _trusted(self, frame: FaceSample) -> bool:
        measured = np.isfinite(frame.landmarks).all() and np.isfinite(frame.aus).all() and np.isfinite(frame.gaze).all()
        return bool(measured) and FaceFlag.MISSING not in frame.flags and frame.quality >= self._config.min_face_quality

    def forget_before(self, t: float) -> None:
        """Drop frames that no window ending after ``t`` needs."""
        while self._samples and self._samples[0][0].t < t - self._config.window_s - 1.0:
            self._samples.popleft()


def _slot_means(values: Sequence[FloatArray], bounds: IndexArray, shape: tuple[int, ...]) -> FloatArray:
    """Return (F, *shape): the mean of the values of each slot, 0 where it has none."""
    means = np.zeros((bounds.size - 1, *shape))
    if values:
        stacked = np.array(values)
        for slot, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
            if first < last:
                np.add.reduce(stacked[first:last], axis=0, out=means[slot])
                means[slot] /= last - first
    return means
