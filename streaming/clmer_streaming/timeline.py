"""Counted time for a stream's samples: what was lost is found, bridged or said; what jitters is smoothed.

A sample's time is an affine map of its index within a segment. A loss shows as a jump of the packet counter,
or as an offset of the stamps from the counted time that lasts; one odd stamp is no loss. Losses up to
``max_bridge_s`` are bridged by straight lines and marked; longer ones end the segment with a Gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from clmer_streaming.loss_counter import LossCounter
from clmer_streaming.sample_clock import UNKNOWN_JITTER_S, SampleClock
from clmer_streaming.stream_rate import MeasuredRate
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item

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
    held: _Rows | None = None  # samples that wait for the next ones to explain them
    n_dropped: int = 0  # unusable samples since the last usable one
    clock: SampleClock | None = None  # None between segments
    period: float | None = None  # s per sample, carried from one segment to the next once settled
    jitter: float | None = None  # s, of the stamps, carried likewise once measured
    last_t: float = np.nan  # s, the last sample placed
    last_x: FloatArray = field(default_factory=lambda: np.empty(0))  # (C,) its values
    gap_reason: _GapReason | None = None  # why the segment ended; None if the source said so itself


class Timeline:
    """Stage: raw Chunks in, Chunks of counted time and Gaps out.

    Args:
        sfreq: Nominal rate in Hz.
        eeg_rows: Rows that hold EEG; a sample in which none of them is finite counts as lost.
        counter: Row of the packet counter, if there is one.
        interpolate: Row of the headset's mark for samples it invented; they count as lost.
        max_bridge_s: Longest loss in seconds that is bridged.
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
        """Forget everything, the counts and what was learnt of counter and rate included."""
        self._state = _TimelineState()
        self._counter = LossCounter(self._sfreq)
        self._out: list[Item] = []
        self._pieces: list[tuple[FloatArray, FloatArray, BoolArray]] = []
        self.n_gaps = 0
        self.n_bridged = 0
        self.n_unusable = 0
        self.n_lost = 0  # missing between received ones: exact by the counter, else by the stamps

    def start_from(self, measured: MeasuredRate) -> None:
        """Take over what a look at the stream's first seconds has told of its counter and its jitter."""
        self._counter = LossCounter(self._sfreq, measured.counting)
        if measured.steady and measured.spread_s > UNKNOWN_JITTER_S:
            self._state.jitter = measured.spread_s

    def count_on_from(self, before: Timeline) -> None:
        """Take over the counts of the timeline that this one replaces."""
        self.n_gaps, self.n_bridged = before.n_gaps, before.n_bridged
        self.n_unusable, self.n_lost = before.n_unusable, before.n_lost

    @property
    def rate_hz(self) -> float:
        """Effective rate of the current segment; 0 before it is known."""
        clock = self._state.clock
        return 1.0 / clock.period if clock is not None and clock.settled else 0.0

    def push(self, item: Item) -> list[Item]:
        """Place the samples of a Chunk in time; end the segment at a Gap; pass the rest."""
        self._out = []
        if isinstance(item, Chunk):
            self._place(self._usable(item), item.source)
            self._flush(item.source)
        elif isinstance(item, Gap):
            self._end_segment()
            self.n_unusable += 0 if self._state.held is None else self._state.held.t.size
            self._state.held = None
            self.n_gaps += 1
            self._out.append(item)
        else:
            self._out.append(item)
        return self._out

    def _usable(self, chunk: Chunk) -> _Rows:
        """Drop what is no measurement, noting before which sample it was."""
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
                    n_taken = self._explain(state.clock, rows, source)
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
        n = min(rows.t.size, clock.room)
        if self._counter_row is not None:  # it is learnt sample by sample
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

    def _explain(self, clock: SampleClock, rows: _Rows, source: str) -> int:
        """Deal with one sample that is early, late, or behind a jump of the counter; 0: wait for more."""
        offset = float(rows.t[0]) - clock.t_next
        lost = self._lost_before(clock, rows, offset)
        if lost:
            return self._skip(clock, rows, lost, "lost_samples", source)
        if abs(offset) <= self._tolerance(clock):
            self._accept(clock, rows, 1)  # an odd counter, contradicted by the stamp
            return 1
        return self._weigh_offset(clock, rows, source)

    def _lost_before(self, clock: SampleClock, rows: _Rows, offset: float) -> int:
        """Return the loss that the counter, or the dropped samples, tell and the stamp confirms."""
        if self._counter_row is None or not self._counter.known:
            return int(rows.lost[0])
        lost = self._counter.lost_before(float(rows.x[self._counter_row, 0]))
        if lost is None or offset > _LONGEST_LOSS_S:
            return 0
        wrap_s = self._counter.wrap_samples * clock.period
        lost += max(0, round((offset - lost * clock.period) / wrap_s)) * round(self._counter.wrap_samples)
        return lost if abs(offset - lost * clock.period) <= self._tolerance(clock) else 0

    def _weigh_offset(self, clock: SampleClock, rows: _Rows, source: str) -> int:
        """Tell one odd stamp from an offset that lasts for ``_CONFIRM_S``."""
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
            self._state.clock = SampleClock(self._sfreq, t0, self._state.period, self._state.jitter)
            return self._place_first(rows)
        if offset < 0 or offset > _LONGEST_LOSS_S or (counted and self._counter.contiguous(ahead) == ahead.size):
            return self._skip(clock, rows, 0, "clock_jump", source)
        return self._skip(clock, rows, max(1, round(offset / clock.period)), "lost_samples", source)

    def _place_first(self, rows: _Rows) -> int:
        assert self._state.clock is not None
        self._accept(self._state.clock, rows, 1)
        return 1

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
            step = min(n - done, clock.room)
            t[done : done + step] = clock.advance(np.full(step, np.nan))
            done += step
        self._pieces.append((t, x, np.ones(x.shape, dtype=np.bool_)))
        self.n_bridged += n

    def _carry(self, clock: SampleClock) -> None:
        """Keep what the segment has taught of the stream."""
        if clock.settled:
            self._state.period = clock.period
        if clock.jitter_known:
            self._state.jitter = clock.jitter

    def _end_segment(self, reason: _GapReason | None = None) -> None:
        if self._state.clock is not None:
            self._carry(self._state.clock)
        self._state.clock, self._state.gap_reason = None, reason
        self._counter.forget_last()

    def _begin_segment(self, rows: _Rows, source: str) -> None:
        state = self._state
        t0 = float(rows.t[0])
        if state.gap_reason is not None:
            self._flush(source)
            self._out.append(Gap(state.last_t, t0, source, state.gap_reason))
            self.n_gaps += 1
            state.gap_reason = None
        state.clock = SampleClock(self._sfreq, t0, state.period, state.jitter)
        self._place_first(rows)

    def _flush(self, source: str) -> None:
        if self._pieces:
            one = self._pieces[0]
            joined = (np.concatenate(parts, axis=-1) for parts in zip(*self._pieces, strict=True))
            t, x, filled = one if len(self._pieces) == 1 else joined
            self._out.append(Chunk(source, t, x, filled))
            self._pieces = []
