"""The buffer of the latest samples of a signal, in arrays with spare length, so that adding moves no others."""

from __future__ import annotations

import numpy as np

from clmer_streaming.types import BoolArray, FloatArray


class SampleBuffer:
    """Keeps samples in the order of time, with a mark for each value.

    Arrays returned are views: they keep their values until their samples are dropped, and must not be written to.

    Args:
        n_channels: Number of channels, C.

    Example::

        buffer = SampleBuffer(2)
        buffer.append(np.array([0.0, 0.1]), np.zeros((2, 2)), False)
        buffer.drop_before(0.05)
        assert buffer.t.tolist() == [0.1]
    """

    def __init__(self, n_channels: int) -> None:
        self._begin, self._end = 0, 0
        self._t, self._x, self._marks = _arrays(n_channels, 0)

    @property
    def t(self) -> FloatArray:
        """Times of the samples, (n,) seconds."""
        return self._t[self._begin : self._end]

    @property
    def x(self) -> FloatArray:
        """Values of the samples, (C, n)."""
        return self._x[:, self._begin : self._end]

    @property
    def marks(self) -> BoolArray:
        """Marks of the values, (C, n)."""
        return self._marks[:, self._begin : self._end]

    def append(self, t: FloatArray, x: FloatArray, marks: BoolArray | bool) -> None:
        """Add samples: ``t`` (n,) seconds, ``x`` (C, n), ``marks`` (C, n) or one for all of them."""
        if self._end + t.size > self._t.size:
            self._grow(t.size)
        new = slice(self._end, self._end + t.size)
        self._t[new], self._x[:, new], self._marks[:, new] = t, x, marks
        self._end = new.stop

    def drop_before(self, t: float) -> None:
        """Drop the samples older than ``t`` seconds; their memory is used again when the arrays are full."""
        self._begin += int(np.searchsorted(self.t, t))

    def _grow(self, n_new: int) -> None:
        n = self.t.size
        arrays = _arrays(self._x.shape[0], 2 * (n + n_new))
        for new, old in zip(arrays, (self.t, self.x, self.marks), strict=True):
            new[..., :n] = old
        self._t, self._x, self._marks = arrays
        self._begin, self._end = 0, n


def _arrays(n_channels: int, n: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    return np.empty(n), np.empty((n_channels, n)), np.empty((n_channels, n), dtype=np.bool_)
