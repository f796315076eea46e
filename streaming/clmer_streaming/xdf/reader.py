"""Reading XDF 1.0 files as a whole: streams with their samples, on the recorder's clock.

``read_xdf`` returns an ``XdfFile`` of ``XdfStream``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from clmer_streaming.clock import ClockDomain
from clmer_streaming.errors import RecordingError
from clmer_streaming.types import BoolArray, FloatArray, IndexArray
from clmer_streaming.xdf.clock import PlacedStamps, StreamClock, place_streams
from clmer_streaming.xdf.format import MAX_STAMP_S
from clmer_streaming.xdf.header import StreamDescription
from clmer_streaming.xdf.samples import JoinedSamples, RecordedSamples, kept_ends
from clmer_streaming.xdf.scan import ClockOffset, SampleBlock, SampleLayout, Scan, ScanReport, read_in_order

_STRAY_RUN = 3  # samples; fewer of them far from all others are damage, not a run of a clock
_STRAY_REGULAR_S = 3600.0  # s; how far, in streams with a nominal rate
_STRAY_IRREGULAR_S = 86400.0  # s; markers may lie hours apart


@dataclass(frozen=True, eq=False)
class XdfStream(StreamDescription):
    """One stream of a file: its header and all its samples, in file order."""

    t: FloatArray  # (n,) s, stamps as stored: the sender's clock
    t_synced: FloatArray  # (n,) s, on the clock that the streams of the file share: the recorder's; see ``xdf.clock``
    samples: RecordedSamples | JoinedSamples  # (C, n), decoded when they are asked for; (0, n) for string streams
    strings: tuple[tuple[str, ...], ...]  # n rows of C; empty for numeric streams
    clock_times: FloatArray  # (m,) s, the sender's clock, when each offset was measured
    clock_offsets: FloatArray  # (m,) s to add to the sender's clock
    footer: ET.Element | None  # None if the recording was not closed
    clock: ClockDomain = "LSL"  # that the stamps as stored are on

    @property
    def x(self) -> FloatArray:
        """All values (C, n), decoded at each call: float64, or int64 for a stream of that format."""
        return self.samples.read(0, self.t.size)


@dataclass(frozen=True, eq=False)
class XdfFile:
    """The content of a file."""

    path: Path
    streams: tuple[XdfStream, ...]  # in the order of their headers
    warnings: tuple[str, ...]  # sentences for the user on what was damaged, missing or left out
    report: ScanReport  # the same as numbers


Progress: TypeAlias = Callable[[float], None]
"""Function that is called with the share of a file that was read, 0 to 1."""

_PROGRESS_EVERY = 256  # entries


def read_xdf(path: str | Path, progress: Progress | None = None) -> XdfFile:
    """Read an XDF file; damaged parts are skipped and reported in the ``warnings`` of the result.

    Example::

        for stream in read_xdf("session.xdf").streams:
            print(stream.name, stream.sfreq, stream.x.shape)

    Args:
        path: Path of the file.
        progress: Called while it is read.

    Raises:
        RecordingError: The file is missing, empty, not XDF, or holds no stream.
    """
    scan = read_in_order(path)
    found = _gather(scan, progress)
    if not found:
        raise RecordingError(
            expected="an XDF recording with at least one stream",
            found=f"{path} with {scan.report.n_bytes} bytes and no readable stream header",
            mend="record the session again; the recorder seems to have stopped before it saw a stream",
        )
    warnings = scan.report.warnings()
    kept = [_plausible(stream, warnings) for stream in found]
    clocks = [_stream_clock(stream, samples) for stream, samples in zip(found, kept, strict=True)]
    placed, notes = place_streams(clocks)
    warnings += notes
    streams = tuple(_finish(Path(path), *parts) for parts in zip(found, kept, clocks, placed, strict=True))
    if all(stream.footer is None for stream in streams):
        warnings.append("The recording was not closed properly (no footers); its last seconds may be missing.")
    return XdfFile(Path(path), streams, tuple(warnings), scan.report)


@dataclass(eq=False)
class _Stream:
    """A stream while the file is read."""

    description: StreamDescription
    t: array[float] = field(default_factory=lambda: array("d"))  # s, of all samples
    sizes: list[int] = field(default_factory=list)  # samples of each block
    strings: list[tuple[str, ...]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)  # bytes of the content of each block
    block_order: list[int] = field(default_factory=list)  # running number of each among all entries of the file
    offsets: list[tuple[float, float]] = field(default_factory=list)
    offset_order: list[int] = field(default_factory=list)
    footer: ET.Element | None = None


def _gather(scan: Scan, progress: Progress | None) -> list[_Stream]:
    """Return the streams in the order of their headers, each with everything that the file holds of it."""
    streams: dict[StreamDescription, _Stream] = {}
    for number, entry in enumerate(scan):
        if progress is not None and number % _PROGRESS_EVERY == 0:
            progress(scan.position / scan.report.n_bytes)
        if isinstance(entry, StreamDescription):
            streams[entry] = _Stream(entry)
        elif isinstance(entry, SampleBlock):
            stream = streams[entry.stream]
            stream.t.frombytes(entry.t.tobytes())
            stream.sizes.append(entry.t.size)
            stream.strings += entry.strings
            stream.places.append((entry.at, entry.n_bytes))
            stream.block_order.append(number)
        elif isinstance(entry, ClockOffset):
            streams[entry.stream].offsets.append((entry.time, entry.offset))
            streams[entry.stream].offset_order.append(number)
        else:
            streams[entry.stream].footer = entry.info
    return list(streams.values())


def _plausible(stream: _Stream, warnings: list[str]) -> BoolArray:
    """Return which samples (n,) have plausible stamps."""
    d = stream.description
    kept = plausible_stamps(_stamps(stream), regular=d.sfreq > 0)
    if not kept.all():
        warnings.append(f"{np.count_nonzero(~kept)} sample(s) of {d.name!r} were left out: impossible stamps.")
    return kept


def _stamps(stream: _Stream) -> FloatArray:
    """Return the stamps (n,) of all blocks: a view, since a long recording has many."""
    return np.frombuffer(stream.t)


def _stream_clock(stream: _Stream, kept: BoolArray) -> StreamClock:
    """Return the stamps and offsets of a stream, without the samples that are left out."""
    offsets = np.array(stream.offsets, dtype=np.float64).reshape(-1, 2)
    return StreamClock(
        stream.description.name,
        stream.description.hostname,
        _stamps(stream) if kept.all() else _stamps(stream)[kept],
        times=offsets[:, 0],
        offsets=offsets[:, 1],
        block_ends=kept_ends(_block_ends(stream), kept),
        block_order=np.array(stream.block_order, dtype=np.intp),
        offset_order=np.array(stream.offset_order, dtype=np.intp),
    )


def _block_ends(stream: _Stream) -> IndexArray:
    """Return the index of the sample behind each block (b,), as it is in the file."""
    return np.cumsum(stream.sizes, dtype=np.intp)


def _finish(path: Path, stream: _Stream, kept: BoolArray, clock: StreamClock, placed: PlacedStamps) -> XdfStream:
    d = stream.description
    places: IndexArray = np.array(stream.places, dtype=np.intp).reshape(-1, 2)
    layout = SampleLayout(d.channel_format, d.n_channels, 1.0 / d.sfreq if d.sfreq else 0.0)
    return XdfStream(
        **vars(d),
        t=clock.t,
        t_synced=placed.t,
        samples=RecordedSamples(path, layout, places, _block_ends(stream), kept),
        strings=tuple(row for row, keep in zip(stream.strings, kept, strict=False) if keep),
        clock_times=clock.times,
        clock_offsets=clock.offsets,
        footer=stream.footer,
        clock=placed.clock,
    )


def plausible_stamps(t: FloatArray, *, regular: bool) -> BoolArray:
    """Return which stamps are plausible: within the range of clocks, and not a few far from all others.

    Args:
        t: (n,) stamps in seconds, in file order.
        regular: Whether the stream has a nominal rate.

    Returns:
        (n,) bool.
    """
    stray_s = _STRAY_REGULAR_S if regular else _STRAY_IRREGULAR_S
    with np.errstate(invalid="ignore"):
        kept = np.abs(t) <= MAX_STAMP_S
        if kept.all() and not np.any(np.abs(np.diff(t)) > stray_s):
            return kept
    good = np.flatnonzero(kept)
    runs = np.split(good, np.flatnonzero(np.abs(np.diff(t[good])) > stray_s) + 1)
    least = min(_STRAY_RUN, max(len(run) for run in runs))
    for run in runs:
        if len(run) < least:
            kept[run] = False
    return kept
