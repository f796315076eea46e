"""The samples of a recorded stream, which stay in the file and are decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clmer_streaming.types import BoolArray, FloatArray, IndexArray
from clmer_streaming.xdf.chunks import PiecewiseFile
from clmer_streaming.xdf.scan import SampleLayout, decode_samples, values_of


def kept_ends(ends: IndexArray, kept: BoolArray) -> IndexArray:
    """Return the index behind each block among the samples that are kept.

    Args:
        ends: (b,) index of the sample behind each block among all; no block is empty.
        kept: (m,) which are kept.
    """
    if not ends.size:
        return ends
    counts = np.add.reduceat(kept, np.concatenate([[0], ends[:-1]]), dtype=np.intp)
    return np.cumsum(counts, dtype=np.intp)


class RecordedSamples:
    """Values (C, n) of a stream of a file, of which one block is in memory at a time.

    Example::

        stream = read_xdf("session.xdf").streams[0]
        first_second = stream.samples.read(0, 128)  # (C, 128) float64

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
        self._starts: IndexArray = np.concatenate([[0], kept_ends(ends, kept)])  # of the blocks, among those kept
        self._file: PiecewiseFile | None = None
        self._block = -1  # number of the block in memory
        self._values: FloatArray = np.empty((layout.n_channels, 0))
        self.dtype: np.dtype[Any] = np.dtype(np.int64 if layout.channel_format == "int64" else np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of channels and of samples, (C, n); no channels for a stream of strings."""
        return 0 if self._layout.channel_format == "string" else self._layout.n_channels, int(self._starts[-1])

    def read(self, first: int, last: int) -> FloatArray:
        """Return the values (C, last - first) of samples ``first`` to ``last``; int64 for a stream of that format.

        Raises:
            RecordingError: The file cannot be read any more.
        """
        n_channels = self.shape[0]
        if not n_channels or last <= first:
            return np.empty((n_channels, max(0, last - first)), dtype=self.dtype)
        begin = int(np.searchsorted(self._starts, first, side="right")) - 1
        end = int(np.searchsorted(self._starts, last, side="left"))
        values: FloatArray = np.empty((n_channels, last - first), dtype=self.dtype)
        for block in range(begin, end):
            start = int(self._starts[block])
            part = self._decoded(block)[:, max(0, first - start) : last - start]
            at = max(0, start - first)
            values[:, at : at + part.shape[1]] = part
        return values

    def read_channel(self, row: int) -> FloatArray:
        """Return all values (n,) of one channel.

        Raises:
            RecordingError: The file cannot be read any more.
        """
        values: FloatArray = np.empty(self.shape[1], dtype=self.dtype)
        for block, start in enumerate(self._starts[:-1].tolist()):
            part = self._decoded(block)[row]
            values[start : start + part.size] = part
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


class JoinedSamples:
    """Values (C, n) of several streams of one layout, one behind the other.

    Args:
        parts: The samples of each, in order.
    """

    def __init__(self, parts: Sequence[RecordedSamples]) -> None:
        self._parts = tuple(parts)
        self._bounds = np.concatenate([[0], np.cumsum([part.shape[1] for part in parts])]).tolist()
        self.dtype = parts[0].dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Number of channels and of samples, (C, n)."""
        return self._parts[0].shape[0], int(self._bounds[-1])

    def read(self, first: int, last: int) -> FloatArray:
        """Return the values (C, last - first) of samples ``first`` to ``last``; see ``RecordedSamples.read``."""
        found = [
            part.read(max(0, first - start), min(part.shape[1], last - start))
            for part, start in zip(self._parts, self._bounds, strict=False)
            if first < start + part.shape[1] and last > start
        ]
        return np.concatenate(found, axis=1) if found else self._parts[0].read(0, 0)

    def read_channel(self, row: int) -> FloatArray:
        """Return all values (n,) of one channel; see ``RecordedSamples.read_channel``."""
        return np.concatenate([part.read_channel(row) for part in self._parts])
