"""The timeline, which gives the samples of a stream their counted times, and finds and bridges losses.

A sample's time is an affine map of its index within a segment. A loss shows as a jump of the packet counter,
or as an offset of the stamps from the counted time that lasts; one odd stamp is no loss. Losses up to
``max_bridge_s`` are bridged by straight lines and marked; longer ones end the segment with a Gap.

``SampleClock`` fits the map; the stage ``Timeline`` uses it, and a ``LossCounter`` where there is a packet counter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from clmer_streaming.pipeline.rate import LossCounter, MeasuredRate
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, IndexArray, Item

_BLOCK_S = 0.25  # s between two fits
_MEMORY_BLOCKS = 120  # 30 s of stamps in a fit
_STAMP_SD_S = 0.005  # s, of a block's mean stamp: what chunked delivery leaves after averaging
_PERIOD_SD = 0.005  # relative SD of the true period about its prior; rates seen differ by up to 0.4 %
_PERIOD_BOUND = 0.01  # a fitted period stays within 1 % of the nominal one
UNKNOWN_JITTER_S = 0.05
"""Jitter of the stamps in seconds that is assumed before enough blocks were fitted."""

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
    """Gives each sample of a segment its time by an affine map, fixed when the sample is pushed.

    The map is fitted every 0.25 s to the stamps of the last 30 s, by least squares with a normal prior on the period
    about the nominal one. It is constant within a block, so that no chunking can change a bit.

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
        """Whether the period is based on stamps (10 s of them) rather than on its prior."""
        return self._state.blocks.shape[1] * _BLOCK_S >= 10.0

    @property
    def jitter(self) -> float:
        """Jitter of the stamps about the map in seconds: the 90th percentile of each block's largest residual."""
        return self._state.jitter

    @property
    def jitter_known(self) -> bool:
        """Whether the jitter was measured in this segment (2 s of stamps)."""
        return len(self._state.block_spread) >= _MIN_BLOCKS

    @property
    def n_left(self) -> int:
        """Number of samples until the next fit."""
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
        """Count samples and return their times by the current map.

        Args:
            stamps: (n,) seconds, at most ``n_left`` of them; NaN for an invented sample.

        Returns:
            (n,) seconds.
        """
        t = self.predict(stamps.size)
        self._state.pending.append(stamps)
        self.n += stamps.size
        if self.n_left == 0:
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


_CONFIRM_S = 0.25  # s for which an offset must last; also the longest time a sample is held back
_MIN_TOLERANCE_S = 0.03  # s; and at least three samples
_JITTER_FACTOR = 2.0  # times the measured jitter of the stamps
_RECLOCK_S = 1.0  # s; up to here a contiguous counter outweighs the stamps
_LONGEST_LOSS_S = 600.0  # s; stamps that leap further ahead are a clock that was set

_GapReason = Literal["lost_samples", "clock_jump"]


@dataclass(frozen=True)
class _Rows:
    """Samples not yet placed in time."""

    t: FloatArray  # (n,) stamps in seconds
    x: FloatArray  # (C, n)
    lost: FloatArray  # (n,) unusable samples dropped before each

    def after(self, i: int) -> _Rows:
        return _Rows(self.t[i:], self.x[:, i:], self.lost[i:])


@dataclass
class _TimelineState:
    held: _Rows | None = None  # samples whose offset the next ones must confirm
    n_dropped: int = 0  # unusable samples since the last usable one
    clock: SampleClock | None = None  # None between segments
    period: float | None = None  # s per sample, carried from one segment to the next once settled
    jitter: float | None = None  # s, of the stamps, carried likewise once measured
    last_t: float = np.nan  # s, the last sample placed
    last_x: FloatArray = field(default_factory=lambda: np.empty(0))  # (C,) its values
    gap_reason: _GapReason | None = None  # why the segment ended; None after a Gap of the source


