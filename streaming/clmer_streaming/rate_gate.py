"""Holds the first seconds of a stream until it is known at which rate it really runs, and sees that change."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.rate_watch import RateWatch
from clmer_streaming.stream_rate import MeasuredRate, measure_rate
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo

_SHORT_S = 2.0  # s of stamps that can confirm the nominal rate; a window is not full before
_LONG_S = 6.0  # s of stamps that must do otherwise
LONGEST_HOLD_S = 2 * _LONG_S
"""Seconds of samples, by the nominal rate, after which the stamps have had their chance, whatever they say."""

_MOST_SAMPLES = 20_000  # held at most, whatever the stamps do
_HIGHEST_HZ = 20_000.0  # beyond it the stamps of an undeclared stream tell no rate
_UNDOUBTED_S = 0.05  # s that stamps may stray from a line of 6 s without a doubt of its slope beyond 1 %
_TOLERANCE = 0.01  # a rate within 1 % of the nominal one is that, with drift (SampleClock follows it)


@dataclass
class _GateState:
    held: list[Chunk | Gap] = field(default_factory=list)
    t: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) stamps held since the last gap
    counter: FloatArray = field(default_factory=lambda: np.empty(0))  # (n,) and their counters
    n_seen: int = 0  # of these, how many were looked at
    short_done: bool = False
    n_held: int = 0  # samples in ``held``


class RateGate:
    """Stage: passes chunks on once the rate is known, after a StreamInfo that has it as its ``sfreq``.

    A nominal rate that the stamps of 2 s confirm within 1 % is kept. Otherwise 6 s decide: the rate at which
    the packet counter ran or, without one, the rate of the stamps if they came evenly. Stamps that came
    unevenly are losses, and the nominal rate is kept. What was held is passed on in its order.

    Where the rate changes later, a Gap and a StreamInfo with the new one precede the samples from then on.

    Args:
        info: The stream as announced.
        counter: Row of the packet counter, if there is one.
    """

    def __init__(self, info: StreamInfo, counter: int | None) -> None:
        self._info = info
        self._counter_row = counter
        self.reset()

    def reset(self) -> None:
        """Measure anew."""
        self._state = _GateState()
        self.rate_hz = 0.0  # at which the stream is taken to run; 0 while it is measured
        self.note = ""  # a sentence for people, where the rate is not what the stream declares
        self.measured: MeasuredRate | None = None  # what decided
        self.n_dropped = 0  # samples whose stamps told no rate at all
        self._watch: RateWatch | None = None  # None while measuring
        self._changed: MeasuredRate | None = None  # what the samples to come run at
        self._t_last = np.nan  # s, the last stamp passed

    @property
    def measuring(self) -> bool:
        """Whether samples are held back."""
        return self.rate_hz == 0.0

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample held; NaN where none is, or they make no sense."""
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
        """Look at the samples one by one, so that the cut of the stream changes nothing."""
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
        """Tell whether the jitter of the few stamps of a slow stream may explain another rate."""
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
            watch.forget()
            return [item]
        passed: list[Item] = []
        first = 0
        while first < item.t.size:
            if self._changed is not None:
                passed += self._change(self._changed, float(item.t[first]))
                watch = self._watch = RateWatch(self.rate_hz, self._counter_row)
            part = _part(item, first, watch.room)
            passed.append(part)
            first += part.t.size
            self._t_last = float(part.t[-1])
            self._changed = watch.look(part)
        return passed

    def _change(self, measured: MeasuredRate, t: float) -> list[Item]:
        """Go over to another rate before the sample that is stamped ``t`` seconds."""
        before, self.rate_hz, self.measured = self.rate_hz, measured.snapped_hz, measured
        self.note = f"declares {self._info.sfreq:g} Hz, runs at {self.rate_hz:g} Hz; before, it ran at {before:g} Hz"
        self._changed = None
        return [Gap(self._t_last, t, self._info.source, "clock_jump"), self._info_now]


def _part(chunk: Chunk, first: int, n: int) -> Chunk:
    """Return the next samples, ``n`` at most, from the one with this index on."""
    if first == 0 and n >= chunk.t.size:
        return chunk
    return Chunk(chunk.source, chunk.t[first : first + n], chunk.x[:, first : first + n])
