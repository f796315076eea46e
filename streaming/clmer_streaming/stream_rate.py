"""At which rate a stream runs: by its stamps, and by its packet counter where samples were lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import FloatArray

# Hz; rates that amplifiers, headsets and belts are built for. A measured rate is taken for one of these within 0.5 %.
_USUAL_RATES = (
    1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 25.0, 32.0, 50.0, 52.0, 64.0,
    100.0, 125.0, 128.0, 160.0, 200.0, 220.0, 250.0, 256.0, 300.0, 500.0, 512.0, 600.0,
    1000.0, 1024.0, 1200.0, 2000.0, 2048.0,
)  # fmt: skip
_SNAP = 0.005
_COUNTER_MODULI = (128.0, 256.0, 65536.0)  # beside the nominal rate: EmotivPRO at 128 Hz, one byte, two bytes
_LEAST_STEADY_SHARE = 0.25  # of the counter's steps that must be the usual one, or it is no counter
_CLOSE_S = 0.05  # s that stamps of a stream without loss may stray from a line, or three samples
_STEADY_SHARE_OF_WRAP = 0.35  # a loss of a whole turn of the counter shows as half a turn at least


@dataclass(frozen=True)
class Counting:
    """How a packet counter counts."""

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

    The increment is the most frequent difference, so that losses do not mislead. The counter is taken to wrap
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


@dataclass(frozen=True)
class MeasuredRate:
    """A straight line through stamps over sample numbers."""

    rate_hz: float  # 0 where the stamps tell no rate
    spread_s: float  # largest distance of a stamp from the line
    counting: Counting | None = None  # of the packet counter, where there is one
    lossless: bool = False  # the counter shows no loss, unless it was of whole turns

    @property
    def snapped_hz(self) -> float:
        """The usual rate that this one is within 0.5 % of; itself, rounded, if there is none."""
        if not self.rate_hz:
            return 0.0
        nearest = min(_USUAL_RATES, key=lambda rate: abs(rate - self.rate_hz))
        return nearest if abs(self.rate_hz / nearest - 1) <= _SNAP else _rounded(self.rate_hz)

    @property
    def close(self) -> bool:
        """Whether the stamps keep to the line as those of a stream without loss, in short chunks, do."""
        return self.rate_hz > 0 and self.spread_s <= max(3.0 / self.rate_hz, _CLOSE_S)

    @property
    def steady(self) -> bool:
        """Whether the line tells a rate: the stamps are close to it, or a lossless counter vouches for it."""
        if self.close or not (self.rate_hz and self.lossless and self.counting and self.counting.modulus):
            return self.close
        wrap_s = self.counting.modulus / self.counting.step / self.rate_hz
        return self.spread_s <= _STEADY_SHARE_OF_WRAP * wrap_s


def _rounded(rate_hz: float) -> float:
    """Return a rate to a tenth of a Hz, one below 100 Hz to three digits."""
    return round(rate_hz, 1 if rate_hz >= 100 else 2 - math.floor(math.log10(rate_hz)))


def measure_rate(t: FloatArray, counter: FloatArray | None, nominal_hz: float) -> MeasuredRate:
    """Fit the rate at which samples were sent or, without a packet counter, received.

    Args:
        t: (n,) finite stamps in seconds.
        counter: (n,) values of the packet counter, if there is one.
        nominal_hz: What the stream declares; a hint at where the counter wraps.
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
