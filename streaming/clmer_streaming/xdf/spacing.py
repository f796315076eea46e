"""How the samples of a whole recorded stream lie in time: rate, gaps, steps back.

Stamps are taken as they are: bursts, staircases and jitter are usual. A gap is an offset that lasts: every
sample of the quarter of a second behind it lies later than every one before it, beyond the time that their
count explains. One odd stamp is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from clmer_streaming.types import FloatArray, IndexArray

SHORTEST_GAP_S = 0.1
"""Seconds; shorter losses are bridged by the signal path, and counted here as short."""

_LEAST_LOSS_S = 0.03  # s, and three samples: less cannot be told from jitter, as in the timeline
_CONFIRM_S = 0.25  # s on both sides for which an offset must last, as in the timeline
_LEAST_SIDE = 3  # samples on each side of a gap
_FIRST_SPAN_S, _RATE_SPAN_S = 1.0, 10.0  # s over which a measurement of the rate goes, before and behind the gaps
_MOST_RATES = 10_000  # measurements; more make the median no better
_STEADY = 0.05  # relative interquartile range of the rate up to which a stream is steady
_LEAST_PERIOD_S = 1e-6  # s; stamps nearer to each other than this tell no rate
_LEAST_STEADY = 20  # samples, of an irregular stream whose rate can be called steady
_SLOWEST_STEADY_HZ = 4.0  # of such a stream; what comes seldom is an event


@dataclass(frozen=True)
class Spacing:
    """Where the samples of one stream lie."""

    rate_hz: float  # effective rate between gaps; 0 where it cannot be told
    steady: bool  # whether the samples keep a rate at all
    gaps: tuple[tuple[float, float], ...]  # (stamp before, seconds from there to the next sample) of each gap
    n_short_losses: int  # places where samples are missing for less than a gap
    n_back_jumps: int  # places where the clock went back for good
    n_steps_back: int  # stamps that lie before the one in front of them
    step_back_s: float  # the largest such step
    n_bunched: int  # stamps that follow within a tenth of the period, as where a burst was stamped on arrival


def measure_spacing(t: FloatArray, nominal_hz: float) -> Spacing:
    """Return how the stamps (n,) of a stream lie, in seconds and in the order of the file.

    Args:
        t: Finite stamps.
        nominal_hz: Declared rate; 0 for an irregular stream, which has gaps only where it turns out steady.
    """
    steps = np.diff(t)
    period, steady = _period(t, nominal_hz)
    losses: list[tuple[int, float]] = []
    n_back_jumps = 0
    if steady:
        residual = t - period * np.arange(t.size)
        losses, n_back_jumps = _losses(residual, period), int(_back_jumps(residual, period).size)
        period = _period_between(t, losses, period)
    gaps = tuple((float(t[i]), lost_s + period) for i, lost_s in losses if lost_s > SHORTEST_GAP_S)
    return Spacing(
        rate_hz=1.0 / period if period >= _LEAST_PERIOD_S else 0.0,
        steady=steady,
        gaps=gaps,
        n_short_losses=len(losses) - len(gaps),
        n_back_jumps=n_back_jumps,
        n_steps_back=int(np.count_nonzero(steps < 0)),
        step_back_s=float(max(0.0, -np.min(steps, initial=0.0))),
        n_bunched=int(np.count_nonzero(steps < 0.1 * period)),
    )


def _period(t: FloatArray, nominal_hz: float) -> tuple[float, bool]:
    """Return the seconds per sample, and whether they are the same throughout."""
    if t.size < 2:
        return 0.0, False
    mean_s = max(0.0, float(t[-1] - t[0]) / (t.size - 1))
    guess_hz = nominal_hz or (1.0 / mean_s if mean_s > 0 else 0.0)
    periods = _periods(t, _FIRST_SPAN_S * guess_hz)
    low, period, high = (float(v) for v in np.percentile(periods, [25, 50, 75]))
    if period < _LEAST_PERIOD_S:
        return mean_s, False
    even = t.size >= _LEAST_STEADY and high - low <= _STEADY * period < _STEADY / _SLOWEST_STEADY_HZ
    return (period, True) if nominal_hz or even else (mean_s, False)


def _period_between(t: FloatArray, losses: list[tuple[int, float]], period: float) -> float:
    """Return the seconds per sample when all losses are taken out."""
    lost = np.zeros(t.size)
    for i, lost_s in losses:
        lost[i + 1] += lost_s
    refined = float(np.median(_periods(t - np.cumsum(lost), _RATE_SPAN_S / period)))
    return refined if refined > _LEAST_PERIOD_S else period


def _periods(t: FloatArray, lag: float) -> FloatArray:
    """Return measurements of the seconds per sample over ``lag`` samples, or half of all there are."""
    n = int(max(1, min(t.size // 2, lag)))
    first = np.arange(0, t.size - n, max(1, (t.size - n) // _MOST_RATES))
    periods: FloatArray = (t[first + n] - t[first]) / n
    return periods


def _side(residual: FloatArray, period: float) -> int:
    return min(max(_LEAST_SIDE, round(_CONFIRM_S / period)), max(_LEAST_SIDE, residual.size))


def _losses(residual: FloatArray, period: float) -> list[tuple[int, float]]:
    """Return behind which sample each loss is and how many seconds it took beyond the usual period."""
    step = _ahead(residual, period, least=True) - _behind(residual, period, least=False)
    side, found = _side(residual, period), []
    for i in _inner(np.flatnonzero(step > max(_LEAST_LOSS_S, 3 * period)), residual.size).tolist():
        before, after = residual[max(0, i + 1 - side) : i + 1], residual[i + 1 : i + 1 + side]
        found.append((i, float(np.median(after) - np.median(before))))
    return found


def _back_jumps(residual: FloatArray, period: float) -> IndexArray:
    """Return behind which samples the clock goes back and stays there."""
    step = _ahead(residual, period, least=False) - _behind(residual, period, least=True)
    return _inner(np.flatnonzero(step < -max(SHORTEST_GAP_S, 3 * period)), residual.size)


def _ahead(residual: FloatArray, period: float, *, least: bool) -> FloatArray:
    """Return the least or largest residual of the samples behind each of the first n - 1."""
    return _behind(residual[::-1], period, least=least)[::-1]


def _behind(residual: FloatArray, period: float, *, least: bool) -> FloatArray:
    """Return the least or largest residual up to each of the first n - 1 samples, a quarter of a second back."""
    side = _side(residual, period)
    rank = minimum_filter1d if least else maximum_filter1d
    reached: FloatArray = rank(residual, size=side, origin=(side - 1) // 2, mode="nearest")
    return reached[:-1]


def _inner(index: IndexArray, n_samples: int) -> IndexArray:
    """Leave out what has too few samples on one side to be told from odd stamps."""
    return index[(index >= _LEAST_SIDE - 1) & (index < n_samples - _LEAST_SIDE)]
