"""The clock of the samples of one segment: an affine map from a sample's index to its time, fitted to late stamps.

``SampleClock`` fits the map. A stamp can be late (its chunk was pushed late) but hardly early, so where stamps scatter
widely the line goes through the lowest of them; where they scatter little it goes through their middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.pipeline.rate import TWO_SIDED_S, find_arrivals
from clmer_streaming.types import FloatArray

_BLOCK_S = 0.25  # s between two fits
_MEMORY_BLOCKS = 120  # 30 s of stamps in a fit
_MOST_CELLS = 32  # observations kept of a block; at higher rates means of several stamps
_STAMP_SD_S = 0.005  # s, least standard deviation of a stamp in the fit
_PERIOD_SD = 0.002  # relative SD of the true period about the nominal one; rates seen differ by up to 0.4 %
_LEAST_PERIOD_SD = 1e-4  # least relative SD about the period of the last ten minutes
_LONG_BLOCKS = 20  # 5 s of stamps, of which the lowest is remembered
_LONG_POINTS = 120  # ten minutes of such stamps
_LEAST_LONG = 4  # of them that show a period
_LOWEST_SD = 0.25  # spreads, standard deviation of the lowest stamp of 5 s
_PERIOD_BOUND = 0.01  # a fitted period stays within 1 % of the nominal one
_KNOWN_BLOCKS = 8  # 2 s of stamps, after which their spread is known
_LOOK_BLOCKS = 8  # 2 s between two looks at the arrivals, behind the first four
_UNKNOWN_SPREAD_S = 0.05  # s, assumed before
_LOW = 0.05  # quantile from which the spread is measured
_FITTED_SHARE = 0.015  # of the stamps that are fitted where lateness scatters widely: those in time
_ONE_SIDED_S = 0.012  # s of spread from which the lowest stamps alone are fitted; up to TWO_SIDED_S all are
_DOUBT_S = 0.002  # s by which the spread of few stamps may be too large
_SKEWED = (2.0, 3.0)  # the same by the ratio of the upper to the lower spread: 1 if normal, 3.6 for delays
_NEGLIGIBLE_S = 0.001  # s of spread, up to which it does not matter
_TRIM, _LEAST_TRIM_S = 4.0, 0.01  # spreads, and s, beyond which a stamp does not enter the fit
_FORWARD_S = 0.004  # s by which a fit moves the line on at most; stamps further ahead are late, or behind a loss
_MIN_UNIT_S = 1 / 16  # s; stamps nearer to each other than this are no independent observations
_LONGEST_CHUNK_S = 2.5  # s; stamps that are even for longer come from the sender's own clock


@dataclass
class _ClockState:
    map_n: int = 0  # sample index at which the current map begins
    map_t: float = 0.0  # s, its time
    map_period: float = 0.0  # s per sample of the current map
    line_n: float = 0.0  # sample index in the middle of the fitted line
    line_t: float = 0.0  # s, its time
    period: float = 0.0  # s per sample of the line
    spread: float = _UNKNOWN_SPREAD_S  # s from the lowest stamps to their median
    prior: float = 0.0  # s per sample, of the last minutes
    prior_sd: float = _PERIOD_SD  # relative, of the true period about it
    long_n: FloatArray = field(default_factory=lambda: np.empty(0))  # (k,) index of the lowest stamp of each 5 s
    long_t: FloatArray = field(default_factory=lambda: np.empty(0))  # (k,) s, that stamp
    n_blocks: int = 0
    pending: list[FloatArray] = field(default_factory=list)  # stamps of the block under way
    n: FloatArray = field(default_factory=lambda: np.empty(0))  # (m,) index of each observation
    t: FloatArray = field(default_factory=lambda: np.empty(0))  # (m,) s, its stamp
    unit: int = 1  # samples of an independent observation
    even: bool = False  # whether the stamps are even for longer than any chunk


class SampleClock:
    """Gives each sample of a segment its time by an affine map, fixed when the sample is pushed.

    The line is fitted every 0.25 s to the stamps of the last 30 s, by least squares with a normal prior on the period
    about the nominal one. The map of a block follows the line; where the line turns out to be earlier, samples are
    counted up to twice as fast until they have met it, so that time never runs backward. The map is constant within a
    block, so that no chunking can change a bit.

    Args:
        sfreq: Nominal rate in Hz.
        t0: Time of the segment's first sample in seconds.
        period: Period to begin with in seconds, from an earlier segment; the nominal one if None.
        spread_s: Spread of the stamps in seconds, from an earlier segment; None while unknown.
    """

    def __init__(self, sfreq: float, t0: float, period: float | None = None, spread_s: float | None = None) -> None:
        self._nominal = 1.0 / sfreq
        self._prior = period or self._nominal
        self.block = max(2, round(_BLOCK_S * sfreq))
        self._cell = -(-self.block // _MOST_CELLS)  # samples of one observation
        self._index = np.arange(self.block)
        self._state = _ClockState(
            map_t=t0,
            map_period=self._prior,
            line_t=t0,
            period=self._prior,
            prior=self._prior,
            spread=_UNKNOWN_SPREAD_S if spread_s is None else spread_s,
        )
        self._least_unit = self._state.unit = max(1, round(_MIN_UNIT_S * sfreq))
        self.n = 0  # samples so far

    @property
    def period(self) -> float:
        """Seconds per sample of the fitted line."""
        return self._state.period

    @property
    def settled(self) -> bool:
        """Whether the period is based on stamps (10 s of them) rather than on its prior."""
        return self._state.n_blocks * _BLOCK_S >= 10.0

    @property
    def spread_known(self) -> bool:
        """Whether the spread was measured in this segment (2 s of stamps)."""
        return self._state.n_blocks >= _KNOWN_BLOCKS

    @property
    def spread_s(self) -> float:
        """Seconds from the lowest stamps to their median, about the line."""
        return self._state.spread

    @property
    def n_left(self) -> int:
        """Number of samples until the next fit."""
        return self._state.map_n + self.block - self.n

    @property
    def t_next(self) -> float:
        """Time of the next sample by the current map, in seconds."""
        state = self._state
        return state.map_t + (self.n - state.map_n) * state.map_period

    @property
    def t_expected(self) -> float:
        """Time of the next sample by the fitted line, in seconds."""
        state = self._state
        return state.line_t + (self.n - state.line_n) * state.period

    def lateness(self, stamps: FloatArray) -> FloatArray:
        """Return by how many seconds the stamps (n,) of the next samples are later than the line."""
        index = self._index[: stamps.size] if stamps.size <= self.block else np.arange(stamps.size)
        state = self._state
        late: FloatArray = stamps - (state.line_t + (self.n - state.line_n + index) * state.period)
        return late

    def offset_s(self, late: FloatArray) -> float:
        """Return the offset from the line in seconds that stamps have in common which are later by ``late`` (n,)."""
        return float(np.median(late) if self._state.spread <= TWO_SIDED_S else np.min(late))

    def advance(self, stamps: FloatArray) -> FloatArray:
        """Count samples and return their times by the current map.

        Args:
            stamps: (n,) seconds, at most ``n_left`` of them; NaN for an invented sample.

        Returns:
            (n,) seconds.
        """
        state = self._state
        t: FloatArray = state.map_t + (self.n - state.map_n + self._index[: stamps.size]) * state.map_period
        state.pending.append(stamps)
        self.n += stamps.size
        if self.n_left == 0:
            self._observe()
            if state.n.size:
                self._fit()
            self._begin_map(float(t[-1]))
        return t

    def _observe(self) -> None:
        """Add the block's stamps to the observations, and drop those that are too old."""
        state = self._state
        stamps, index = np.concatenate(state.pending), state.map_n + self._index
        state.pending = []
        finite = np.isfinite(stamps)
        if not finite.all():
            stamps, index = stamps[finite], index[finite]
        n: FloatArray = index.astype(np.float64)
        if self._cell > 1 and stamps.size:
            first = np.flatnonzero(np.diff(index // self._cell, prepend=-1))
            counts = np.diff(first, append=stamps.size)
            n, stamps = np.add.reduceat(n, first) / counts, np.add.reduceat(stamps, first) / counts
        oldest = int(np.searchsorted(state.n, self.n - _MEMORY_BLOCKS * self.block))
        state.n = np.concatenate([state.n[oldest:], n])
        state.t = np.concatenate([state.t[oldest:], stamps])
        state.n_blocks += 1
        if stamps.size and (state.n_blocks <= 2 * _LOOK_BLOCKS or state.n_blocks % _LOOK_BLOCKS == 0):
            self._look_at_arrivals()

    def _fit(self) -> None:
        """Fit the line to the observations, and measure their spread."""
        state = self._state
        n, t = state.n, state.t
        residual = t - (state.line_t + (n - state.line_n) * state.period)
        low, middle, high = _quantiles(residual)
        if middle - low > _NEGLIGIBLE_S:
            detrended = t - _line(n, *self._least_squares(n, t, _STAMP_SD_S))
            quantiles = _quantiles(detrended)
            if quantiles[1] - quantiles[0] < 0.5 * (middle - low):  # the slope of the line was wrong
                residual, (low, middle, high) = detrended, quantiles
        spread = middle - low
        trim = max(_TRIM * spread, _LEAST_TRIM_S)
        kept = (residual >= low - trim) & (residual <= middle + trim)
        doubt_s = 0.0 if self.spread_known else _DOUBT_S
        wide = _ramp(spread - doubt_s, TWO_SIDED_S, _ONE_SIDED_S)
        shaped = self.spread_known and spread > _NEGLIGIBLE_S
        skewed = _ramp((high - middle) / spread, *_SKEWED) if shaped else 0.0
        chunked = self.unit > self._least_unit  # a push is late, but never early
        one_sided = 1.0 if chunked else max(wide, skewed)
        if one_sided > 0:
            k = max(1, round((1.0 - (1.0 - _FITTED_SHARE) * one_sided) * residual.size)) - 1
            kept &= residual <= np.partition(residual, k)[k]
        if state.n_blocks % _LONG_BLOCKS == 0:
            self._remember(residual)
        if kept.any():
            together = 1.0 + one_sided * (self.unit / self._cell - 1.0)  # stamps of a chunk are one observation
            sd_s = max(_STAMP_SD_S, spread) * math.sqrt(together)
            before = self.t_expected
            state.line_n, state.line_t, state.period = self._least_squares(n[kept], t[kept], sd_s)
            state.line_t -= max(0.0, self.t_expected - before - _FORWARD_S)
        if self.spread_known:
            state.spread = spread

    def _remember(self, residual: FloatArray) -> None:
        """Keep the lowest of the latest stamps, and measure the period of the last minutes by those kept.

        Args:
            residual: (m,) seconds of the observations above the line.
        """
        state = self._state
        first = int(np.searchsorted(state.n, self.n - _LONG_BLOCKS * self.block))
        if first == residual.size:
            return
        lowest = first + int(np.argmin(residual[first:]))
        state.long_n = np.append(state.long_n[1 - _LONG_POINTS :], state.n[lowest])
        state.long_t = np.append(state.long_t[1 - _LONG_POINTS :], state.t[lowest])
        if state.long_n.size >= _LEAST_LONG:
            state.prior, state.prior_sd = self._prior, _PERIOD_SD
            sd_s = max(_STAMP_SD_S, _LOWEST_SD * state.spread)
            _, _, state.prior = self._least_squares(state.long_n, state.long_t, sd_s)
            centred = state.long_n - np.mean(state.long_n)
            precision = float(centred @ centred) / sd_s**2 + 1 / (_PERIOD_SD * self._nominal) ** 2
            state.prior_sd = max(_LEAST_PERIOD_SD, 1 / (math.sqrt(precision) * self._nominal))

    def _least_squares(self, n: FloatArray, t: FloatArray, sd_s: float) -> tuple[float, float, float]:
        """Return the line through stamps: middle index, its time in seconds, and seconds per sample."""
        n_mean, t_mean = float(np.add.reduce(n)) / n.size, float(np.add.reduce(t)) / t.size
        centred = n - n_mean
        state = self._state
        weight, prior_weight = 1 / sd_s**2, 1 / (state.prior_sd * self._nominal) ** 2
        s_nn = weight * float(centred @ centred)
        s_nt = weight * float(centred @ (t - t_mean))
        period = (s_nt + prior_weight * state.prior) / (s_nn + prior_weight)
        bound = _PERIOD_BOUND * self._nominal
        return n_mean, t_mean, min(max(period, self._nominal - bound), self._nominal + bound)

    def _begin_map(self, t_last: float) -> None:
        """Begin the map of the next block behind a sample at ``t_last`` seconds."""
        state = self._state
        period = state.period
        state.map_n, state.map_t, state.map_period = self.n, self.t_expected, period
        if state.map_t < t_last + 0.5 * period:
            t_end = state.map_t + (self.block - 1) * period
            state.map_period = max(0.5 * period, (t_end - t_last) / self.block)
            state.map_t = t_last + state.map_period

    def share_later(self, late_s: float, before: int) -> tuple[float, float]:
        """Return how many independent observations were at least so late, and how many there are.

        Args:
            late_s: Seconds later than the line.
            before: Index of the sample before which observations count.
        """
        state = self._state
        stop = int(np.searchsorted(state.n, before))
        late = state.t[:stop] - (state.line_t + (state.n[:stop] - state.line_n) * state.period)
        per_unit = self.unit / self._cell
        return float(np.count_nonzero(late >= late_s)) / per_unit, stop / per_unit

    @property
    def unit(self) -> int:
        """Number of samples that are one independent observation: the usual chunk, or 1/16 s."""
        return self._state.unit

    @property
    def is_even(self) -> bool:
        """Whether the stamps are so even that they tell nothing of the chunks in which samples come."""
        return self._state.even

    def _look_at_arrivals(self) -> None:
        """Find the usual chunk: that of the middle sample, when arrivals are put in the order of their length."""
        state = self._state
        edges = np.append(np.flatnonzero(find_arrivals(state.t)), state.t.size)
        lengths = np.sort(np.diff(edges))
        usual = int(lengths[np.searchsorted(np.cumsum(lengths), 0.5 * state.t.size)]) * self._cell
        state.even = usual * self._nominal > _LONGEST_CHUNK_S
        state.unit = self._least_unit if state.even else max(self._least_unit, usual)


def _line(n: FloatArray, n_mean: float, t_mean: float, period: float) -> FloatArray:
    line: FloatArray = t_mean + (n - n_mean) * period
    return line


def _quantiles(residual: FloatArray) -> tuple[float, float, float]:
    """Return the low quantile, the median and the high quantile of residuals (m,)."""
    low, middle = int(_LOW * (residual.size - 1)), (residual.size - 1) // 2
    high = residual.size - 1 - low
    ordered = np.partition(residual, (low, middle, high))
    return float(ordered[low]), float(ordered[middle]), float(ordered[high])


def _ramp(value: float, begin: float, end: float) -> float:
    """Return 0 up to ``begin``, 1 from ``end`` on, and the linear way between."""
    return min(1.0, max(0.0, (value - begin) / (end - begin)))
