"""The packet counter of a stream, and the rate at which the stream really runs, whatever it declares.

Of a counter ``find_counting`` finds increment and modulus, and ``LossCounter`` the losses. ``measure_rate`` fits a rate
to stamps, and to the counter where there is one; ``RateWatch`` finds a change of the rate. The stage ``RateGate`` holds
the first seconds of a stream until the rate is known.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo

_COUNTER_MODULI = (128.0, 256.0, 65536.0)  # beside the nominal rate: EmotivPRO at 128 Hz, one byte, two bytes
_LEAST_STEADY_SHARE = 0.25  # of the counter's steps that must be the usual one, or it is no counter


@dataclass(frozen=True)
class Counting:
    """Increment and modulus of a packet counter."""

    step: float  # increment from sample to sample
    modulus: float | None  # where it wraps; None while no wrap was seen

    def numbers(self, counter: FloatArray) -> FloatArray:
        """Return (n,) running sample numbers of the counters (n,)."""
        steps = np.diff(counter)
        forward = steps if self.modulus is None else steps % self.modulus
        numbers: FloatArray = np.concatenate([[0.0], np.cumsum(forward)]) / self.step
        return numbers


def find_counting(counter: FloatArray, nominal_hz: float) -> Counting | None:
    """Return how the values (n,) of a packet counter count; None if they do not.

    The increment is the most frequent difference, which losses do not change. The counter is taken to wrap
    where most wraps are then free of loss: at the nominal rate, at 128, one byte, two, or behind its largest value.
    """
    steps = np.diff(counter)
    forward = steps[np.isfinite(steps) & (steps > 0)]
    if not forward.size or not np.isfinite(counter).all():
        return None
    values, counts = np.unique(forward, return_counts=True)
    step = float(values[np.argmax(counts)])
    if np.max(counts) < _LEAST_STEADY_SHARE * steps.size:
        return None
    if not np.any(steps < 0):
        return Counting(step, None)
    largest = float(np.max(counter))
    moduli = [m for m in (float(round(nominal_hz)), *_COUNTER_MODULI, largest + step) if m > largest]
    return Counting(step, max(moduli, key=lambda m: int(np.sum(steps % m == step))))


_MODULI = (256.0, 65536.0)  # one and two bytes, when the counter passes the nominal rate (Emotiv restarts each second)


@dataclass
class _CounterState:
    last: float = np.nan  # counter of the last accepted sample
    largest: float = 0.0  # largest value seen
    step: float = 0.0  # increment from sample to sample; 0 while unknown
    last_difference: float = np.nan


class LossCounter:
    """Finds losses by a wrapping packet counter whose increment and modulus it learns.

    The increment is taken from the first two equal consecutive differences (boards that send every other
    packet step by 2), unless it is known. The counter wraps at the nominal rate (EmotivPRO: each second) or
    where it was seen to wrap, or at one or two bytes once it has been seen beyond that.

    Args:
        sfreq: Nominal rate in Hz.
        counting: Increment and modulus where they are known beforehand.
    """

    def __init__(self, sfreq: float, counting: Counting | None = None) -> None:
        self._base = max(2.0, round(sfreq))
        self._state = _CounterState()
        if counting is not None:
            self._base = counting.modulus or self._base
            self._state.step = counting.step

    def start_segment(self) -> None:
        """Begin a segment: the next value follows none; increment and modulus are kept."""
        self._state.last = self._state.last_difference = np.nan

    @property
    def known(self) -> bool:
        """Whether the increment is known and there is a last value to compare with."""
        return self._state.step > 0 and bool(np.isfinite(self._state.last))

    @property
    def wrap_samples(self) -> float:
        """Number of samples after which the counter repeats; a loss of as many looks like none."""
        return self._modulus(self._state.largest) / self._state.step

    def contiguous(self, counter: FloatArray) -> int:
        """Return how many of the values (n,) follow the last accepted one without loss."""
        state = self._state
        if counter.size == 1:
            value = float(counter[0])
            return int((value - state.last) % self._modulus(max(value, state.largest)) == state.step)
        before = np.empty_like(counter)
        before[0], before[1:] = state.last, counter[:-1]
        follows = (counter - before) % self._moduli(counter) == state.step
        return counter.size if follows.all() else int(np.argmin(follows))

    def lost_before(self, value: float) -> int | None:
        """Return how many samples are missing before one with this value, up to whole wraps; None if it cannot be."""
        modulus = self._modulus(max(value, self._state.largest))
        steps = ((value - self._state.last) % modulus) / self._state.step
        if not (np.isfinite(steps) and steps == round(steps)):
            return None
        return round(steps) - 1 if steps else round(modulus / self._state.step) - 1

    def accept(self, counter: FloatArray) -> None:
        """Add the values (n,) of accepted samples."""
        state = self._state
        if state.step == 0:
            self._learn(counter)
        state.last = float(counter[-1])
        state.largest = max(state.largest, float(counter[0] if counter.size == 1 else np.max(counter)))

    def _learn(self, counter: FloatArray) -> None:
        state = self._state
        for difference in np.diff(np.concatenate([[state.last], counter])):
            if difference == state.last_difference and difference > 0:
                state.step = float(difference)
                return
            state.last_difference = float(difference)

    def _moduli(self, counter: FloatArray) -> FloatArray | float:
        """Return the modulus at each of the values (n,); one number where all have the same."""
        largest = self._state.largest
        modulus = self._modulus(largest)
        if self._modulus(max(largest, float(np.fmax.reduce(counter)))) == modulus:
            return modulus
        so_far = np.maximum(np.maximum.accumulate(counter), largest)
        return np.array([self._modulus(value) for value in so_far.tolist()])

    def _modulus(self, largest: float) -> float:
        if largest < self._base:
            return self._base
        one, two = _MODULI
        return one if largest < one else two


# Hz; rates that amplifiers, headsets and belts are built for. A measured rate is taken for one of these within 0.5 %.
_USUAL_RATES = (
    1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 25.0, 32.0, 50.0, 52.0, 64.0,
    100.0, 125.0, 128.0, 160.0, 200.0, 220.0, 250.0, 256.0, 300.0, 500.0, 512.0, 600.0,
    1000.0, 1024.0, 1200.0, 2000.0, 2048.0,
)  # fmt: skip
_SNAP = 0.005
_CLOSE_S = 0.05  # s that stamps of a stream without loss may stray from a line, or three samples
_STEADY_SHARE_OF_WRAP = 0.35  # a loss of a whole turn of the counter shows as half a turn at least


@dataclass(frozen=True)
class MeasuredRate:
    """A straight line through stamps over sample numbers."""

    rate_hz: float  # 0 where the stamps show no rate
    spread_s: float  # largest distance of a stamp from the line
    counting: Counting | None = None  # of the packet counter, where there is one
    lossless: bool = False  # the counter shows no loss, unless it was of whole turns

    @property
    def snapped_hz(self) -> float:
        """The usual rate within 0.5 % of this one; this one, rounded, where there is none."""
        if not self.rate_hz:
            return 0.0
        nearest = min(_USUAL_RATES, key=lambda rate: abs(rate - self.rate_hz))
        return nearest if abs(self.rate_hz / nearest - 1) <= _SNAP else _rounded(self.rate_hz)

    @property
    def close(self) -> bool:
        """Whether the stamps are as close to the line as those of a stream without loss, in short chunks."""
        return self.rate_hz > 0 and self.spread_s <= max(3.0 / self.rate_hz, _CLOSE_S)

    @property
    def steady(self) -> bool:
        """Whether the rate can be trusted: the stamps are close to the line, or the counter shows no loss."""
        if self.close or not (self.rate_hz and self.lossless and self.counting and self.counting.modulus):
            return self.close
        wrap_s = self.counting.modulus / self.counting.step / self.rate_hz
        return self.spread_s <= _STEADY_SHARE_OF_WRAP * wrap_s


def _rounded(rate_hz: float) -> float:
    """Return a rate to a tenth of a Hz, one below 100 Hz to three digits."""
    return round(rate_hz, 1 if rate_hz >= 100 else 2 - math.floor(math.log10(rate_hz)))


def measure_rate(t: FloatArray, counter: FloatArray | None, nominal_hz: float) -> MeasuredRate:
    """Return the rate at which samples were sent or, without a packet counter, received.

    Args:
        t: (n,) finite stamps in seconds.
        counter: (n,) values of the packet counter, if there is one.
        nominal_hz: Rate that the stream declares, at which the counter may wrap.
    """
    counting = None if counter is None else find_counting(counter, nominal_hz)
    number: FloatArray = np.arange(t.size, dtype=np.float64)
    if counter is not None and counting is not None:
        number = counting.numbers(counter)
    lossless = counting is not None and bool(number[-1] == t.size - 1)
    centred = number - np.mean(number)
    power = float(np.sum(centred**2))
    period = float(np.sum(centred * (t - np.mean(t)))) / power if power > 0 else 0.0
    if not period > 0:
        return MeasuredRate(0.0, 0.0, counting)
    residual = t - np.mean(t) - period * centred
    return MeasuredRate(1.0 / period, float(np.max(np.abs(residual))), counting, lossless)


_BLOCK_S = 4.0  # s of samples in one block
_LEAST_SAMPLES = 128  # of a block; a slow stream needs longer for a rate
_TOLERANCE = 0.01  # within 1 % of the rate it is drift, which SampleClock follows
_AGREEING = 0.005  # two blocks within 0.5 % of each other have the same rate


class RateWatch:
    """Measures the rate of each block of 4 s; two in a row that agree on another rate are a change.

    Args:
        rate_hz: Rate of the stream so far.
        counter: Row of the packet counter, if there is one.
    """

    def __init__(self, rate_hz: float, counter: int | None) -> None:
        self._rate_hz = rate_hz
        self._counter_row = counter
        self._size = max(_LEAST_SAMPLES, round(_BLOCK_S * rate_hz))
        self._before: MeasuredRate | None = None  # the last block, if it had another rate
        self.restart()

    def restart(self) -> None:
        """Begin a block: the next samples do not follow those before."""
        self._t: list[FloatArray] = []
        self._counter: list[FloatArray] = []
        self._n = 0

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
        self.restart()
        other = measured if self._is_other(measured) else None
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
        return measured.steady and off > max(_TOLERANCE, doubt)


_SHORT_S = 2.0  # s of stamps that can confirm the nominal rate; a window is not full before
_LONG_S = 6.0  # s of stamps that must do otherwise
LONGEST_HOLD_S = 2 * _LONG_S
"""Seconds of samples, by the nominal rate, after which the rate is decided, whatever the stamps are."""

_MOST_SAMPLES = 20_000  # held at most, whatever the stamps do
_HIGHEST_HZ = 20_000.0  # beyond it the stamps of an undeclared stream show no rate
_UNDOUBTED_S = 0.05  # s that stamps may stray from a line of 6 s without a doubt of its slope beyond 1 %


@dataclass
class _GateState:
    held: list[Chunk | Gap] = field(default_factory=list)
    t: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) stamps held since the last gap
    counter: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) and their counters
    n_seen: int = 0  # of these, how many were examined
    short_done: bool = False
    n_held: int = 0  # samples in ``held``


class RateGate:
    """Stage: passes chunks on once the rate is known, after a StreamInfo whose ``sfreq`` it is.

    A nominal rate that the stamps of 2 s confirm within 1 % is kept. Otherwise 6 s decide: the rate at which
    the packet counter ran or, without one, the rate of the stamps if they came evenly. Stamps that came
    unevenly are losses, and the nominal rate is kept. What was held is passed on in its order.

    Where the rate changes later, a Gap and a StreamInfo with the new rate precede the samples from then on.

    Args:
        info: The stream as announced.
        counter: Row of the packet counter, if there is one.

    Attributes:
        rate_hz: Rate in Hz at which the stream is taken to run; 0 while it is measured.
        note: A sentence for people where this is not the declared rate; else empty.
        measured: The measurement that decided; None before one.
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
        self.measured: MeasuredRate | None = None
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

    def push(self, item: Item) -> list[Item]:
        """Hold Chunks and Gaps while measuring; pass everything else."""
        if not isinstance(item, Chunk | Gap):
            return [item]
        if self._watch is not None:
            return self._watched(self._watch, item)
        state = self._state
        state.held.append(item)
        if isinstance(item, Gap):
            state.t, state.counter, state.n_seen, state.short_done = np.empty(0), np.empty(0), 0, False
            return []
        state.n_held += item.t.size
        self._note_stamps(item)
        self._decide()
        return [] if self.measuring else self._open()

    def _note_stamps(self, chunk: Chunk) -> None:
        finite = np.isfinite(chunk.t)
        state = self._state
        state.t = np.concatenate([state.t, chunk.t[finite]])
        if self._counter_row is not None:
            state.counter = np.concatenate([state.counter, chunk.x[self._counter_row, finite]])

    def _decide(self) -> None:
        """Decide sample by sample, so that the cut into chunks changes nothing."""
        state = self._state
        while state.n_seen < state.t.size and self.measuring:
            state.n_seen += 1
            span_s = state.t[state.n_seen - 1] - state.t[0]
            if span_s >= _LONG_S or state.n_seen >= self._longest():
                self.measured = self._measure()
                self._settle(self.measured)
            elif span_s >= _SHORT_S and not state.short_done:
                state.short_done = True
                self.measured = self._measure()
                self.rate_hz = self._info.sfreq if self._nominal(self.measured) and self.measured.close else 0.0

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

    def _settle(self, measured: MeasuredRate) -> None:
        nominal = self._info.sfreq
        if not nominal:
            self._settle_undeclared(measured)
        elif self._nominal(measured) or self._could_be_nominal(measured) or not measured.steady:
            self.rate_hz = nominal
        else:
            self.rate_hz = measured.snapped_hz
            doubt = "" if measured.counting else "; without a packet counter this may be an even loss"
            self.note = f"declares {nominal:g} Hz, runs at {self.rate_hz:g} Hz{doubt}"

    def _settle_undeclared(self, measured: MeasuredRate) -> None:
        if measured.rate_hz <= _HIGHEST_HZ:
            self.rate_hz = measured.snapped_hz
            self.note = f"declares no rate, runs at {self.rate_hz:g} Hz"
        if self.measuring:
            n_dropped = self.n_dropped + self._state.n_held
            self.reset()
            self.n_dropped, self.note = n_dropped, "declares no rate, and its stamps tell none"

    def _open(self) -> list[Item]:
        held, self._state = self._state.held, _GateState()
        self._watch = watch = RateWatch(self.rate_hz, self._counter_row)
        return [self._info_now, *(item for given in held for item in self._watched(watch, given))]

    @property
    def _info_now(self) -> StreamInfo:
        return dataclasses.replace(self._info, sfreq=self.rate_hz)

    def _watched(self, watch: RateWatch, item: Chunk | Gap) -> list[Item]:
        """Pass an item on, cut where the rate turns out to be another one."""
        if isinstance(item, Gap):
            watch.restart()
            return [item]
        passed: list[Item] = []
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

    def _change(self, measured: MeasuredRate, t: float) -> list[Item]:
        """Change to another rate before the sample that is stamped ``t`` seconds."""
        before, self.rate_hz, self.measured = self.rate_hz, measured.snapped_hz, measured
        self.note = f"declares {self._info.sfreq:g} Hz, runs at {self.rate_hz:g} Hz; before, it ran at {before:g} Hz"
        self._changed = None
        return [Gap(self._t_last, t, self._info.source, "clock_jump"), self._info_now]


def _part(chunk: Chunk, first: int, n: int) -> Chunk:
    """Return the next samples, ``n`` at most, from the one with this index on."""
    if first == 0 and n >= chunk.t.size:
        return chunk
    return Chunk(chunk.source, chunk.t[first : first + n], chunk.x[:, first : first + n])
