"""One pass over a file: what each chunk holds, in the order of the file, past whatever is damaged."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.chunks import RawChunk, behind_next_boundary, behind_samples_of, chunk_at, may_follow
from clmer_streaming.xdf.description import StreamDescription, parse_stream_header, parse_xml
from clmer_streaming.xdf.format import MAGIC, MAX_STAMP_S, Tag
from clmer_streaming.xdf.loading import load_recording
from clmer_streaming.xdf.samples import SampleLayout, Samples, decode_samples
from clmer_streaming.xdf.scan_report import Damage, ScanReport


@dataclass(frozen=True, slots=True, eq=False)
class SampleBlock:
    """The samples of one chunk, of a stream whose header came before."""

    stream: StreamDescription
    samples: Samples  # (n, C), in the stream's own format

    @property
    def t(self) -> FloatArray:
        """(n,) s, stamps as stored."""
        return self.samples.t

    @property
    def x(self) -> FloatArray:
        """(C, n) values; (0, n) of a string stream."""
        with np.errstate(invalid="ignore"):  # damage can look like a signalling NaN
            return np.ascontiguousarray(self.samples.x.T, dtype=np.float64)

    @property
    def strings(self) -> list[tuple[str, ...]]:
        """N rows of C strings; empty of a numeric stream."""
        return self.samples.strings


@dataclass(frozen=True, slots=True, eq=False)
class ClockOffset:
    """A measurement of a stream's clock."""

    stream: StreamDescription
    time: float  # s, the stream's clock, when it was measured
    offset: float  # s to add to the stream's clock


@dataclass(frozen=True, slots=True, eq=False)
class Footer:
    """The recorder closed a stream."""

    stream: StreamDescription
    info: ET.Element


Entry: TypeAlias = StreamDescription | SampleBlock | ClockOffset | Footer
"""What a chunk says; a StreamDescription comes before all else of its stream."""


@dataclass(eq=False)
class _Known:
    """A stream of which the header was seen."""

    description: StreamDescription
    layout: SampleLayout
    last: float = 0.0  # s, stamp of the newest sample


class Scan:
    """The entries of a file, in its order, each as soon as it was read; to be gone through once.

    Args:
        data: The whole file.
        wanted: Tells whose samples are to be decoded; None: all. Of others the chunks are passed over, unseen. It is
            asked anew after each entry.

    Attributes:
        report: What was damaged or missing; complete when the last entry was given.
    """

    def __init__(self, data: bytes, wanted: Callable[[StreamDescription], bool] | None = None) -> None:
        self.report = ScanReport(len(data), n_used=len(MAGIC))
        self._data = data
        self._wanted = wanted
        self._view = memoryview(data)
        self._by_id: dict[int | None, _Known] = {}

    def __iter__(self) -> Iterator[Entry]:
        at = len(MAGIC)
        while (at := self._behind_unwanted(at)) < len(self._data):
            chunk = chunk_at(self._view, at)
            intact = False
            if chunk is not None and chunk.whole:
                entry, intact = self._decode(chunk)
                if entry is not None:
                    yield entry
            if chunk is None or not intact:
                at = yield from self._behind_damage(at, chunk)
                continue
            if chunk.stream_id is None or chunk.stream_id in self._by_id:
                self.report.n_used += chunk.end - at
            at = chunk.end

    def _behind_unwanted(self, at: int) -> int:
        """Return where the next chunk begins that has to be looked at."""
        if self._wanted is None:
            return at
        unwanted = [stream_id for stream_id, known in self._by_id.items() if not self._wanted(known.description)]
        end = behind_samples_of(self._view, at, unwanted)
        self.report.n_used += end - at
        return end

    def _decode(self, chunk: RawChunk) -> tuple[Entry | None, bool]:
        """Return what a whole chunk says, and whether it is intact."""
        if chunk.tag == Tag.STREAM_HEADER:
            return self._header(chunk)
        if chunk.stream_id is None:
            return None, chunk.tag in tuple(Tag) or may_follow(self._view, chunk.end, self._by_id)
        known = self._by_id.get(chunk.stream_id)
        if known is None:
            self.report.headless.add(chunk.stream_id)
            return None, may_follow(self._view, chunk.end, self._by_id.keys() | self.report.headless)
        if chunk.tag == Tag.SAMPLES:
            return self._samples(known, chunk.content)
        return _offset(known, chunk) if chunk.tag == Tag.CLOCK_OFFSET else _footer(known, chunk)

    def _header(self, chunk: RawChunk) -> tuple[Entry | None, bool]:
        assert chunk.stream_id is not None
        try:
            description = parse_stream_header(chunk.stream_id, bytes(chunk.content))
        except ValueError as error:
            self.report.notes.append(f"The header of stream id {chunk.stream_id} cannot be used: {error}.")
            return None, may_follow(self._view, chunk.end, self._by_id)
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

    def _samples(self, known: _Known, content: memoryview) -> tuple[Entry | None, bool]:
        if self._wanted is not None and not self._wanted(known.description):
            return None, True
        samples = decode_samples(content, known.layout, known.last)
        if not samples.t.size:
            return None, samples.intact
        known.last = float(samples.t[-1])
        return SampleBlock(known.description, samples), samples.intact

    def _behind_damage(self, at: int, chunk: RawChunk | None) -> Generator[Entry, None, int]:
        """Return at which byte to go on: behind the damaged chunk where that can be, else behind the next boundary.

        Of a chunk that the end of the file cut off, the whole samples are given.
        """
        known = None if chunk is None else self._by_id.get(chunk.stream_id)
        stream = None if known is None else known.description
        if chunk is not None and chunk.whole and may_follow(self._view, chunk.end, self._by_id):
            self.report.damage.append(Damage(at, chunk.end - at, stream))
            return chunk.end
        end = behind_next_boundary(self._data, at)
        if chunk is None or chunk.whole or end < len(self._data):
            self.report.damage.append(Damage(at, end - at, stream))
            return end
        self.report.cut_off = True
        if chunk.tag == Tag.SAMPLES and known is not None:
            entry, _ = self._samples(known, chunk.content)
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


def read_in_order(path: str | Path, wanted: Callable[[StreamDescription], bool] | None = None) -> Scan:
    """Open a file to be gone through chunk by chunk, in the order in which it was written.

    ::

        for entry in read_in_order(path):
            if isinstance(entry, SampleBlock):
                take(entry.stream.stream_id, entry.t, entry.x)

    Stamps are those that were stored: no clock offset is applied and no odd stamp is left out. A file that was
    not closed, or is cut off, gives what it holds.

    Args:
        path: Of the file.
        wanted: Tells, after each entry, whether the samples of a stream are to be decoded; None: all.

    Raises:
        RecordingError: The file is missing, empty or not XDF.
    """
    return Scan(load_recording(Path(path)), wanted)
