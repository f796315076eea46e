"""The samples of a recorded stream, which stay in the file and are decoded when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import BoolArray, FloatArray, IndexArray
from clmer_streaming.xdf.scan import PiecewiseFile, SampleLayout, decode_samples, values_of


class RecordedSamples:
    """Values (C, n) of a stream of a file, of which one block is in memory at a time.

    It is indexed as an array is: a stretch ``x[:, first:last]`` and a channel ``x[row]`` are decoded alone, anything
    else decodes all. ``numpy.asarray`` does, too.

    Example::

        stream = read_xdf("session.xdf").streams[0]
        first_second = stream.x[:, :128]  # (C, 128) float64

    Args:
        path: Path of the file.
        layout: Layout of the samples.
        places: (b, 2) byte at which the content of each block begins, and how many bytes it has.
        ends: (b,) index of the sample behind each block, as it is in the file.
        kept: (m,) which samples of the file are kept; n of them.
    """

    def __init__(self, path: Path, layout: SampleLayout, places: IndexArray, ends: IndexArray, kept: BoolArray) -> None:
        self._path = path
        self._layout = layout
        self._places = places
        self._bounds: IndexArray = np.concatenate([[0], ends])  # of the blocks, as they are in the file
        self._kept = kept
        self._starts: IndexArray = np.concatenate([[0], np.cumsum(kept)])[self._bounds]  # among the samples kept
        self._file: PiecewiseFile | None = None
        self._block = -1  # number of the block in memory
        self._values: FloatArray = np.empty((layout.n_channels, 0))
        self.dtype: np.dtype[Any] = np.dtype(np.int64 if layout.channel_format == "int64" else np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of channels and of samples, (C, n); no channels for a stream of strings."""
        return 0 if self._layout.channel_format == "string" else self._layout.n_channels, int(self._starts[-1])

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1]

    @property
    def T(self) -> FloatArray:  # noqa: N802 - as an array has it
        """All values, (n, C)."""
        return np.asarray(self).T

    def tolist(self) -> list[list[float]]:
        """Return all values as Python numbers, C lists of n."""
        values: list[list[float]] = np.asarray(self).tolist()
        return values

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> FloatArray:
        """Return all values, (C, n)."""
        values = self.read(0, self.shape[1])
        return values if dtype is None else values.astype(dtype)

    def __getitem__(self, key: Any) -> FloatArray:
        """Return what an array of all values would."""
        if isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and isinstance(key[1], slice):
            first, last, step = key[1].indices(self.shape[1])
            if step == 1:
                return self.read(first, max(first, last))
        if isinstance(key, int | np.integer) and self.shape[0]:
            rows = [self._decoded(block)[key] for block in range(len(self._places))]
            row: FloatArray = np.concatenate(rows) if rows else np.empty(0)
            return row
        values: FloatArray = np.asarray(self)[key]
        return values

    def read(self, first: int, last: int) -> FloatArray:
        """Return the values (C, last - first) of samples ``first`` to ``last``."""
        n_channels = self.shape[0]
        if not n_channels or last <= first:
            return np.empty((n_channels, max(0, last - first)), dtype=self.dtype)
        begin = int(np.searchsorted(self._starts, first, side="right")) - 1
        end = int(np.searchsorted(self._starts, last, side="left"))
        parts = []
        for block in range(begin, end):
            start = int(self._starts[block])
            parts.append(self._decoded(block)[:, max(0, first - start) : last - start])
        values: FloatArray = parts[0].copy() if len(parts) == 1 else np.concatenate(parts, axis=1)
        return values

    def _decoded(self, block: int) -> FloatArray:
        """Return the samples of a block that are kept, (C, m)."""
        if block != self._block:
            self._file = self._file or PiecewiseFile(self._path)
            at, n_bytes = (int(value) for value in self._places[block])
            rows = decode_samples(self._file.view(at, n_bytes)[:n_bytes], self._layout, 0.0).x
            kept = self._kept[self._bounds[block] : self._bounds[block + 1]]
            self._values, self._block = values_of(rows[: kept.size][kept]), block
        return self._values
