"""The packet counter of a stream: how it counts, and the losses that it proves.

``find_counting`` finds increment and modulus in a stretch of values; ``LossCounter`` follows a running counter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import FloatArray

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
