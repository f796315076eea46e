"""Whether an action unit is there, yes or no, from its intensity."""

from __future__ import annotations

import numpy as np

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.types import FloatArray

PRESENT_FROM = 1.0  # points of intensity, for two frames running
ABSENT_BELOW = 0.7  # points


class Presence:
    """Decides with hysteresis, from the intensity alone, so that the two can never contradict each other."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the frames before."""
        self._on = np.zeros(len(AU_NAMES), dtype=np.bool_)
        self._was_high = np.zeros(len(AU_NAMES), dtype=np.bool_)

    def push(self, intensities: FloatArray) -> FloatArray:
        """Return presence (17,), 0 or 1, with the intensities (17,) of the next frame."""
        high = intensities >= PRESENT_FROM
        self._on = (self._on & (intensities >= ABSENT_BELOW)) | (high & self._was_high)
        self._was_high = high
        return self._on.astype(np.float64)
