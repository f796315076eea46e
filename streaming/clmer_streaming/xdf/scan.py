"""One pass over an XDF file: the content of each chunk in the order of the file, with damaged parts skipped.

``read_in_order`` returns a ``Scan``, which yields entries and counts the damage in its ``ScanReport``. Below it is the
decoding of samples (``decode_samples``).
"""

from __future__ import annotations

import dataclasses
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.chunks import PiecewiseFile, RawChunk, can_continue, chunk_at, skip_samples_of
from clmer_streaming.xdf.format import MAGIC, MAX_STAMP_S, NUMERIC_DTYPES, Tag, decode_length
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header, parse_xml

_BATCH = 1024  # samples that are compared at once; bounds the work on chunks in which the two kinds alternate


def read_in_order(path: str | Path, wanted: Callable[[StreamDescription], bool] | None = None) -> Scan:
    """Return the entries of a file in the order in which they were written.

    Stamps are as stored: no clock offset is applied, and no implausible stamp is left out. A file that was not closed,
    or is cut off, yields what it holds.

    Example::

        for entry in read_in_order(path):
            if isinstance(entry, SampleBlock):
                print(entry.stream.name, entry.t, entry.x)

    Args:
        path: Path of the file.
        wanted: Returns, after each entry, whether the samples of a stream are decoded; None: decode all.

    Raises:
        RecordingError: The file is missing, empty or not XDF.
    """
    return Scan(PiecewiseFile(Path(path)), wanted)


@dataclass(frozen=True, slots=True, eq=False)
class SampleBlock:
    """The samples of one chunk, of a stream whose header came before."""

    stream: StreamDescription
    samples: Samples  # (n, C), in the stream's own format
    at: int = 0  # byte of the file at which the content behind the stream id begins
    n_bytes: int = 0  # of it

    @property
    def t(self) -> FloatArray:
        """Stamps as stored, (n,) in seconds."""
        return self.samples.t

    @property
    def x(self) -> FloatArray:
        """Values (C, n); (0, n) for a string stream; those of 64 bits as they are."""
        return values_of(self.samples.x)

    @property
    def strings(self) -> list[tuple[str, ...]]:
        """Rows of C strings, one for each sample; empty for a numeric stream."""
        return self.samples.strings


def values_of(rows: npt.NDArray[np.generic]) -> FloatArray:
    """Return the values (C, n) of samples (n, C): float64, or int64, whose bits float64 cannot hold."""
    dtype = np.int64 if rows.dtype == np.int64 else np.float64
    with np.errstate(invalid="ignore"):  # damage can look like a signalling NaN
        values: FloatArray = np.ascontiguousarray(rows.T, dtype=dtype)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class ClockOffset:
    """A measurement of a stream's clock."""

    stream: StreamDescription
    time: float  # s, the stream's clock, when it was measured
    offset: float  # s to add to the stream's clock


@dataclass(frozen=True, slots=True, eq=False)
class Footer:
    """The footer of a stream, which the recorder wrote when it closed the file."""

    stream: StreamDescription
    info: ET.Element


Entry: TypeAlias = StreamDescription | SampleBlock | ClockOffset | Footer
"""The decoded content of a chunk; the StreamDescription comes before all other entries of its stream."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that could not be used."""

    at: int  # first byte
    n_bytes: int
    stream: StreamDescription | None  # stream of the damaged chunk, if known


@dataclass(eq=False)
class ScanReport:
    """The damage that a scan has found."""

    n_bytes: int  # of the file
    n_used: int = 0  # bytes in whole, intact chunks of known streams
    damage: list[Damage] = field(default_factory=list)
    cut_off: bool = False  # the file ends within a chunk
    without_header: set[int] = field(default_factory=set)  # ids of streams with samples and no readable header
    notes: list[str] = field(default_factory=list)  # sentences about headers

    def warnings(self) -> list[str]:
        """Return the damage as sentences for the user."""
        warnings = list(self.notes)
        if self.damage:
            warnings.append(
                f"The file is damaged in {len(self.damage)} place(s), first at byte {self.damage[0].at}; "
                f"{sum(place.n_bytes for place in self.damage)} bytes around the damage were left out."
            )
        if self.cut_off:
            warnings.append("The file is cut off within its last chunk.")
        if self.without_header:
            ids = ", ".join(map(str, sorted(self.without_header)))
            warnings.append(f"Samples of stream id {ids} were left out, because that stream has no readable header.")
        return warnings