class Timeline:
    """Stage: gives Chunks their counted times, bridges short losses, and ends segments with Gaps.

    Args:
        sfreq: Nominal rate in Hz.
        eeg_rows: Rows that hold EEG; a sample in which none of them is finite counts as lost.
        counter: Row of the packet counter, if there is one.
        interpolate: Row of the headset's mark for samples it invented; they count as lost.
        max_bridge_s: Longest loss in seconds that is bridged.

    Attributes:
        n_gaps: Gaps so far.
        n_bridged: Samples invented to bridge losses.
        n_unusable: Samples received that were no measurement.
        n_lost: Samples missing between those received: exact with a counter, else by the stamps.

    Example::

        timeline = Timeline(128.0, eeg_rows=range(14))
        (chunk,) = timeline.push(Chunk("eeg", 100.0 + np.arange(16) / 128, np.zeros((14, 16))))
        assert chunk.filled.shape == (14, 16)
    """

    def __init__(
        self,
        sfreq: float,
        eeg_rows: Sequence[int],
        counter: int | None = None,
        interpolate: int | None = None,
        max_bridge_s: float = 0.1,
    ) -> None:
        self._sfreq = sfreq
        self._eeg_rows = np.array(eeg_rows, dtype=np.intp)
        self._counter_row = counter
        self._interpolate_row = interpolate
        self._max_bridge_s = max_bridge_s
        self._n_confirm = max(3, round(_CONFIRM_S * sfreq))
        self.reset()

    def reset(self) -> None:
        """Forget everything, the counts and what was learnt about counter and rate included."""
        self._state = _TimelineState()
        self._counter = LossCounter(self._sfreq)
        self._out: list[Item] = []
        self._pieces: list[tuple[FloatArray, FloatArray, BoolArray]] = []
        self.n_gaps = 0
        self.n_bridged = 0
        self.n_unusable = 0
        self.n_lost = 0

    def use_measured(self, measured: MeasuredRate) -> None:
        """Begin with the counter and the jitter that were measured in the first seconds of the stream."""
        self._counter = LossCounter(self._sfreq, measured.counting)
        if measured.steady and measured.spread_s > UNKNOWN_JITTER_S:
            self._state.jitter = measured.spread_s

    def carry_counts(self, before: Timeline) -> None:
        """Continue the counts of the timeline that this one replaces."""
        self.n_gaps, self.n_bridged = before.n_gaps, before.n_bridged
        self.n_unusable, self.n_lost = before.n_unusable, before.n_lost

    @property
    def rate_hz(self) -> float:
        """Effective rate of the current segment; 0 before it is known."""
        clock = self._state.clock
        return 1.0 / clock.period if clock is not None and clock.settled else 0.0

    def push(self, item: Item) -> list[Item]:
        """Set the times of the samples of a Chunk; end the segment at a Gap; pass everything else."""
        if isinstance(item, Chunk):
            self._out = []
            self._place(self._usable(item), item.source)
            self._flush(item.source)
            return self._out
        if isinstance(item, Gap):
            self._end_segment()
            self.n_unusable += 0 if self._state.held is None else self._state.held.t.size
            self._state.held = None
            self.n_gaps += 1
        return [item]

    def _usable(self, chunk: Chunk) -> _Rows:
        """Drop samples that are no measurement, and record before which sample they were."""
        state = self._state
        bad = self._unusable(chunk)
        if state.n_dropped == 0 and bad is None:
            rows = _Rows(chunk.t, chunk.x, np.zeros(chunk.t.size))
        else:
            rows = self._without(np.zeros(chunk.t.size, dtype=np.bool_) if bad is None else bad, chunk)
        if state.held is None:
            return rows
        parts = zip((state.held.t, state.held.x, state.held.lost), (rows.t, rows.x, rows.lost), strict=True)
        return _Rows(*(np.concatenate(pair, axis=-1) for pair in parts))

    def _unusable(self, chunk: Chunk) -> BoolArray | None:
        """Return which samples (n,) are no measurement; None where all are."""
        invented = self._interpolate_row is not None and (chunk.x[self._interpolate_row] > 0).any()
        if not invented and np.isfinite(chunk.t).all() and np.isfinite(chunk.x).all():
            return None
        good = np.isfinite(chunk.t) & np.isfinite(chunk.x[self._eeg_rows]).any(axis=0)
        if self._interpolate_row is not None:
            good &= ~(chunk.x[self._interpolate_row] > 0)
        bad: BoolArray = ~good
        return bad

    def _without(self, bad: BoolArray, chunk: Chunk) -> _Rows:
        """Drop the unusable samples, and count them."""
        state = self._state
        dropped = np.cumsum(bad) + state.n_dropped
        lost = np.diff(dropped[~bad], prepend=0).astype(np.float64)
        state.n_dropped = int(dropped[-1] - (0 if bad.all() else dropped[~bad][-1])) if bad.size else state.n_dropped
        self.n_unusable += int(np.sum(bad))
        return _Rows(chunk.t[~bad], chunk.x[:, ~bad], lost)

    def _place(self, rows: _Rows, source: str) -> None:
        state = self._state
        state.held = None
        while rows.t.size:
            if state.clock is None:
                self._begin_segment(rows, source)
                n_taken = 1
            else:
                n_taken = self._clean_run(state.clock, rows)
                if n_taken:
                    self._accept(state.clock, rows, n_taken)
                else:
                    n_taken = self._resolve(state.clock, rows, source)
            if n_taken == rows.t.size:
                return
            if n_taken == 0:
                state.held = rows
                return
            rows = rows.after(n_taken)

    def _tolerance(self, clock: SampleClock) -> float:
        return max(3 * clock.period, _MIN_TOLERANCE_S, _JITTER_FACTOR * clock.jitter)

    def _clean_run(self, clock: SampleClock, rows: _Rows) -> int:
        """Return how many of the next samples follow without loss or offset, within the current block."""
        n = min(rows.t.size, clock.n_left)
        if self._counter_row is not None:  # learnt sample by sample
            n = self._counter.contiguous(rows.x[self._counter_row, :n]) if self._counter.known else 1
        odd = np.abs(rows.t[:n] - clock.predict(n)) > self._tolerance(clock)
        if self._counter_row is None:
            odd |= rows.lost[:n] > 0
        return int(np.argmax(odd)) if odd.any() else n

    def _accept(self, clock: SampleClock, rows: _Rows, n: int, *, trusted: bool = True) -> None:
        """Place ``n`` samples; an untrusted stamp does not enter the fit."""
        x = rows.x[:, :n]
        t = clock.advance(rows.t[:n] if trusted else np.full(n, np.nan))
        self._pieces.append((t, x, np.zeros(x.shape, dtype=np.bool_)))
        if self._counter_row is not None:
            self._counter.accept(x[self._counter_row])
        self._state.last_t, self._state.last_x = float(t[-1]), x[:, -1]

    def _resolve(self, clock: SampleClock, rows: _Rows, source: str) -> int:
        """Place one sample that is early, late, or after a jump of the counter; return 0 to wait for more."""
        offset = float(rows.t[0]) - clock.t_next
        lost = self._lost_before(clock, rows, offset)
        if lost:
            return self._skip(clock, rows, lost, "lost_samples", source)
        if abs(offset) <= self._tolerance(clock):
            self._accept(clock, rows, 1)  # an odd counter, contradicted by the stamp
            return 1
        return self._confirm_offset(clock, rows, source)

    def _lost_before(self, clock: SampleClock, rows: _Rows, offset: float) -> int:
        """Return the loss by the counter, or by the dropped samples, if the stamp confirms it."""
        if self._counter_row is None or not self._counter.known:
            return int(rows.lost[0])
        lost = self._counter.lost_before(float(rows.x[self._counter_row, 0]))
        if lost is None or offset > _LONGEST_LOSS_S:
            return 0
        wrap_s = self._counter.wrap_samples * clock.period
        lost += max(0, round((offset - lost * clock.period) / wrap_s)) * round(self._counter.wrap_samples)
        return lost if abs(offset - lost * clock.period) <= self._tolerance(clock) else 0

    def _confirm_offset(self, clock: SampleClock, rows: _Rows, source: str) -> int:
        """Decide between one odd stamp and an offset that lasts for ``_CONFIRM_S``."""
        ahead = rows.t[: self._n_confirm]
        offsets = ahead - clock.predict(ahead.size)
        same_side = np.sign(offsets) == np.sign(offsets[0])
        if not np.all(same_side & (np.abs(offsets) > self._tolerance(clock))):
            self._accept(clock, rows, 1, trusted=False)
            return 1
        if ahead.size < self._n_confirm:
            return 0
        return self._shift(clock, rows, float(offsets[np.argmin(np.abs(offsets))]), source)

    def _shift(self, clock: SampleClock, rows: _Rows, offset: float, source: str) -> int:
        """Follow an offset that lasts."""
        counted = self._counter_row is not None and self._counter.known
        ahead = rows.x[self._counter_row, : self._n_confirm] if counted else np.empty(0)
        if counted and abs(offset) < _RECLOCK_S and self._counter.contiguous(ahead) == ahead.size:
            t0 = max(float(rows.t[0]), self._state.last_t + 0.5 * clock.period)
            self._carry(clock)
            self._start_clock(rows, t0)
            return 1
        if offset < 0 or offset > _LONGEST_LOSS_S or (counted and self._counter.contiguous(ahead) == ahead.size):
            return self._skip(clock, rows, 0, "clock_jump", source)
        return self._skip(clock, rows, max(1, round(offset / clock.period)), "lost_samples", source)

    def _start_clock(self, rows: _Rows, t0: float) -> None:
        self._state.clock = clock = SampleClock(self._sfreq, t0, self._state.period, self._state.jitter)
        self._accept(clock, rows, 1)

    def _skip(self, clock: SampleClock, rows: _Rows, lost: int, reason: _GapReason, source: str) -> int:
        """Bridge a short loss before the next sample, or end the segment there."""
        self.n_lost += max(0, lost - round(float(rows.lost[0])))
        if 0 < lost * clock.period <= self._max_bridge_s:
            self._bridge(clock, rows.x[:, 0], lost)
            self._accept(clock, rows, 1)
            return 1
        self._end_segment(reason)
        self._begin_segment(rows, source)
        return 1

    def _bridge(self, clock: SampleClock, x_next: FloatArray, n: int) -> None:
        weight: FloatArray = np.arange(1, n + 1) / (n + 1)
        x: FloatArray = self._state.last_x[:, None] * (1 - weight) + x_next[:, None] * weight
        t = np.empty(n)
        done = 0
        while done < n:
            step = min(n - done, clock.n_left)
            t[done : done + step] = clock.advance(np.full(step, np.nan))
            done += step
        self._pieces.append((t, x, np.ones(x.shape, dtype=np.bool_)))
        self.n_bridged += n

    def _carry(self, clock: SampleClock) -> None:
        """Keep the period and the jitter that were measured in the segment."""
        if clock.settled:
            self._state.period = clock.period
        if clock.jitter_known:
            self._state.jitter = clock.jitter

    def _end_segment(self, reason: _GapReason | None = None) -> None:
        if self._state.clock is not None:
            self._carry(self._state.clock)
        self._state.clock, self._state.gap_reason = None, reason
        self._counter.start_segment()

    def _begin_segment(self, rows: _Rows, source: str) -> None:
        state = self._state
        t0 = float(rows.t[0])
        if state.gap_reason is not None:
            self._flush(source)
            self._out.append(Gap(state.last_t, t0, source, state.gap_reason))
            self.n_gaps += 1
            state.gap_reason = None
        self._start_clock(rows, t0)

    def _flush(self, source: str) -> None:
        if self._pieces:
            one = self._pieces[0]
            joined = (np.concatenate(parts, axis=-1) for parts in zip(*self._pieces, strict=True))
            t, x, filled = one if len(self._pieces) == 1 else joined
            self._out.append(Chunk(source, t, x, filled))
            self._pieces = []
