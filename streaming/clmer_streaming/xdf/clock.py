"""The clocks of the streams in an XDF file: from the sender's stamps to the recorder's clock.

``synchronise`` applies the clock offsets of one stream; ``measure_clock`` judges them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FloatArray

_RESET_S = 1.0  # s; a smaller step of the offset is drift or a bad measurement
_NEAR_S = 10.0  # s, two intervals of measurement; a run of a clock has samples this near
_MAX_DRIFT = 1e-3  # s per s, ten times that of the worst crystals
_MAX_FITTED = 1000  # offsets; the cost of a fit grows with their square
_OUTLIER_S = 0.005  # s, least distance of an outlier from the line; a quiet network measures to 0.1 ms
_OUTLIER_MADS = 10.0  # least distance in median deviations from the line
_LEAST_DRIFT = 4  # offsets from which a drift can be estimated


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
