"""Reading XDF 1.0 files as a whole: streams with their samples, on the recorder's clock.

``read_xdf`` returns an ``XdfFile`` of ``XdfStream``. ``synchronise`` applies the clock offsets; ``measure_clock``
judges them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import RecordingError
from clmer_streaming.types import BoolArray, FloatArray
from clmer_streaming.xdf.format import MAX_STAMP_S
from clmer_streaming.xdf.header import StreamDescription
from clmer_streaming.xdf.scan import ClockOffset, SampleBlock, Samples, Scan, ScanReport, read_in_order

_STRAY_RUN = 3  # samples; fewer of them far from all others are damage, not a run of a clock
_STRAY_REGULAR_S = 3600.0  # s; how far, in streams with a nominal rate
_STRAY_IRREGULAR_S = 86400.0  # s; markers may lie hours apart
_RESET_S = 1.0  # s; a smaller step of the offset is drift or a bad measurement
_NEAR_S = 10.0  # s, two intervals of measurement; a run of a clock has samples this near
_MAX_DRIFT = 1e-3  # s per s, ten times that of the worst crystals
_MAX_FITTED = 1000  # offsets; the cost of a fit grows with their square
_OUTLIER_S = 0.005  # s, least distance of an outlier from the line; a quiet network measures to 0.1 ms
_OUTLIER_MADS = 10.0  # least distance in median deviations from the line
_LEAST_DRIFT = 4  # offsets from which a drift can be estimated


@dataclass(frozen=True, eq=False)
class XdfStream(StreamDescription):
    """One stream of a file: its header and all its samples, in file order."""

    t: FloatArray  # (n,) s, stamps as stored: the sender's clock
    t_synced: FloatArray  # (n,) s, with the clock offsets applied: the recorder's clock
    x: FloatArray  # (C, n); (0, n) for string streams; integers beyond 2**53 are rounded
    strings: tuple[tuple[str, ...], ...]  # n rows of C; empty for numeric streams
    clock_times: FloatArray  # (m,) s, the sender's clock, when each offset was measured
    clock_offsets: FloatArray  # (m,) s to add to the sender's clock
    footer: ET.Element | None  # None if the recording was not closed


@dataclass(frozen=True, eq=False)
class XdfFile:
    """The content of a file."""

    path: Path
    streams: tuple[XdfStream, ...]  # in the order of their headers
    warnings: tuple[str, ...]  # sentences for the user on what was damaged, missing or left out
    report: ScanReport  # the same as numbers


def read_xdf(path: str | Path) -> XdfFile:
    """Read an XDF file; damaged parts are skipped and reported in the ``warnings`` of the result.

    Example::

        for stream in read_xdf("session.xdf").streams:
            print(stream.name, stream.sfreq, stream.x.shape)

    Raises:
        RecordingError: The file is missing, empty, not XDF, or holds no stream.
    """
    scan = read_in_order(path)
    found = _gather(scan)
    if not found:
        raise RecordingError(
            expected="an XDF recording with at least one stream",
            found=f"{path} with {scan.report.n_bytes} bytes and no readable stream header",
            mend="record the session again; the recorder seems to have stopped before it saw a stream",
        )
    warnings = scan.report.warnings()
    streams = tuple(_finish(stream, warnings) for stream in found)
    if all(stream.footer is None for stream in streams):
        warnings.append("The recording was not closed properly (no footers); its last seconds may be missing.")
    return XdfFile(Path(path), streams, tuple(warnings), scan.report)


@dataclass(eq=False)
class _Stream:
    """A stream while the file is read."""

    description: StreamDescription
    blocks: list[Samples] = field(default_factory=list)
    offsets: list[tuple[float, float]] = field(default_factory=list)
    footer: ET.Element | None = None


def _gather(scan: Scan) -> list[_Stream]:
    """Return the streams in the order of their headers, each with everything that the file holds of it."""
    streams: dict[StreamDescription, _Stream] = {}
    for entry in scan:
        if isinstance(entry, StreamDescription):
            streams[entry] = _Stream(entry)
        elif isinstance(entry, SampleBlock):
            streams[entry.stream].blocks.append(entry.samples)
        elif isinstance(entry, ClockOffset):
            streams[entry.stream].offsets.append((entry.time, entry.offset))
        else:
            streams[entry.stream].footer = entry.info
    return list(streams.values())


def _finish(stream: _Stream, warnings: list[str]) -> XdfStream:
    d = stream.description
    t = np.concatenate([np.empty(0), *(block.t for block in stream.blocks)])
    kept = plausible_stamps(t, regular=d.sfreq > 0)
    if not kept.all():
        warnings.append(f"{np.count_nonzero(~kept)} sample(s) of {d.name!r} were left out: impossible stamps.")
    offsets = np.array(stream.offsets, dtype=np.float64).reshape(-1, 2)
    t = t[kept]
    strings = [row for block in stream.blocks for row in block.strings]
    return XdfStream(
        **vars(d),
        t=t,
        t_synced=synchronise(t, offsets[:, 0], offsets[:, 1]),
        x=_values(stream, kept),
        strings=tuple(row for row, keep in zip(strings, kept, strict=False) if keep),
        clock_times=offsets[:, 0],
        clock_offsets=offsets[:, 1],
        footer=stream.footer,
    )


def _values(stream: _Stream, kept: npt.NDArray[np.bool_]) -> FloatArray:
    d = stream.description
    if d.channel_format == "string":
        return np.empty((0, int(np.count_nonzero(kept))))
    parts = [np.empty((0, d.n_channels)), *(block.x for block in stream.blocks)]
    with np.errstate(invalid="ignore"):  # damage can look like a signalling NaN
        rows = np.concatenate(parts, dtype=np.float64)
    return np.ascontiguousarray(rows[kept].T)


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
    good = np.flatnonzero(kept)
    runs = np.split(good, np.flatnonzero(np.abs(np.diff(t[good])) > stray_s) + 1)
    least = min(_STRAY_RUN, max(len(run) for run in runs))
    for run in runs:
        if len(run) < least:
            kept[run] = False
    return kept


def synchronise(t: FloatArray, times: FloatArray, offsets: FloatArray) -> FloatArray:
    """Return stamps on the recorder's clock.

    Each run of the clock between two restarts gets its own robust line; see ``fit_clock``.

    Args:
        t: (n,) stamps in seconds of the stream's clock, in file order.
        times: (m,) when each offset was measured, in seconds of the stream's clock.
        offsets: (m,) seconds to add to the stream's clock; outliers are tolerated.
    """
    if not t.size or not times.size:
        return t.copy()
    runs = clock_runs(t, times, offsets)
    cuts = _cuts(t, [times[run] for run in runs])
    synced = np.empty_like(t)
    for run, start, stop in zip(runs, [0, *cuts], [*cuts, t.size], strict=True):
        synced[start:stop] = fit_clock(times[run], offsets[run])(t[start:stop])
    return synced


@dataclass(frozen=True, slots=True)
class ClockLine:
    """The offset of one run of a clock as a line: ``offset + drift * (t - centre)``."""

    centre: float  # s
    offset: float  # s to add
    drift: float  # s per s

    def __call__(self, t: FloatArray) -> FloatArray:
        """Return stamps (n,) corrected to seconds of the recorder's clock."""
        return t + (self.offset + self.drift * (t - self.centre))


