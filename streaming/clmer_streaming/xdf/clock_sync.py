"""Bringing a stream's stamps to the recorder's clock, by the clock offsets that the recorder measured.

Stamps are moved, never smoothed: the correction is one straight line per run of the stream's clock. Offsets
are measured every 5 s or so, each at a time of the *stream's* clock (what LabRecorder writes: its own clock
less the offset), so a restarted clock shows in the times and in the offsets at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FloatArray

_RESET_S = 1.0  # s; a smaller step of the offset is drift or a bad measurement
_NEAR_S = 10.0  # s; two intervals of measurement: a run of a clock has samples this near, or was never one
_MAX_DRIFT = 1e-3  # s per s; ten times what the worst crystals do
_MAX_FITTED = 1000  # offsets; more make the line no better, and its cost grows with their square


@dataclass(frozen=True, slots=True)
class ClockLine:
    """The offset of one run of a clock: ``offset + drift * (t - centre)``."""

    centre: float  # s
    offset: float  # s to add
    drift: float  # s per s

    def __call__(self, t: FloatArray) -> FloatArray:
        """Return the corrected stamps, (n,) seconds of the recorder's clock."""
        return t + (self.offset + self.drift * (t - self.centre))


def synchronise(t: FloatArray, times: FloatArray, offsets: FloatArray) -> FloatArray:
    """Return stamps on the recorder's clock.

    Args:
        t: (n,) stamps in seconds of the stream's clock, in file order.
        times: (m,) when each offset was measured, in seconds of the stream's clock.
        offsets: (m,) seconds to add to the stream's clock; the odd wild value does no harm.
    """
    if not t.size or not times.size:
        return t.copy()
    runs = clock_runs(t, times, offsets)
    cuts = _cuts(t, [times[run] for run in runs])
    synced = np.empty_like(t)
    for run, start, stop in zip(runs, [0, *cuts], [*cuts, t.size], strict=True):
        synced[start:stop] = fit_clock(times[run], offsets[run])(t[start:stop])
    return synced


def fit_clock(times: FloatArray, offsets: FloatArray) -> ClockLine:
    """Return the line through the offsets by the median of all pairwise slopes (Theil 1950, Sen 1968).

    Up to 29 % of the offsets may be wild. A drift that no clock has is taken for none.
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
    """Return which offsets belong to each run of the clock, in order; at least one run.

    Where a clock restarts, the times of measurement step with the offsets; where only the offset steps, the
    measurement was bad.
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

    A cut lies where the samples before it come nearest to the end of one run, and those behind it to the
    beginning of the next.
    """
    cuts: list[int] = []
    start = 0
    for before, after in pairwise(run_times):
        to_end = np.concatenate([[0.0], np.abs(t[start:] - before[-1])])
        to_begin = np.concatenate([np.abs(t[start:] - after[0]), [0.0]])
        start += int(np.argmin(to_end + to_begin))
        cuts.append(start)
    return cuts
