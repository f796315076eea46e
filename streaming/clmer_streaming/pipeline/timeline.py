"""The timeline, which gives the samples of a stream their counted times, and tells losses from lateness.

A sample's time is an affine map of its index within a segment. A loss is a jump of the packet counter, or samples that
never come: the stamps of several independent arrivals lie behind the count and do not catch up. Late samples catch up,
and are counted on. Losses up to ``max_bridge_s`` are bridged by straight lines and marked; longer ones end the segment
with a Gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from clmer_streaming.pipeline.counter import LossCounter
from clmer_streaming.pipeline.rate import MeasuredRate
from clmer_streaming.pipeline.sample_clock import SampleClock
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item

_CONFIRM_S = 0.25  # s for which an offset must last; also how long a sample may be held back
_EVEN_CONFIRM_S = 0.6  # s, the same where even stamps do not show the chunks: one late chunk may be so long
_LATE_CHUNK_S = 1.0  # s by which a single chunk among even stamps may be late
_MIN_TOLERANCE_S = 0.03  # s; and at least three samples
_SPREADS = 2.0  # times the spread of the stamps, that are tolerated too
_RECLOCK_S = 1.0  # s; up to here a contiguous counter outweighs the stamps
_LONGEST_LOSS_S = 600.0  # s; stamps that leap further ahead are a clock that was set
_CHANCE = 1e-6  # largest probability of so many late arrivals by chance, at which they are taken for a loss
_TURN_CHANCE = 0.05  # the same of one arrival behind a loss that the counter shows, for whole turns beyond it
_UNSEEN = 0.3  # arrivals that are counted in for a lateness that was never seen (a prior of the binomial)
_LATEST_ARRIVALS = 3  # by which the size of a loss is estimated
_STEP_S = 1 / 16  # s of samples between two decisions on a lateness that lasts
_FIRST_LATE_S = 2.5  # s by which the first stamps of a segment may be late: the longest chunk
_EARLY_S, _EARLY_SPREADS = 0.25, 10.0  # s, and spreads, by which later ones are early when their clock was set

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
class _Lateness:
    """Samples that came later than expected, one after the other."""

    first: int  # index of the first one, on the clock of the segment
    n_needed: int  # samples for which it must last to be a loss
    hold: bool  # whether a decision by so many is possible, and the samples wait for it
    late: list[FloatArray] = field(default_factory=list)  # s later than the line, of those that were counted on

    @property
    def n(self) -> int:
        return sum(part.size for part in self.late)


@dataclass
class _TimelineState:
    held: _Rows | None = None  # samples whose offset the next ones must confirm
    n_dropped: int = 0  # unusable samples since the last usable one
    clock: SampleClock | None = None  # None between segments
    period: float | None = None  # s per sample, carried from one segment to the next once settled
    spread: float | None = None  # s, of the stamps, carried likewise once measured
    first_late_s: float = 0.0  # s by which the first stamp is late, as measured beforehand
    lateness: _Lateness | None = None  # None while samples come in time
    last_t: float = np.nan  # s, the last sample placed
    last_x: FloatArray = field(default_factory=lambda: np.empty(0))  # (C,) its values
    gap_reason: _GapReason | None = None  # why the segment ended; None after a Gap of the source


class Timeline:
    """Stage: gives Chunks their counted times, bridges short losses, and ends segments with Gaps.

    Late samples are counted on as if they were in time, until several independent arrivals, all of them late and none
    catching up, could hardly be so by chance; only then samples are missing. Where that can be known within 0.25 s
    (0.6 s for stamps that are all even), the samples wait for it, and the loss is placed exactly.

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
        n_lost: Samples missing between those received, as the packet counter or dropped samples prove.
        n_lost_estimated: Samples that seem to be missing, by the stamps alone.

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
        self._source = ""
        self._pieces: list[tuple[FloatArray, FloatArray, BoolArray]] = []
        self.n_gaps = 0
        self.n_bridged = 0
        self.n_unusable = 0
        self.n_lost = 0
        self.n_lost_estimated = 0

    def use_measured(self, measured: MeasuredRate) -> None:
        """Begin with the counter and the lateness that were measured in the first seconds of the stream."""
        self._counter = LossCounter(self._sfreq, measured.counting)
        self._state.first_late_s = measured.late_s

    def carry_counts(self, before: Timeline) -> None:
        """Continue the counts and the time of the timeline that this one replaces."""
        self._state.last_t = before._state.last_t
        self.n_gaps, self.n_bridged = before.n_gaps, before.n_bridged
        self.n_unusable, self.n_lost = before.n_unusable, before.n_lost
        self.n_lost_estimated = before.n_lost_estimated

    @property
    def rate_hz(self) -> float:
        """Effective rate of the current segment; 0 before it is known."""
        clock = self._state.clock
        return 1.0 / clock.period if clock is not None and clock.settled else 0.0

    def push(self, item: Item) -> list[Item]:
        """Set the times of the samples of a Chunk; end the segment at a Gap; pass everything else."""
        if isinstance(item, Chunk):
            self._out, self._source = [], item.source
            self._place(self._usable(item))
            self._flush()
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

    def _place(self, rows: _Rows) -> None:
        state = self._state
        state.held = None
        while rows.t.size:
            if state.clock is None:
                self._begin_segment(rows, float(rows.t[0]) - state.first_late_s)
                n_taken = 1
            else:
                n_taken = self._in_time(state.clock, rows)
                if n_taken:
                    state.lateness = None
                    self._accept(state.clock, rows, n_taken)
                else:
                    n_taken = self._resolve(state.clock, rows)
            if n_taken == rows.t.size:
                return
            if n_taken == 0:
                state.held = rows
                return
            rows = rows.after(n_taken)

    def _tolerance(self, clock: SampleClock) -> float:
        return max(3 * clock.period, _MIN_TOLERANCE_S, _SPREADS * clock.spread_s)

    def _in_time(self, clock: SampleClock, rows: _Rows) -> int:
        """Return how many of the next samples follow without loss or offset, within the current block."""
        n = self._contiguous(clock, rows)
        if n == 1:
            return int(abs(float(rows.t[0]) - clock.t_expected) <= self._tolerance(clock))
        odd = np.abs(clock.lateness(rows.t[:n])) > self._tolerance(clock)
        return int(np.argmax(odd)) if odd.any() else n

    def _contiguous(self, clock: SampleClock, rows: _Rows) -> int:
        """Return how many of the next samples follow without a loss that is proved, within the current block."""
        return self._n_unbroken(rows, clock.n_left)

    def _n_unbroken(self, rows: _Rows, n: int) -> int:
        """Return how many of the next ``n`` samples follow without a loss that is proved."""
        n = min(rows.t.size, n)
        if self._counter_row is not None:  # learnt sample by sample
            return self._counter.contiguous(rows.x[self._counter_row, :n]) if self._counter.known else 1
        if n == 1:
            return int(rows.lost[0] == 0)
        lost = rows.lost[:n] > 0
        return int(np.argmax(lost)) if lost.any() else n

    def _accept(self, clock: SampleClock, rows: _Rows, n: int, *, trusted: bool = True) -> None:
        """Place ``n`` samples; an untrusted stamp does not enter the fit."""
        x = rows.x[:, :n]
        t = clock.advance(rows.t[:n] if trusted else np.full(n, np.nan))
        self._pieces.append((t, x, np.zeros(x.shape, dtype=np.bool_)))
        if self._counter_row is not None:
            self._counter.accept(x[self._counter_row])
        self._state.last_t, self._state.last_x = float(t[-1]), x[:, -1]

    def _resolve(self, clock: SampleClock, rows: _Rows) -> int:
        """Place samples that are early, late, or behind a loss that is proved; return 0 to wait for more."""
        late = float(clock.lateness(rows.t[:1])[0])
        lost = self._proved_loss(rows)
        beyond = late - lost * clock.period  # s that such a loss does not explain
        tolerance = self._tolerance(clock)
        if lost and -tolerance <= beyond and late <= _LONGEST_LOSS_S:
            lost += self._turns_beyond(clock, beyond)
            return self._skip(clock, rows, lost, clock.t_expected + lost * clock.period, "lost_samples")
        if abs(late) <= tolerance:
            self._accept(clock, rows, 1)  # an odd counter, contradicted by the stamp
            return 1
        if late < 0:
            return self._early(clock, rows)
        return self._late(clock, rows)

    def _proved_loss(self, rows: _Rows) -> int:
        """Return how many samples are missing before the next one by the counter, or by dropped samples."""
        if self._counter_row is None or not self._counter.known:
            return int(rows.lost[0])
        return self._counter.lost_before(float(rows.x[self._counter_row, 0])) or 0

    def _turns(self, clock: SampleClock, late_s: float) -> int:
        """Return how many whole turns of the counter a lateness is; 0 without a counter, or where it is none."""
        if self._counter_row is None or not self._counter.known:
            return 0
        turn_s = self._counter.wrap_samples * clock.period
        turns = round(late_s / turn_s)
        return turns if turns > 0 and abs(late_s - turns * turn_s) <= self._tolerance(clock) else 0

    def _turns_beyond(self, clock: SampleClock, late_s: float) -> int:
        """Return the samples of whole turns of the counter that were lost together with others.

        Args:
            clock: Of the segment.
            late_s: Seconds by which the next sample is later than the loss that its counter shows.
        """
        if self._counter_row is None or not self._counter.known:
            return 0
        turn_s = self._counter.wrap_samples * clock.period
        n_turns = math.floor((late_s + self._tolerance(clock)) / turn_s)
        if n_turns < 1 or self._chance(*clock.share_later(turn_s - self._tolerance(clock), clock.n), 1) > _TURN_CHANCE:
            return 0
        return n_turns * round(self._counter.wrap_samples)

    def _early(self, clock: SampleClock, rows: _Rows) -> int:
        """Place samples before their time: those before were late, or the clock was set back."""
        self._state.lateness = None
        late = clock.lateness(rows.t[: max(self._n_confirm, clock.n_left)])
        known = clock.spread_known
        allowed = max(_EARLY_S, _EARLY_SPREADS * clock.spread_s) if known else _FIRST_LATE_S
        tolerance = self._tolerance(clock)
        if -allowed <= late[0]:
            n = self._contiguous(clock, rows)
            odd = (late[:n] < -allowed) | (late[:n] >= -tolerance)
            n = int(np.argmax(odd)) if odd.any() else n
            self._accept(clock, rows, max(1, n))
            return max(1, n)
        ahead = late[: self._n_confirm]
        if not np.all(ahead < -allowed):
            self._accept(clock, rows, 1, trusted=False)
            return 1
        if ahead.size < self._n_confirm:
            return 0
        return self._skip(clock, rows, 0, float(rows.t[0]), "clock_jump")

    def _late(self, clock: SampleClock, rows: _Rows) -> int:
        """Place late samples: hold them where a decision is near, else count on and decide later."""
        state = self._state
        if state.lateness is None:
            n_needed = self._n_needed(clock, float(clock.lateness(rows.t[:1])[0]))
            state.lateness = _Lateness(clock.n, n_needed, hold=self._decidable(clock, n_needed))
        lateness = state.lateness
        if lateness.hold:
            ahead = clock.lateness(rows.t[: self._n_unbroken(rows, lateness.n_needed)])
            whole = min(rows.t.size, lateness.n_needed) == ahead.size
            if whole and np.all(ahead > self._tolerance(clock)):
                if ahead.size < lateness.n_needed:
                    return 0
                if ahead[0] < np.min(ahead[1:]) - self._tolerance(clock):  # what lasts begins behind this sample
                    state.lateness = None
                    self._accept(clock, rows, 1)
                    return 1
                if self._lasts(clock, lateness, ahead):
                    return self._leap(clock, rows, ahead)
            lateness.hold = False
        step = max(1, round(_STEP_S * self._sfreq))
        n = min(max(1, self._contiguous(clock, rows)), step - lateness.n % step)
        late = clock.lateness(rows.t[:n])
        odd = late <= self._tolerance(clock)
        n = max(1, int(np.argmax(odd))) if odd.any() else n
        lateness.late.append(late[:n])
        if lateness.n % step == 0:
            together = np.concatenate(lateness.late)
            if self._lasts(clock, lateness, together):
                if n > 1:
                    self._accept(clock, rows, n - 1)
                return n - 1 + self._leap(clock, rows.after(n - 1), together)
        self._accept(clock, rows, n)
        return n

    def _n_needed(self, clock: SampleClock, late_s: float) -> int:
        """Return how many samples a lateness that begins now with ``late_s`` seconds must last to be a loss."""
        one_chunk = clock.is_even and late_s < _LATE_CHUNK_S
        return max(3, round((_EVEN_CONFIRM_S if one_chunk else _CONFIRM_S) * self._sfreq))

    def _decidable(self, clock: SampleClock, n_needed: int) -> bool:
        """Return whether so many samples hold enough independent arrivals for a decision."""
        _, n_before = clock.share_later(math.inf, clock.n)
        return self._chance(0.0, n_before, -(-n_needed // clock.unit)) <= _CHANCE

    def _lasts(self, clock: SampleClock, lateness: _Lateness, late: FloatArray) -> bool:
        """Return whether samples that are late by so many seconds (n,) will hardly catch up."""
        if late.size < lateness.n_needed:
            return False
        first, then = late[: late.size // 2], late[late.size // 2 :]
        least = float(np.min(first))
        if float(np.min(then)) < least - self._tolerance(clock):
            return False  # it is catching up
        n_arrivals = -(-late.size // clock.unit)
        n_so_late, n_before = clock.share_later(min(least, float(np.min(then))), lateness.first)
        return self._chance(n_so_late, n_before, n_arrivals) <= _CHANCE

    @staticmethod
    def _chance(n_so_late: float, n_before: float, n_arrivals: int) -> float:
        """Return the probability that arrivals are all so late by chance, from how many were before."""
        share = min(1.0, (_UNSEEN + n_so_late) / (1.0 + n_before))
        return float(share**n_arrivals)

    def _leap(self, clock: SampleClock, rows: _Rows, late: FloatArray) -> int:
        """Follow an offset of the stamps that lasts.

        Args:
            clock: Of the segment.
            rows: The samples from the next one on.
            late: (n,) seconds by which the samples were late.
        """
        late_s = clock.offset_s(late[-max(self._n_confirm, _LATEST_ARRIVALS * clock.unit) :])
        t_next = clock.t_expected
        counted = self._counter_row is not None and self._counter.known
        if late_s <= _LONGEST_LOSS_S and (turns := self._turns(clock, late_s)):
            n_lost = round(turns * self._counter.wrap_samples)
            return self._skip(clock, rows, n_lost, t_next + n_lost * clock.period, "lost_samples", proved=False)
        if counted and late_s < _RECLOCK_S:
            self._carry(clock)
            self._start_clock(rows, max(t_next + late_s, self._state.last_t + 0.5 * clock.period))
            return 1
        if counted or late_s > _LONGEST_LOSS_S:
            return self._skip(clock, rows, 0, float(rows.t[0]), "clock_jump")
        n_lost = max(1, round(late_s / clock.period))
        return self._skip(clock, rows, n_lost, t_next + late_s, "lost_samples", proved=False)

    def _start_clock(self, rows: _Rows, t0: float) -> None:
        self._state.clock = clock = SampleClock(self._sfreq, t0, self._state.period, self._state.spread)
        self._state.lateness = None
        self._accept(clock, rows, 1)

    def _skip(  # noqa: PLR0913 - a loss, and where it lies
        self, clock: SampleClock, rows: _Rows, lost: int, t0: float, reason: _GapReason, *, proved: bool = True
    ) -> int:
        """Bridge a short loss before the next sample, or end the segment there.

        Args:
            clock: Of the segment.
            rows: The samples from the next one on.
            lost: Samples that are missing before it.
            t0: Its time in seconds.
            reason: Of the gap.
            proved: Whether the loss is known by the counter, rather than from the stamps.
        """
        self._state.lateness = None
        n_missing = max(0, lost - round(float(rows.lost[0])))
        if proved:
            self.n_lost += n_missing
        else:
            self.n_lost_estimated += n_missing
        if 0 < lost * clock.period <= self._max_bridge_s:
            self._bridge(clock, rows.x[:, 0], lost)
            self._accept(clock, rows, 1)
            return 1
        self._end_segment(reason)
        self._begin_segment(rows, t0)
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
        """Keep the period and the spread that were measured in the segment."""
        if clock.settled:
            self._state.period = clock.period
        if clock.spread_known:
            self._state.spread = clock.spread_s

    def _end_segment(self, reason: _GapReason | None = None) -> None:
        if self._state.clock is not None:
            self._carry(self._state.clock)
        self._state.clock, self._state.gap_reason, self._state.lateness = None, reason, None
        self._state.first_late_s = 0.0
        self._counter.start_segment()

    def _begin_segment(self, rows: _Rows, t0: float) -> None:
        """Begin a segment with the next sample, at ``t0`` seconds."""
        state = self._state
        if state.gap_reason is not None:
            t0 = max(t0, state.last_t) if state.gap_reason == "lost_samples" else t0
            self._flush()
            self._out.append(Gap(state.last_t, t0, self._source, state.gap_reason))
            self.n_gaps += 1
            state.gap_reason = None
        elif t0 < state.last_t < t0 + _FIRST_LATE_S:  # the samples before were counted on for too long
            t0 = state.last_t + 0.5 / self._sfreq
        self._start_clock(rows, t0)

    def _flush(self) -> None:
        if self._pieces:
            one = self._pieces[0]
            joined = (np.concatenate(parts, axis=-1) for parts in zip(*self._pieces, strict=True))
            t, x, filled = one if len(self._pieces) == 1 else joined
            self._out.append(Chunk(self._source, t, x, filled))
            self._pieces = []
