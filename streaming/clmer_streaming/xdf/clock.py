"""The clocks of the streams in an XDF file: from the senders' stamps to the recorder's clock.

``place_streams`` does it for all streams of a file; ``synchronise`` applies the clock offsets of one, and
``measure_clock`` judges them. The offsets were measured on the LSL clock of each sender. Stamps that are on another
clock, such as Unix time, get none of them: where the file has streams on both, the foreign ones are moved by one
constant, from the order in which the file was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import ClockDomain, identify_clock, is_unix_time
from clmer_streaming.types import FloatArray, IndexArray

_RESET_S = 1.0  # s; a smaller step of the offset is drift or a bad measurement
_NEAR_S = 10.0  # s, two intervals of measurement; a run of a clock has samples this near
_MAX_DRIFT = 1e-3  # s per s, ten times that of the worst crystals
_MAX_FITTED = 1000  # offsets; the cost of a fit grows with their square
_OUTLIER_S = 0.005  # s, least distance of an outlier from the line; a quiet network measures to 0.1 ms
_OUTLIER_MADS = 10.0  # least distance in median deviations from the line
_LEAST_DRIFT = 4  # offsets from which a drift can be estimated
_BUFFERED_S = 600.0  # s for which samples may have waited before the clock was measured; LabRecorder buffers 360
_ARRIVAL_QUANTILE = 0.05  # of the bounds on an offset from the order of the file; delays are one-sided
_LEAST_BOUNDS = 2  # blocks of foreign stamps with a time of the recorder behind them


@dataclass(frozen=True, eq=False)
class StreamClock:
    """The stamps of one stream of a file, the offsets of its clock, and their order in the file."""

    name: str
    hostname: str
    t: FloatArray  # (n,) s, as stored
    times: FloatArray  # (m,) s of the sender's LSL clock, when each offset was measured
    offsets: FloatArray  # (m,) s to add
    block_ends: IndexArray  # (b,) index of the first sample behind each block of samples
    block_order: IndexArray  # (b,) running number of the block among all entries of the file
    offset_order: IndexArray  # (m,) running number of each offset


@dataclass(frozen=True, eq=False)
class PlacedStamps:
    """The stamps of one stream on the clock that all streams of the file share."""

    t: FloatArray  # (n,) s
    clock: ClockDomain  # that the stamps were on


def place_streams(streams: Sequence[StreamClock]) -> tuple[list[PlacedStamps], list[str]]:
    """Return the stamps of the streams of a file on one clock, and sentences for people where they were on several.

    Args:
        streams: All streams of the file.
    """
    clocks = [_clock_of(stream) for stream in streams]
    placed = [
        PlacedStamps(synchronise(stream.t, stream.times, stream.offsets) if clock == "LSL" else stream.t.copy(), clock)
        for stream, clock in zip(streams, clocks, strict=True)
    ]
    foreign: dict[tuple[ClockDomain, str], list[int]] = {}  # by clock; Unix time is one clock, whatever the host
    for i, (stream, clock) in enumerate(zip(streams, clocks, strict=True)):
        if clock in ("Unix time", "other"):
            foreign.setdefault((clock, "" if clock == "Unix time" else stream.hostname), []).append(i)
    ours = [i for i, clock in enumerate(clocks) if clock == "LSL"]
    notes = []
    for (clock, _), members in foreign.items():
        offset_s, how = 0.0, "they are taken as they are"
        if ours or len(foreign) > 1:
            known_s = _estimate_offset(streams, [one.t for one in placed], members, ours)
            offset_s, how = known_s or 0.0, _how_moved(known_s)
        for i in members:
            placed[i] = PlacedStamps(placed[i].t + offset_s, clock)
        names = ", ".join(repr(streams[i].name) for i in members)
        what = "Unix time" if clock == "Unix time" else "on another clock"
        notes.append(f"The stamps of {names} are {what}, not LSL time; {how}.")
    return placed, notes


def _how_moved(offset_s: float | None) -> str:
    mend = "let the sender stamp in LSL time"
    if offset_s is None:
        return f"nothing in the file tells how far apart the two are: {mend}"
    return f"they are moved by {offset_s:.1f} s, by when they were written, to half a second or so: {mend}"


def _clock_of(stream: StreamClock) -> ClockDomain:
    """Return the clock that the stamps of a stream are on: LSL if the offsets were measured near them."""
    if not stream.t.size:
        return "unknown"
    stamp = float(np.median(stream.t))
    if not stream.times.size:
        return "Unix time" if is_unix_time(stamp) else "LSL"
    outside_s = max(float(np.min(stream.times)) - stamp, stamp - float(np.max(stream.times)), 0.0)
    return identify_clock(outside_s, stamp, _BUFFERED_S)


def _estimate_offset(
    streams: Sequence[StreamClock], stamps: Sequence[FloatArray], members: Sequence[int], ours: Sequence[int]
) -> float | None:
    """Return the seconds that bring a foreign clock to the recorder's, by the order of the file; None if unknown.

    A block of samples was received before whatever was written behind it. So each one bounds the offset from above, and
    the lowest bounds belong to samples that came without delay.

    Args:
        streams: All streams of the file.
        stamps: Their stamps in seconds; those of ``ours`` on the recorder's clock.
        members: Indices of the streams on the foreign clock.
        ours: Indices of the streams on the recorder's clock.
    """
    order, time = [np.empty(0, dtype=np.intp)], [np.empty(0)]  # of what tells the recorder's time
    for i in ours:
        ends = streams[i].block_ends
        whole = ends > np.concatenate([[0], ends[:-1]])
        order.append(streams[i].block_order[whole])
        time.append(stamps[i][ends[whole] - 1])
    for stream in streams:
        order.append(stream.offset_order)
        time.append(stream.times + stream.offsets)
    known_order, known_time = np.concatenate(order), np.concatenate(time)
    sort = np.argsort(known_order)
    known_order, known_time = known_order[sort], known_time[sort]
    bounds: list[FloatArray] = []
    for i in members:
        ends = streams[i].block_ends
        whole = ends > np.concatenate([[0], ends[:-1]])
        behind = np.searchsorted(known_order, streams[i].block_order[whole])
        inside = behind < known_order.size
        bounds.append(known_time[behind[inside]] - stamps[i][ends[whole][inside] - 1])
    together = np.concatenate(bounds)
    return float(np.quantile(together, _ARRIVAL_QUANTILE)) if together.size >= _LEAST_BOUNDS else None


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
    """The offset of one run of a clock as a line: ``offset + drift * (t - centre)``.

    Beyond the times at which offsets were measured, and some seconds more, the drift is not extrapolated.
    """

    centre: float  # s
    offset: float  # s to add
    drift: float  # s per s
    first: float = -np.inf  # s, from where on the drift is known
    last: float = np.inf  # s, up to where

    def __call__(self, t: FloatArray) -> FloatArray:
        """Return stamps (n,) corrected to seconds of the recorder's clock."""
        known = np.clip(t, self.first, self.last)
        return t + (self.offset + self.drift * (known - self.centre))


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
    offset = float(np.median(offsets - drift * (times - centre)))
    return ClockLine(centre, offset, drift, float(np.min(times)) - _NEAR_S, float(np.max(times)) + _NEAR_S)


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