def fit_clock(times: FloatArray, offsets: FloatArray) -> ClockLine:
    """Return the line through offsets by the median of all pairwise slopes (Theil 1950, Sen 1968).

    Up to 29 % of the offsets may be outliers. An impossible drift is replaced by 0.

    Args:
        times: (m,) seconds, when each offset was measured.
        offsets: (m,) seconds.
    """
    step = -(-times.size // _MAX_FITTED)
    times, offsets = times[::step], offsets[::step]
    first, second = np.triu_indices(times.size, k=1)
    span = times[second] - times[first]
    usable = np.abs(span) > 1e-6
    slopes = (offsets[second] - offsets[first])[usable] / span[usable]
    drift = float(np.median(slopes)) if slopes.size else 0.0
    drift = drift if abs(drift) <= _MAX_DRIFT else 0.0
    centre = float(np.median(times))
    return ClockLine(centre, float(np.median(offsets - drift * (times - centre))), drift)


def clock_runs(t: FloatArray, times: FloatArray, offsets: FloatArray) -> list[npt.NDArray[np.intp]]:
    """Return the indices of the offsets of each run of the clock, in order; at least one run.

    Where a clock restarts, the times of measurement step together with the offsets; where only the offset steps, the
    measurement was bad.

    Args:
        t: (n,) stamps in seconds of the stream's clock.
        times: (m,) seconds of the stream's clock, when each offset was measured.
        offsets: (m,) seconds.
    """
    steps, intervals = np.abs(np.diff(offsets)), np.diff(times)
    odd = np.abs(intervals - np.median(intervals)) if intervals.size else intervals
    resets = np.flatnonzero((steps > _RESET_S) & (odd > steps / 2)) + 1
    stamps = np.sort(t)
    runs = [run for run in np.split(np.arange(times.size), resets) if _has_samples(stamps, times[run])]
    joined = runs[:1]
    for run in runs[1:]:
        if abs(offsets[run[0]] - offsets[joined[-1][-1]]) <= _RESET_S:
            joined[-1] = np.concatenate([joined[-1], run])
        else:
            joined.append(run)
    return joined or [np.arange(times.size)]


def _has_samples(stamps: FloatArray, times: FloatArray) -> bool:
    first, last = np.searchsorted(stamps, [times.min() - _NEAR_S, times.max() + _NEAR_S])
    return bool(last > first)


def _cuts(t: FloatArray, run_times: list[FloatArray]) -> list[int]:
    """Return the index of the first sample of each run but the first.

    Each cut minimizes the distances of the sample before it from the end of its run, and of the sample after it from
    the beginning of the next one.
    """
    cuts: list[int] = []
    start = 0
    for before, after in pairwise(run_times):
        to_end = np.concatenate([[0.0], np.abs(t[start:] - before[-1])])
        to_begin = np.concatenate([np.abs(t[start:] - after[0]), [0.0]])
        start += int(np.argmin(to_end + to_begin))
        cuts.append(start)
    return cuts


@dataclass(frozen=True)
class ClockHealth:
    """Measurement of a stream's clock relative to the recorder's clock."""

    n_offsets: int
    offset_s: float  # to add to its stamps, in the middle of the longest run; 0 without offsets
    n_outliers: int  # offsets far from the line of their run
    n_restarts: int
    drift_ppm: float | None  # of the longest run; positive where the stream's clock is slow; None where unknown


def measure_clock(t: FloatArray, times: FloatArray, offsets: FloatArray) -> ClockHealth:
    """Return the measurement of a stream's clock.

    Args:
        t: (n,) stamps in seconds of the stream's clock, in file order.
        times: (m,) when each offset was measured, in seconds of the stream's clock.
        offsets: (m,) seconds to add to the stream's clock.
    """
    if not times.size:
        return ClockHealth(0, 0.0, 0, 0, None)
    runs = clock_runs(t, times, offsets)
    longest = max(runs, key=len)
    line = fit_clock(times[longest], offsets[longest])
    n_inliers = sum(_n_inliers(times[run], offsets[run]) for run in runs)
    drift = 1e6 * line.drift if longest.size >= _LEAST_DRIFT else None
    return ClockHealth(times.size, line.offset, times.size - n_inliers, len(runs) - 1, drift)


def _n_inliers(times: FloatArray, offsets: FloatArray) -> int:
    line = fit_clock(times, offsets)
    off = np.abs(offsets - (line(times) - times))
    return int(np.count_nonzero(off <= max(_OUTLIER_S, _OUTLIER_MADS * float(np.median(off)))))
