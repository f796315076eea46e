"""A short causal mean that takes the jitter of single frames away."""

from __future__ import annotations

from collections import deque

import numpy as np

from clmer_streaming.face.features import FaceFeatures

N_FRAMES = 3
SPAN_S = 0.15  # s; a camera of 5 frames a second gets no smoothing, which would blur what people do


class CausalMean:
    """The mean of the features of this frame and of the two before it, as far as they are recent."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, FaceFeatures]] = deque(maxlen=N_FRAMES)

    def reset(self) -> None:
        """Forget the frames before, as after a lost face."""
        self._frames.clear()

    def push(self, t: float, features: FaceFeatures) -> FaceFeatures:
        """Return the mean with the frame of time ``t`` in seconds."""
        self._frames.append((t, features))
        recent = [old for stamp, old in self._frames if t - SPAN_S <= stamp <= t]
        return FaceFeatures(*np.mean(recent, axis=0).tolist())