@dataclass(eq=False)
class _Known:
    """A stream whose header was read."""

    description: StreamDescription
    layout: SampleLayout
    last: float = 0.0  # s, stamp of the newest sample


class Scan:
    """An iterable over the entries of a file, in the order of the file; iterate over it once.

    Args:
        file: The file.
        wanted: Returns whether the samples of a stream are decoded; those of other streams are skipped. It is called
            again after each entry. None: decode all.

    Attributes:
        report: What was damaged or missing; complete after the last entry.
        position: Byte that was reached.
    """

    def __init__(self, file: PiecewiseFile, wanted: Callable[[StreamDescription], bool] | None = None) -> None:
        self.report = ScanReport(file.size, n_used=len(MAGIC))
        self.position = 0
        self._file = file
        self._wanted = wanted
        self._by_id: dict[int | None, _Known] = {}

    def __iter__(self) -> Iterator[Entry]:
        at = len(MAGIC)
        while (at := self._skip_unwanted(at)) < self._file.size:
            self.position = at
            view = self._file.view_chunk(at)
            chunk = chunk_at(view, 0)
            intact = False
            if chunk is not None and chunk.whole:
                entry, intact = self._decode(chunk, view, at)
                if entry is not None:
                    yield entry
            if chunk is None or not intact:
                at = yield from self._skip_damage(at, chunk, view)
                continue
            if chunk.stream_id is None or chunk.stream_id in self._by_id:
                self.report.n_used += chunk.end
            at += chunk.end

    def _skip_unwanted(self, at: int) -> int:
        """Return the byte where the next chunk begins that has to be decoded."""
        if self._wanted is None:
            return at
        unwanted = [stream_id for stream_id, known in self._by_id.items() if not self._wanted(known.description)]
        while (skipped := skip_samples_of(self._file.view_chunk(at), 0, unwanted)) > 0:
            self.report.n_used += skipped
            at += skipped
        return at

    def _decode(self, chunk: RawChunk, view: memoryview, at: int) -> tuple[Entry | None, bool]:
        """Return the entry of a whole chunk, and whether the chunk is intact.

        Args:
            chunk: The chunk.
            view: The file from the beginning of the chunk on.
            at: Byte of the file where that is.
        """
        if chunk.tag == Tag.STREAM_HEADER:
            return self._header(chunk, view)
        if chunk.stream_id is None:
            return None, chunk.tag in tuple(Tag) or can_continue(view, chunk.end, self._by_id)
        known = self._by_id.get(chunk.stream_id)
        if known is None:
            self.report.without_header.add(chunk.stream_id)
            return None, can_continue(view, chunk.end, self._by_id.keys() | self.report.without_header)
        if chunk.tag == Tag.SAMPLES:
            return self._samples(known, chunk, at)
        return _offset(known, chunk) if chunk.tag == Tag.CLOCK_OFFSET else _footer(known, chunk)

    def _header(self, chunk: RawChunk, view: memoryview) -> tuple[Entry | None, bool]:
        assert chunk.stream_id is not None
        try:
            description = parse_stream_header(chunk.stream_id, bytes(chunk.content))
        except ValueError as error:
            self.report.notes.append(f"The header of stream id {chunk.stream_id} cannot be used: {error}.")
            return None, can_continue(view, chunk.end, self._by_id)
        before = self._by_id.get(chunk.stream_id)
        if before is not None:
            self.report.notes.append(f"Stream id {chunk.stream_id} ({description.name!r}) has more than one header.")
            old = before.description
            if (old.channel_format, old.n_channels) == (description.channel_format, description.n_channels):
                return None, True
        interval = 1.0 / description.sfreq if description.sfreq else 0.0
        layout = SampleLayout(description.channel_format, description.n_channels, interval)
        self._by_id[chunk.stream_id] = _Known(description, layout)
        return description, True

    def _samples(self, known: _Known, chunk: RawChunk, at: int) -> tuple[Entry | None, bool]:
        if self._wanted is not None and not self._wanted(known.description):
            return None, True
        samples = decode_samples(chunk.content, known.layout, known.last)
        if not samples.t.size:
            return None, samples.intact
        known.last = float(samples.t[-1])
        n_bytes = len(chunk.content)
        return SampleBlock(known.description, samples, at + chunk.end - n_bytes, n_bytes), samples.intact

    def _skip_damage(self, at: int, chunk: RawChunk | None, view: memoryview) -> Generator[Entry, None, int]:
        """Return the byte at which to continue: after the damaged chunk if possible, else after the next boundary.

        The complete samples of a chunk that is cut off by the end of the file are yielded.
        """
        known = None if chunk is None else self._by_id.get(chunk.stream_id)
        stream = None if known is None else known.description
        if chunk is not None and chunk.whole and can_continue(view, chunk.end, self._by_id):
            self.report.damage.append(Damage(at, chunk.end, stream))
            return at + chunk.end
        end = self._file.after_next_boundary(at)
        if chunk is None or chunk.whole or end < self._file.size:
            self.report.damage.append(Damage(at, end - at, stream))
            return end
        self.report.cut_off = True
        if chunk.tag == Tag.SAMPLES and known is not None:
            cut = chunk_at(self._file.view(at, self._file.size - at), 0)
            assert cut is not None  # it begins as it did before
            entry, _ = self._samples(known, dataclasses.replace(cut, end=self._file.size - at), at)
            if entry is not None:
                yield entry
        return end


