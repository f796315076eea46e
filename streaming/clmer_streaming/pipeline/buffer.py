"""The latest samples of a signal, in arrays with room behind: adding some does not move the others."""

from __future__ import annotations

import numpy as np

from clmer_streaming.types import BoolArray, FloatArray


class SampleBuffer:
    """Samples in the order of time, with a mark for each value.

    What it returns are views: they hold their values until that time is forgotten, and are not to be written to.

    Args:
        n_channels: C.
    """

    def __init__(self, n_channels: int) -> None:
        self._begin, self._end = 0, 0
        self._t, self._x, self._marks = _room(n_channels, 0)

    @property
    def t(self) -> FloatArray:
        """(n,) seconds."""
        return self._t[self._begin : self._end]

    @property
    def x(self) -> FloatArray:
        """(C, n)."""
        return self._x[:, self._begin : self._end]

    @property
    def marks(self) -> BoolArray:
        """(C, n)."""
        return self._marks[:, self._begin : self._end]

    def append(self, t: FloatArray, x: FloatArray, marks: BoolArray | bool) -> None:
        """Add samples: t (n,) seconds, x (C, n), marks (C, n) or one for all of them."""
        if self._end + t.size > self._t.size:
            self._make_room(t.size)
        new = slice(self._end, self._end + t.size)
        self._t[new], self._x[:, new], self._marks[:, new] = t, x, marks
        self._end = new.stop

    def forget_before(self, t: float) -> None:
        """Drop the samples older than ``t`` seconds; their room is used again when more is needed."""
        self._begin += int(np.searchsorted(self.t, t))

    def _make_room(self, n_new: int) -> None:
        n = self.t.size
        arrays = _room(self._x.shape[0], 2 * (n + n_new))
        for new, old in zip(arrays, (self.t, self.x, self.marks), strict=True):
            new[..., :n] = old
        self._t, self._x, self._marks = arrays
        self._begin, self._end = 0, n


def _room(n_channels: int, n: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    return np.empty(n), np.empty((n_channels, n)), np.empty((n_channels, n), dtype=np.bool_)
