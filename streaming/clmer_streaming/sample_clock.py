"""The affine map from sample index to time within one segment, fitted causally to the stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.types import FloatArray, IndexArray

_BLOCK_S = 0.25  # s between two fits
_MEMORY_BLOCKS = 120  # 30 s of stamps, that a fit looks back on
_STAMP_SD_S = 0.005  # s, of a block's mean stamp: what chunked delivery leaves after averaging
_PERIOD_SD = 0.005  # relative SD of the true period about its prior; rates seen differ by up to 0.4 %
_PERIOD_BOUND = 0.01  # a fitted period stays within 1 % of the nominal one
UNKNOWN_JITTER_S = 0.05
"""Jitter of the stamps in seconds that is assumed until enough blocks have been seen."""

_MIN_BLOCKS = 8


@dataclass
class _ClockState:
    anchor_n: int = 0  # sample index at which the current map begins
    anchor_t: float = 0.0  # s, its time
    period: float = 0.0  # s per sample of the current map
    pending: list[FloatArray] = field(default_factory=list)  # stamps of the block under way
    blocks: FloatArray = field(default_factory=lambda: np.empty((2, 0)))  # mean index and stamp (s) of each past block
    block_spread: deque[float] = field(default_factory=deque)  # s, largest residual of each past block
    jitter: float = UNKNOWN_JITTER_S  # s, 90th percentile of block_spread


class SampleClock:
    """Gives each sample of a segment a time on an affine map, fixed when the sample is pushed.

    The map is fitted anew every 0.25 s to the stamps of the last 30 s: least squares with a normal prior on
    the period about the nominal one. Within a block it stands still, so no chunking can change a bit.

    Args:
        sfreq: Nominal rate in Hz.
        t0: Stamp of the segment's first sample in seconds.
        period: Period to begin with in seconds, from an earlier segment; the nominal one if None.
        jitter: Of the stamps in seconds, from an earlier segment; None while unknown.
    """

    def __init__(self, sfreq: float, t0: float, period: float | None = None, jitter: float | None = None) -> None:
        self._nominal = 1.0 / sfreq
        self._prior = period or self._nominal
        self.block = max(2, round(_BLOCK_S * sfreq))
        self._index = np.arange(self.block)
        self._state = _ClockState(
            anchor_t=t0, period=self._prior, jitter=UNKNOWN_JITTER_S if jitter is None else jitter
        )
        self._state.block_spread = deque(maxlen=_MEMORY_BLOCKS)
        self.n = 0  # samples so far

    @property
    def period(self) -> float:
        """Seconds per sample of the current map."""
        return self._state.period

    @property
    def settled(self) -> bool:
        """Whether the period rests on stamps (10 s of them) rather than on its prior."""
        return self._state.blocks.shape[1] * _BLOCK_S >= 10.0

    @property
    def jitter(self) -> float:
        """Seconds by which stamps stray from the map: the 90th percentile of each block's largest residual."""
        return self._state.jitter

    @property
    def jitter_known(self) -> bool:
        """Whether the jitter was measured in this segment (2 s of stamps)."""
        return len(self._state.block_spread) >= _MIN_BLOCKS

    @property
    def room(self) -> int:
        """Samples until the map is fitted anew."""
        return self._state.anchor_n + self.block - self.n

    @property
    def t_next(self) -> float:
        """Time of the next sample by the current map, in seconds."""
        state = self._state
        return state.anchor_t + (self.n - state.anchor_n) * state.period

    def predict(self, n: int) -> FloatArray:
        """Return the times (n,) of the next samples by the current map, in seconds."""
        index = self._index[:n] if n <= self.block else np.arange(n)
        state = self._state
        t: FloatArray = state.anchor_t + (self.n - state.anchor_n + index) * state.period
        return t

    def advance(self, stamps: FloatArray) -> FloatArray:
        """Count samples and return their times.

        Args:
            stamps: (n,) seconds, at most ``room`` of them; NaN for a sample that was invented.

        Returns:
            (n,) seconds.
        """
        t = self.predict(stamps.size)
        self._state.pending.append(stamps)
        self.n += stamps.size
        if self.room == 0:
            self._fit(float(t[-1]))
        return t

    def _fit(self, t_last: float) -> None:
        state = self._state
        stamps, index = np.concatenate(state.pending), self._index
        measured = np.isfinite(stamps)
        if not measured.all():
            stamps, index = stamps[measured], index[measured]
        if stamps.size:
            residual = stamps - (state.anchor_t + index * state.period)
            means = [[_mean(state.anchor_n + index)], [_mean(stamps)]]
            state.blocks = np.concatenate([state.blocks[:, 1 - _MEMORY_BLOCKS :], means], axis=1)
            state.block_spread.append(float(np.max(np.abs(residual))))
            if self.jitter_known:
                state.jitter = _percentile(state.block_spread, 0.9)
        self._refit(t_last)
        state.pending = []

    def _refit(self, t_last: float) -> None:
        state = self._state
        n, t = state.blocks
        n_mean, t_mean = _mean(n), _mean(t)
        weight, prior_weight = 1 / _STAMP_SD_S**2, 1 / (_PERIOD_SD * self._nominal) ** 2
        s_nn = weight * float(np.add.reduce((n - n_mean) ** 2))
        s_nt = weight * float(np.add.reduce((n - n_mean) * (t - t_mean)))
        period = (s_nt + prior_weight * self._prior) / (s_nn + prior_weight)
        bound = _PERIOD_BOUND * self._nominal
        period = min(max(period, self._nominal - bound), self._nominal + bound)
        # Time never runs backward: a later map may lag, but not by more than half a sample at the seam.
        state.anchor_t = max(t_mean + period * (self.n - n_mean), t_last + 0.5 * period)
        state.anchor_n, state.period = self.n, period


def _mean(values: FloatArray | IndexArray) -> float:
    """Return what ``numpy.mean`` returns, to the bit, in half of the time for a few values."""
    return float(np.add.reduce(values)) / values.size


def _percentile(values: Iterable[float], share: float) -> float:
    """Return what ``numpy.percentile`` returns, to the bit, in a tenth of the time for a few values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    below = min(int(place), len(ordered) - 2)
    low, high, weight = ordered[below], ordered[below + 1], place - below
    return high - (high - low) * (1 - weight) if weight >= 0.5 else low + (high - low) * weight