def _offset(known: _Known, chunk: RawChunk) -> tuple[Entry | None, bool]:
    if len(chunk.content) != 16:
        return None, False
    time, offset = struct.unpack("<dd", chunk.content)
    possible = abs(time) <= MAX_STAMP_S and abs(offset) <= MAX_STAMP_S
    return ClockOffset(known.description, time, offset) if possible else None, True


def _footer(known: _Known, chunk: RawChunk) -> tuple[Entry | None, bool]:
    try:
        return Footer(known.description, parse_xml(bytes(chunk.content))), True
    except ValueError:
        return None, False


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one chunk, in the order of the file."""

    t: FloatArray  # (n,) s, the stream's clock
    x: npt.NDArray[np.generic]  # (n, C) in the stream's own format; (n, 0) for strings
    strings: list[tuple[str, ...]]  # n rows of C; empty for numbers
    intact: bool  # False if the chunk is damaged; the samples before the damage are here


@dataclass(frozen=True)
class SampleLayout:
    """Storage layout of a stream's samples."""

    channel_format: str
    n_channels: int  # C
    interval: float  # s between samples without a stamp of their own

    @cached_property
    def bare(self) -> np.dtype[np.void]:
        """The dtype of a numeric sample without a stamp: ``n`` (0), ``x`` (C,)."""
        return np.dtype([("n", "u1"), ("x", NUMERIC_DTYPES[self.channel_format], (self.n_channels,))])

    @cached_property
    def stamped(self) -> np.dtype[np.void]:
        """The dtype of a numeric sample with its stamp: ``n`` (8), ``t`` in seconds, ``x`` (C,)."""
        return np.dtype([("n", "u1"), ("t", "<f8"), ("x", NUMERIC_DTYPES[self.channel_format], (self.n_channels,))])


def decode_samples(content: memoryview, layout: SampleLayout, last: float) -> Samples:
    """Return the samples of one chunk.

    Args:
        content: Content of the chunk after the stream id.
        layout: Layout of the stream.
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
        limit = min(size - row, (len(content) - at) // rows.itemsize, _BATCH)
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
