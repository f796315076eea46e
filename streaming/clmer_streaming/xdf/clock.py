"""The clocks of the streams in an XDF file: from the senders' stamps to the recorder's clock.

``place_streams`` does it for all streams of a file; ``synchronise`` applies the clock offsets of one, and
``measure_clock`` judges them. The offsets were measured on the LSL clock of each sender. Stamps that are on another
clock, such as Unix time, get none of them: where the file has streams on both, the foreign ones are moved by one
constant, from the order in which the file was written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from clmer_streaming.clock import FAR_S, ClockDomain, identify_clock, is_unix_time
from clmer_streaming.types import FloatArray, IndexArray

_RESET_S = 1.0  # s; a smaller step of the offset is drift or a bad measurement
_NEAR_S = 10.0  # s, two intervals of measurement; a run of a clock has samples this near
_MAX_DRIFT = 1e-3  # s per s, ten times that of the worst crystals
_MAX_FITTED = 1000  # offsets; the cost of a fit grows with their square
_OUTLIER_S = 0.005  # s, least distance of an outlier from the line; a quiet network measures to 0.1 ms
_OUTLIER_MADS = 10.0  # least distance in median deviations from the line
_LEAST_DRIFT = 4  # offsets from which a drift can be estimated
_BUFFERED_S = 600.0  # s for which samples may have waited before the clock was measured; LabRecorder buffers 360
_NEIGHBOURS = 5  # offsets in the order of the file, by whose median a bad one shows
_LATE_QUANTILE = 0.95  # of the lateness of a stream's blocks behind the last offset
_ARRIVAL_QUANTILE = 0.05  # of the bounds on an offset from the order of the file; delays are one-sided
_LEAST_BOUNDS = 2  # blocks of foreign stamps with a time of the recorder behind them
_WRITTEN_EACH_S = 0.5  # s between two blocks of a stream, as LabRecorder writes


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
    measured = _measured_times(streams)
    clocks = [_clock_of(stream, measured) for stream in streams]
    placed = [
        PlacedStamps(synchronise(stream.t, stream.times, stream.offsets) if clock == "LSL" else stream.t.copy(), clock)
        for stream, clock in zip(streams, clocks, strict=True)
    ]
    ours = [i for i, clock in enumerate(clocks) if clock == "LSL"]
    groups = _group_foreign(streams, clocks)
    written = _written_times(streams, placed, ours, measured) if groups else None
    notes = []
    for members in groups:
        offset_s, how = 0.0, "they are taken as they are"
        if ours or len(groups) > 1:
            known_s = None if written is None else _estimate_offset([streams[i] for i in members], written)
            offset_s, how = known_s or 0.0, _how_moved(known_s)
        for i in members:
            placed[i] = PlacedStamps(placed[i].t + offset_s, clocks[i])
        names = ", ".join(repr(streams[i].name) for i in members)
        what = "Unix time" if clocks[members[0]] == "Unix time" else "on another clock"
        notes.append(f"The stamps of {names} are {what}, not LSL time; {how}.")
        n_hosts = len({streams[i].hostname for i in members})
        if n_hosts > 1:
            notes.append(f"They come from {n_hosts} computers, and fit together as well as the clocks of these agree.")
    return placed, notes


def _how_moved(offset_s: float | None) -> str:
    mend = "let the sender stamp in LSL time"
    if offset_s is None:
        return f"nothing in the file tells how far apart the two are: {mend}"
    return f"they are moved by {offset_s:.1f} s, by when they were written, to half a second or so: {mend}"


def _group_foreign(streams: Sequence[StreamClock], clocks: Sequence[ClockDomain]) -> list[list[int]]:
    """Return the indices of the streams on each foreign clock.

    Unix time is one clock, whatever the host. Other stamps of one host are on one clock if they are of the same time;
    else each device counts on its own.
    """
    unix = [i for i, clock in enumerate(clocks) if clock == "Unix time"]
    groups = [unix] if unix else []
    others: list[list[int]] = []
    for i, stream in enumerate(streams):
        if clocks[i] == "other":
            group = next((group for group in others if any(_is_near(streams[k], stream) for k in group)), None)
            if group is None:
                others.append([i])
            else:
                group.append(i)
    return groups + others


def _is_near(a: StreamClock, b: StreamClock) -> bool:
    """Return whether two streams with samples are of one host and of the same time by their own stamps."""
    apart_s = max(float(np.min(a.t) - np.max(b.t)), float(np.min(b.t) - np.max(a.t)))
    return a.hostname == b.hostname and apart_s <= FAR_S


def _clock_of(stream: StreamClock, measured: _WriteTimes | None) -> ClockDomain:
    """Return the clock that the stamps of a stream are on.

    It is LSL's if offsets were measured near them, or if they are near the time at which they were written.
    """
    if not stream.t.size:
        return "unknown"
    stamp = float(np.median(stream.t))
    if is_unix_time(stamp) and not (stream.times.size and is_unix_time(float(np.median(stream.times)))):
        return "Unix time"
    if not stream.times.size:
        return "LSL"
    apart_s = max(float(np.min(stream.times) - np.max(stream.t)), float(np.min(stream.t) - np.max(stream.times)), 0.0)
    if apart_s <= FAR_S:
        return "LSL"
    behind_s = math.nan if measured is None else _behind(stream, measured)
    return identify_clock(apart_s, stamp, _BUFFERED_S) if math.isnan(behind_s) else identify_clock(behind_s, stamp)


def _behind(stream: StreamClock, measured: _WriteTimes) -> float:
    """Return by how many seconds the stamps are behind the time of writing; NaN where that is not known."""
    order, last = _blocks(stream, synchronise(stream.t, stream.times, stream.offsets))
    before, after = measured.around(order)
    known = np.isfinite(before) & np.isfinite(after)
    behind = np.maximum(before - last, 0.0) + np.minimum(after - last, 0.0)
    return float(np.median(behind[known])) if known.any() else math.nan


def _blocks(stream: StreamClock, t: FloatArray) -> tuple[IndexArray, FloatArray]:
    """Return the running numbers (b,) of the blocks that have samples, and the last of the stamps ``t`` in each."""
    whole = np.diff(stream.block_ends, prepend=0) > 0
    return stream.block_order[whole], t[stream.block_ends[whole] - 1]


@dataclass(frozen=True, eq=False)
class _WriteTimes:
    """When some entries of a file were written."""

    order: IndexArray  # (k,) running numbers, ascending
    t: FloatArray  # (k,) s of the recorder's clock, ascending

    def around(self, order: IndexArray) -> tuple[FloatArray, FloatArray]:
        """Return the last time known before each entry (b,), and the first behind it; infinite where there is none."""
        at = np.searchsorted(self.order, order)
        padded = np.concatenate([[-np.inf], self.t, [np.inf]])
        return padded[at], padded[at + 1]


def _in_order(order: IndexArray, t: FloatArray) -> _WriteTimes | None:
    """Return times of entries; None if the file was not written in the order of time, as by a converter."""
    sort = np.argsort(order)
    order, t = order[sort], t[sort]
    if np.any(np.diff(t) < -FAR_S):
        return None
    return _WriteTimes(order, np.maximum.accumulate(t))


def _measured_times(streams: Sequence[StreamClock]) -> _WriteTimes | None:
    """Return when the offsets were measured, which is when they were written; None if not in the order of time."""
    order = np.concatenate([np.empty(0, dtype=np.intp), *(stream.offset_order for stream in streams)])
    t = np.concatenate([np.empty(0), *(stream.times + stream.offsets for stream in streams)])
    sort = np.argsort(order)
    order, t = order[sort], t[sort]
    usual = median_filter(t, _NEIGHBOURS, mode="nearest") if t.size else t
    good = np.abs(t - usual) <= FAR_S  # false for the few that were not initialised
    return _in_order(order[good], t[good])


def _written_times(
    streams: Sequence[StreamClock], placed: Sequence[PlacedStamps], ours: Sequence[int], measured: _WriteTimes | None
) -> _WriteTimes | None:
    """Return when entries were written, by the offsets and by the samples of the steady streams in LSL time.

    Samples that are late as a rule are taken to be as late as the offsets before them show.
    """
    if measured is None:
        return None
    orders, times = [measured.order], [measured.t]
    for i in ours:
        order, last = _blocks(streams[i], placed[i].t)
        seldom = last.size < 2 or float(np.median(np.diff(last))) > 2 * _WRITTEN_EACH_S
        if seldom and measured.order.size:  # such as markers, which may have waited for the next writing
            continue
        before, after = measured.around(order)
        known = np.isfinite(before)
        late_s = float(np.quantile((before - last)[known], _LATE_QUANTILE)) if known.any() else 0.0
        orders.append(order)
        times.append(np.clip(last + max(late_s, 0.0), before, after))
    return _in_order(np.concatenate(orders), np.concatenate(times))


def _estimate_offset(streams: Sequence[StreamClock], written: _WriteTimes) -> float | None:
    """Return the seconds that bring streams of one foreign clock to the recorder's clock; None if unknown.

    A block of samples was received before whatever is written behind it. So each one bounds the offset from above, and
    the lowest bounds belong to samples that came without delay.

    Args:
        streams: The streams.
        written: When the entries of the file were written.
    """
    blocks = [_blocks(stream, stream.t) for stream in streams]
    last = np.concatenate([t for _, t in blocks])
    before, after = written.around(np.concatenate([order for order, _ in blocks]))
    known = np.isfinite(after)
    bounds, between = (after - last)[known], np.minimum(after - before, _WRITTEN_EACH_S)[known]
    if bounds.size < _LEAST_BOUNDS:
        return None
    lowest = float(np.quantile(bounds, _ARRIVAL_QUANTILE))
    if float(np.median(bounds)) - lowest > FAR_S:  # the order of the file is not that of time
        return None
    return lowest - float(np.median(between[bounds <= lowest])) / 2


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
