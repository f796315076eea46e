"""How well a recorded stream's clock is known: its offsets, its drift, and which of them are wild."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.clock_sync import clock_runs, fit_clock

_LEAST_WILD_S = 0.005  # s off the line; a quiet network measures to 0.1 ms
_WILD_MADS = 10.0  # times the median deviation from the line
_LEAST_DRIFT = 4  # offsets from which a drift can be told


@dataclass(frozen=True)
class ClockHealth:
    """The clock of one stream against the recorder's."""

    n_offsets: int
    offset_s: float  # seconds to add to its stamps, in the middle of the longest run; 0 without offsets
    n_outliers: int  # offsets that are far from the line of their run
    n_restarts: int
    drift_ppm: float | None  # of the longest run; positive where the stream's clock is slow; None where unknown


def measure_clock(t: FloatArray, times: FloatArray, offsets: FloatArray) -> ClockHealth:
    """Return how well a clock is known.

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
    n_tame = sum(_n_tame(times[run], offsets[run]) for run in runs)
    drift = 1e6 * line.drift if longest.size >= _LEAST_DRIFT else None
    return ClockHealth(times.size, line.offset, times.size - n_tame, len(runs) - 1, drift)


def _n_tame(times: FloatArray, offsets: FloatArray) -> int:
    line = fit_clock(times, offsets)
    off = np.abs(offsets - (line(times) - times))
    return int(np.count_nonzero(off <= max(_LEAST_WILD_S, _WILD_MADS * float(np.median(off)))))
