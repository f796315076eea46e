"""The rate at which a stream really runs, whatever it declares.

``measure_rate`` is the one function that measures a rate: by samples over time, between independent arrivals.
``RateWatch`` finds a change of the rate; the stage ``RateGate`` holds the first seconds of a stream until the rate is
known.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.pipeline.counter import Counting, find_counting
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, IndexArray, Item, StreamInfo

# Hz; rates that amplifiers, headsets and belts are built for. A measured rate is taken for one of these within 0.5 %.
_USUAL_RATES = (
    1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 25.0, 32.0, 50.0, 52.0, 64.0,
    100.0, 125.0, 128.0, 160.0, 200.0, 220.0, 250.0, 256.0, 300.0, 500.0, 512.0, 600.0,
    1000.0, 1024.0, 1200.0, 2000.0, 2048.0,
)  # fmt: skip
_SNAP = 0.005
_CLOSE_S = 0.05  # s that stamps of a stream without loss may stray from a line, or three samples
_STEADY_SHARE_OF_WRAP = 0.35  # a loss of a whole turn of the counter shows as half a turn at least
_SAME_STEP_S = 2e-5  # s; deduced stamps differ by rounding and clock correction alone, those of arrivals by more
_LONGEST_CHUNK_S = 2.5  # s; stamps that are even for longer come from the sender's own clock, not from its pushes


def find_arrivals(t: FloatArray) -> BoolArray:
    """Return which stamps begin an arrival: what a sender pushed at once.

    LSL sends one stamp with each chunk and deduces the others, so the samples of a chunk are one observation. A chunk
    shows as a run of even steps between the stamps.

    Args:
        t: (n,) stamps in seconds.

    Returns:
        (n,) bool.
    """
    linked: BoolArray = np.zeros(max(0, t.size - 1), dtype=np.bool_)
    if t.size > 2:
        same = np.abs(np.diff(t, n=2)) <= _SAME_STEP_S
        linked[:-1] |= same
        linked[1:] |= same
    return np.concatenate([np.ones(min(1, t.size), dtype=np.bool_), ~linked])


def _observations(t: FloatArray) -> tuple[IndexArray, int]:
    """Return the indices of the stamps (n,) that show the rate, and how many arrivals they are.

    Of each arrival it is the last stamp, which the sender set. At both ends of the stretch arrivals may be incomplete.
    Where stamps are even for longer than any chunk, each is an observation.
    """
    first = np.flatnonzero(find_arrivals(t))
    last = np.concatenate([first[1:], [t.size]]) - 1
    if np.max(np.abs(t[last] - t[first]), initial=0.0) > _LONGEST_CHUNK_S:
        return np.arange(t.size), t.size
    whole = last[(last > 0) & (last < t.size - 2)]
    return (whole, whole.size) if whole.size else (np.arange(t.size), min(1, t.size))


@dataclass(frozen=True)
class MeasuredRate:
    """A straight line through the stamps of independent arrivals over sample numbers."""

    rate_hz: float  # 0 where the stamps show no rate
    spread_s: float  # largest distance of an arrival from the line
    counting: Counting | None = None  # of the packet counter, where there is one
    lossless: bool = False  # the counter shows no loss, unless it was of whole turns
    n_arrivals: int = 0
    nominal_spread_s: float = math.inf  # largest distance of an arrival from the best line of the nominal rate
    nominal_stray_s: float = math.inf  # the same of any sample
    late_s: float = 0.0  # s by which the first stamp is later than those in time, counted by the rate decided on

    @property
    def snapped_hz(self) -> float:
        """The usual rate within 0.5 % of this one; this one, rounded, where there is none."""
        if not self.rate_hz:
            return 0.0
        nearest = min(_USUAL_RATES, key=lambda rate: abs(rate - self.rate_hz))
        return nearest if abs(self.rate_hz / nearest - 1) <= _SNAP else _rounded(self.rate_hz)

    @property
    def close(self) -> bool:
        """Whether enough arrivals are as close to the line as those of a stream without loss."""
        if not self.rate_hz:
            return False
        contradicted = self.nominal_spread_s if math.isfinite(self.nominal_spread_s) else 0.0
        close_s = max(self._close_s, min(_CLEAR_S, _CLEAR_SHARE * contradicted))
        return self.n_arrivals >= _LEAST_ARRIVALS and self.spread_s <= close_s

    @property
    def steady(self) -> bool:
        """Whether the rate can be trusted: the arrivals are close to the line, or the counter shows no loss."""
        if self.close or not (self.rate_hz and self.lossless and self.counting and self.counting.modulus):
            return self.close
        wrap_s = self.counting.modulus / self.counting.step / self.rate_hz
        return self.spread_s <= _STEADY_SHARE_OF_WRAP * wrap_s

    @property
    def confirms_nominal(self) -> bool:
        """Whether every sample lies close to a line of the nominal rate."""
        return self.rate_hz > 0 and self.nominal_stray_s <= self._close_s

    @property
    def allows_nominal(self) -> bool:
        """Whether the lateness of the arrivals explains their distance from a line of the nominal rate."""
        if self.n_arrivals < _FEW_ARRIVALS:
            return self.n_arrivals >= 2 and self.nominal_spread_s <= _FEW_CLOSE_S
        return self.nominal_spread_s <= _EXPLAINED * self.spread_s

    @property
    def _close_s(self) -> float:
        return max(3.0 / self.rate_hz, _CLOSE_S)


_LEAST_ARRIVALS = 3  # two may lie on any line
_CLEAR_S, _CLEAR_SHARE = (
    0.1,
    1 / 6,
)  # s, and share of the distance from the nominal line, that are close to another line
_FEW_ARRIVALS = 4  # fewer lie on any line nearly; then the distance itself decides
_FEW_CLOSE_S = 0.1  # s that few late arrivals may lie from a line of the nominal rate
_EXPLAINED = 2.0  # times the distance from the best line


def _rounded(rate_hz: float) -> float:
    """Return a rate to a tenth of a Hz, one below 100 Hz to three digits."""
    return round(rate_hz, 1 if rate_hz >= 100 else 2 - math.floor(math.log10(rate_hz)))


def measure_rate(t: FloatArray, counter: FloatArray | None, nominal_hz: float) -> MeasuredRate:
    """Return the rate at which samples were sent or, without a packet counter, received.

    The rate is the slope of a least-squares line through the last stamp of each arrival over the numbers of the
    samples; the steps within a chunk are deduced, and tell nothing.

    Args:
        t: (n,) finite stamps in seconds.
        counter: (n,) values of the packet counter, if there is one.
        nominal_hz: Rate that the stream declares, at which the counter may wrap; 0 if it declares none.
    """
    if not t.size:
        return MeasuredRate(0.0, 0.0)
    counting = None if counter is None else find_counting(counter, nominal_hz)
    number: FloatArray = np.arange(t.size, dtype=np.float64)
    if counter is not None and counting is not None:
        number = counting.numbers(counter)
    lossless = counting is not None and bool(number[-1] == t.size - 1)
    chosen, n_arrivals = _observations(t)
    n, s = number[chosen], t[chosen]
    n_centred = n - np.mean(n)
    power = float(np.sum(n_centred**2))
    period = float(np.sum(n_centred * (s - np.mean(s)))) / power if power > 0 else 0.0
    if not period > 0:
        return MeasuredRate(0.0, 0.0, counting)
    residual = s - np.mean(s) - period * n_centred
    found = MeasuredRate(1.0 / period, float(np.max(np.abs(residual))), counting, lossless, n_arrivals)
    if not nominal_hz:
        return found
    nominal = t - number / nominal_hz
    return dataclasses.replace(
        found,
        nominal_spread_s=0.5 * float(np.ptp(nominal[chosen])),
        nominal_stray_s=0.5 * float(np.ptp(nominal)),
    )


_BLOCK_S = 4.0  # s of samples in one block
_LEAST_SAMPLES = 128  # of a block; a slow stream needs longer for a rate
_TOLERANCE = 0.01  # within 1 % of the rate it is drift, which SampleClock follows
_BLOCK_ARRIVALS = 8  # of a block whose rate is trusted
_MOST_BLOCKS = 4  # lengths of a block with fewer
_AGREEING = 0.005  # two blocks within 0.5 % of each other have the same rate


class RateWatch:
    """Measures the rate of each block of 4 s; two in a row that agree on another rate are a change.

    A block in which fewer than eight chunks arrived is made longer, up to 16 s.

    Args:
        rate_hz: Rate of the stream so far.
        counter: Row of the packet counter, if there is one.
    """

    def __init__(self, rate_hz: float, counter: int | None) -> None:
        self._rate_hz = rate_hz
        self._counter_row = counter
        self._block = max(_LEAST_SAMPLES, round(_BLOCK_S * rate_hz))
        self._before: MeasuredRate | None = None  # the last block, if it had another rate
        self.restart()

    def restart(self) -> None:
        """Begin a block: the next samples do not follow those before."""
        self._t: list[FloatArray] = []
        self._counter: list[FloatArray] = []
        self._n = 0
        self._size = self._block  # samples of the block under way

    @property
    def n_left(self) -> int:
        """Number of samples until the block is complete."""
        return self._size - self._n

    def push(self, chunk: Chunk) -> MeasuredRate | None:
        """Add at most ``n_left`` samples; return the new rate if the last of them shows a change."""
        self._t.append(chunk.t)
        if self._counter_row is not None:
            self._counter.append(chunk.x[self._counter_row])
        self._n += chunk.t.size
        if self.n_left:
            return None
        measured = self._measure()
        if measured.n_arrivals < _BLOCK_ARRIVALS and self._size < _MOST_BLOCKS * self._block:
            self._size += self._block
            return None
        other = measured if self._is_other(measured) else None
        self.restart()
        before, self._before = self._before, other
        agree = before is not None and abs(measured.rate_hz / before.rate_hz - 1) <= _AGREEING
        return other if agree else None

    def _measure(self) -> MeasuredRate:
        t = np.concatenate(self._t)
        finite = np.isfinite(t)
        counter = np.concatenate(self._counter)[finite] if self._counter else None
        return measure_rate(t[finite], counter, self._rate_hz)

    def _is_other(self, measured: MeasuredRate) -> bool:
        off = abs(measured.rate_hz / self._rate_hz - 1)
        doubt = 2 * measured.spread_s / (self._size / self._rate_hz)
        return measured.steady and measured.n_arrivals >= _BLOCK_ARRIVALS and off > max(_TOLERANCE, doubt)


_SHORT_S = 2.0  # s of stamps that can confirm the nominal rate; a window is not full before
_LOOK_S = 1.0  # s of stamps between two looks
_LONG_S = 6.0  # s of stamps that must decide on another rate
LONGEST_HOLD_S = 2 * _LONG_S
"""Seconds of samples, by the nominal rate, after which the rate is decided, whatever the stamps are."""

TWO_SIDED_S = 0.007
"""Seconds from the lowest stamps to their median, up to which they scatter about the truth rather than behind it."""

_IN_TIME = 0.05  # share of the stamps held that are taken to be in time
_MOST_SAMPLES = 20_000  # held at most, whatever the stamps do
_HIGHEST_HZ = 20_000.0  # beyond it the stamps of an undeclared stream show no rate
_UNDOUBTED_S = 0.05  # s that stamps may stray from a line of 6 s without a doubt of its slope beyond 1 %


@dataclass
class _GateState:
    held: list[Chunk | Gap] = field(default_factory=list)
    t: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) stamps held since the last gap
    counter: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) and their counters
    n_seen: int = 0  # of these, how many were examined
    next_look_s: float = _SHORT_S  # s of stamps at which the nominal rate is looked at next
    n_held: int = 0  # samples in ``held``


@dataclass(frozen=True)
class RateDecision:
    """The rate at which the samples behind it run."""

    sfreq: float  # Hz
    measured: MeasuredRate  # what decided


class RateGate:
    """Stage: passes chunks on once the rate is known, after a RateDecision.

    A nominal rate that the stamps of 2 s confirm within 1 % is kept, and so is one from which they differ no more than
    late arrivals do. Otherwise 6 s decide, or three arrivals where that takes longer: the rate at which the packet
    counter ran or, without one, the rate of the arrivals if they came evenly. Arrivals that came unevenly are losses,
    and the nominal rate is kept. What was held is passed on in its order.

    Where the rate changes later, a Gap and another RateDecision precede the samples from then on.

    Args:
        info: The stream as announced.
        counter: Row of the packet counter, if there is one.

    Attributes:
        rate_hz: Rate in Hz at which the stream is taken to run; 0 while it is measured.
        note: A sentence for people where this is not the declared rate; else empty.
        n_dropped: Samples whose stamps showed no rate at all.
    """

    def __init__(self, info: StreamInfo, counter: int | None) -> None:
        self._info = info
        self._counter_row = counter
        self.reset()

    def reset(self) -> None:
        """Forget everything and measure again."""
        self._state = _GateState()
        self.rate_hz = 0.0
        self.note = ""
        self.n_dropped = 0
        self._watch: RateWatch | None = None  # None while measuring
        self._changed: MeasuredRate | None = None  # what the samples to come run at
        self._t_last = np.nan  # s, the last stamp passed

    @property
    def measuring(self) -> bool:
        """Whether samples are held back."""
        return self.rate_hz == 0.0

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample held; NaN without, or where they make no sense."""
        t = self._state.t
        if not t.size or not 0 <= t[-1] - t[0] < LONGEST_HOLD_S:
            return float("nan"), float("nan")
        return float(t[0]), float(t[-1])

    def push(self, item: Item) -> list[Item | RateDecision]:
        """Hold Chunks and Gaps while measuring; pass everything else."""
        if not isinstance(item, Chunk | Gap):
            return [item]
        if self._watch is not None:
            return self._watched(self._watch, item)
        state = self._state
        state.held.append(item)
        if isinstance(item, Gap):
            state.t, state.counter, state.n_seen, state.next_look_s = np.empty(0), np.empty(0), 0, _SHORT_S
            return []
        state.n_held += item.t.size
        self._note_stamps(item)
        measured = self._decide()
        return [] if self.measuring or measured is None else self._open(measured)

    def _note_stamps(self, chunk: Chunk) -> None:
        finite = np.isfinite(chunk.t)
        state = self._state
        state.t = np.concatenate([state.t, chunk.t[finite]])
        if self._counter_row is not None:
            state.counter = np.concatenate([state.counter, chunk.x[self._counter_row, finite]])

    def _decide(self) -> MeasuredRate | None:
        """Decide sample by sample, so that the cut into chunks changes nothing; return the measurement that did."""
        state = self._state
        while state.n_seen < state.t.size:
            state.n_seen += 1
            span_s = state.t[state.n_seen - 1] - state.t[0]
            if span_s >= state.next_look_s or state.n_seen >= self._longest():
                state.next_look_s += _LOOK_S
                measured = self._measure()
                if self._keeps_nominal(measured):
                    self.rate_hz = self._info.sfreq
                    return dataclasses.replace(measured, late_s=self._first_late_s(measured))
                if state.n_seen >= self._longest() or (span_s >= _LONG_S and measured.n_arrivals >= _LEAST_ARRIVALS):
                    return self._settle(measured)
        return None

    def _keeps_nominal(self, measured: MeasuredRate) -> bool:
        """Return whether the nominal rate holds, or nothing speaks against it but lateness."""
        return (self._nominal(measured) and measured.confirms_nominal) or measured.allows_nominal

    def _longest(self) -> int:
        return min(round(LONGEST_HOLD_S * self._info.sfreq) or _MOST_SAMPLES, _MOST_SAMPLES)

    def _measure(self) -> MeasuredRate:
        t, counter = self._state.t[: self._state.n_seen], self._state.counter[: self._state.n_seen]
        return measure_rate(t, counter if self._counter_row is not None else None, self._info.sfreq)

    def _nominal(self, measured: MeasuredRate) -> bool:
        return self._info.sfreq > 0 and abs(measured.rate_hz / self._info.sfreq - 1) <= _TOLERANCE

    def _could_be_nominal(self, measured: MeasuredRate) -> bool:
        """Return whether the jitter of the few stamps of a slow stream may explain another rate."""
        if measured.spread_s <= _UNDOUBTED_S or not self._info.sfreq:
            return False
        span_s = float(self._state.t[self._state.n_seen - 1] - self._state.t[0])
        return abs(measured.rate_hz / self._info.sfreq - 1) * span_s <= 2 * measured.spread_s

    def _settle(self, measured: MeasuredRate) -> MeasuredRate:
        """Decide by all that is held; return the measurement, with the lateness of the first sample."""
        nominal = self._info.sfreq
        if not nominal:
            self._settle_undeclared(measured)
        elif self._nominal(measured) or self._could_be_nominal(measured) or not measured.steady:
            self.rate_hz = nominal
            return measured
        else:
            self.rate_hz = measured.snapped_hz
            doubt = "" if measured.counting else "; without a packet counter this may be an even loss"
            self.note = f"declares {nominal:g} Hz, runs at {self.rate_hz:g} Hz{doubt}"
        return measured if self.measuring else dataclasses.replace(measured, late_s=self._first_late_s(measured))

    def _settle_undeclared(self, measured: MeasuredRate) -> None:
        if measured.rate_hz <= _HIGHEST_HZ:
            self.rate_hz = measured.snapped_hz
            self.note = f"declares no rate, runs at {self.rate_hz:g} Hz"
        if self.measuring:
            n_dropped = self.n_dropped + self._state.n_held
            self.reset()
            self.n_dropped, self.note = n_dropped, "declares no rate, and its stamps tell none"

    def _open(self, measured: MeasuredRate) -> list[Item | RateDecision]:
        held, self._state = self._state.held, _GateState()
        self._watch = watch = RateWatch(self.rate_hz, self._counter_row)
        decision = RateDecision(self.rate_hz, measured)
        return [decision, *(item for given in held for item in self._watched(watch, given))]

    def _first_late_s(self, measured: MeasuredRate) -> float:
        """Return by how many seconds the first stamp held is later than those in time; 0 behind a Gap."""
        state = self._state
        if any(isinstance(held, Gap) for held in state.held):
            return 0.0
        t = state.t[: state.n_seen]
        number: FloatArray = np.arange(t.size, dtype=np.float64)
        if measured.counting is not None:
            number = measured.counting.numbers(state.counter[: t.size])
        late = t - number / self.rate_hz
        lowest, middle = (float(value) for value in np.quantile(late, (_IN_TIME, 0.5)))
        return float(late[0]) - (middle if middle - lowest <= TWO_SIDED_S else lowest)

    def _watched(self, watch: RateWatch, item: Chunk | Gap) -> list[Item | RateDecision]:
        """Pass an item on, cut where the rate turns out to be another one."""
        if isinstance(item, Gap):
            watch.restart()
            return [item]
        passed: list[Item | RateDecision] = []
        first = 0
        while first < item.t.size:
            if self._changed is not None:
                passed += self._change(self._changed, float(item.t[first]))
                watch = self._watch = RateWatch(self.rate_hz, self._counter_row)
            part = _part(item, first, watch.n_left)
            passed.append(part)
            first += part.t.size
            self._t_last = float(part.t[-1])
            self._changed = watch.push(part)
        return passed

    def _change(self, measured: MeasuredRate, t: float) -> list[Item | RateDecision]:
        """Change to another rate before the sample that is stamped ``t`` seconds."""
        before, self.rate_hz = self.rate_hz, measured.snapped_hz
        self.note = f"declares {self._info.sfreq:g} Hz, runs at {self.rate_hz:g} Hz; before, it ran at {before:g} Hz"
        self._changed = None
        return [Gap(self._t_last, t, self._info.source, "clock_jump"), RateDecision(self.rate_hz, measured)]


def _part(chunk: Chunk, first: int, n: int) -> Chunk:
    """Return the next samples, ``n`` at most, from the one with this index on."""
    if first == 0 and n >= chunk.t.size:
        return chunk
    return Chunk(chunk.source, chunk.t[first : first + n], chunk.x[:, first : first + n])
