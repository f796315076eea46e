"""Decoding the Samples chunks of a stream: runs of samples with and without a stamp of their own."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.format import NUMERIC_DTYPES, decode_length

_LOOK_AHEAD = 1024  # samples; bounds the work on chunks in which the two kinds alternate


@dataclass(frozen=True)
class SampleLayout:
    """How a stream stores its samples."""

    channel_format: str
    n_channels: int  # C
    interval: float  # s between samples that have no stamp of their own

    @cached_property
    def bare(self) -> np.dtype[np.void]:
        """A numeric sample without a stamp: ``n`` (0), ``x`` (C,)."""
        return np.dtype([("n", "u1"), ("x", NUMERIC_DTYPES[self.channel_format], (self.n_channels,))])

    @cached_property
    def stamped(self) -> np.dtype[np.void]:
        """A numeric sample with its stamp: ``n`` (8), ``t`` in seconds, ``x`` (C,)."""
        return np.dtype([("n", "u1"), ("t", "<f8"), ("x", NUMERIC_DTYPES[self.channel_format], (self.n_channels,))])


@dataclass(frozen=True, slots=True)
class Samples:
    """What one chunk holds, in the order of the file."""

    t: FloatArray  # (n,) s, the stream's clock
    x: npt.NDArray[np.generic]  # (n, C) in the stream's own format; (n, 0) for strings
    strings: list[tuple[str, ...]]  # n rows of C; empty for numbers
    intact: bool  # False where the chunk is damaged; what precedes the damage is here


def decode_samples(content: memoryview, layout: SampleLayout, last: float) -> Samples:
    """Return the samples of one chunk.

    Args:
        content: Of the chunk, behind the stream id.
        layout: Of the stream.
        last: Stamp of the stream's sample before this chunk, in seconds.
    """
    length = decode_length(content, 0)
    if length is None:
        return Samples(np.empty(0), np.empty((0, layout.n_channels)), [], intact=False)
    decode = _decode_strings if layout.channel_format == "string" else _decode_numbers
    return decode(content, length, layout, last)


def _decode_numbers(content: memoryview, length: tuple[int, int], layout: SampleLayout, last: float) -> Samples:
    n_samples, at = length
    stamped, bare = layout.stamped, layout.bare
    size = min(n_samples, (len(content) - at) // bare.itemsize)
    t, x = np.empty(size), np.empty((size, layout.n_channels), dtype=bare["x"].base)
    flags = np.frombuffer(content, dtype=np.uint8)
    row, damaged = 0, False
    while row < size:
        rows = stamped if flags[at] == 8 else bare
        limit = min(size - row, (len(content) - at) // rows.itemsize, _LOOK_AHEAD)
        equal = flags[at : at + limit * rows.itemsize : rows.itemsize] == (8 if rows is stamped else 0)
        run = limit if equal.all() else int(equal.argmin())
        if run == 0:
            damaged = limit > 0
            break
        values = np.frombuffer(content, dtype=rows, count=run, offset=at)
        x[row : row + run] = values["x"]
        t[row : row + run] = values["t"] if rows is stamped else last + layout.interval * np.arange(1, run + 1)
        row, at, last = row + run, at + run * rows.itemsize, float(t[row + run - 1])
        if at >= len(content):
            break
    intact = row == n_samples and at == len(content)
    kept = max(row - 1, 0) if damaged else row  # damage seen in one sample began in the one before, as a rule
    return Samples(t[:kept], x[:kept], [], intact)


def _decode_strings(content: memoryview, length: tuple[int, int], layout: SampleLayout, last: float) -> Samples:
    n_samples, at = length
    t: list[float] = []
    rows: list[tuple[str, ...]] = []
    while len(t) < n_samples and at < len(content):
        flag = content[at]
        if flag not in (0, 8) or at + 1 + flag > len(content):
            break
        last = struct.unpack_from("<d", content, at + 1)[0] if flag else last + layout.interval
        row, at = _string_row(content, at + 1 + flag, layout.n_channels)
        if row is None:
            break
        t.append(last)
        rows.append(row)
    return Samples(
        np.array(t, dtype=np.float64), np.empty((len(t), 0)), rows, len(t) == n_samples and at == len(content)
    )


def _string_row(content: memoryview, at: int, n_channels: int) -> tuple[tuple[str, ...] | None, int]:
    row = []
    for _ in range(n_channels):
        length = decode_length(content, at)
        if length is None or length[1] + length[0] > len(content):
            return None, at
        size, start = length
        at = start + size
        row.append(bytes(content[start:at]).decode("utf-8", errors="replace"))
    return tuple(row), at
