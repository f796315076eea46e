"""Sees a stream's rate change while it runs: a headset set to another one, an amplifier whose clock was changed."""

from __future__ import annotations

import numpy as np

from clmer_streaming.stream_rate import MeasuredRate, measure_rate
from clmer_streaming.types import Chunk, FloatArray

_BLOCK_S = 4.0  # s of samples that one look takes
_LEAST_SAMPLES = 128  # of a look; the stamps of a slow stream need longer to tell a rate
_TOLERANCE = 0.01  # within 1 % of the rate it is drift, which SampleClock follows
_AGREEING = 0.005  # two looks within 0.5 % of each other tell the same rate


class RateWatch:
    """Looks at the stamps of each 4 s; two looks in a row that agree on another rate are a change.

    Args:
        rate_hz: At which the stream runs until now.
        counter: Row of the packet counter, if there is one.
    """

    def __init__(self, rate_hz: float, counter: int | None) -> None:
        self._rate_hz = rate_hz
        self._counter_row = counter
        self._size = max(_LEAST_SAMPLES, round(_BLOCK_S * rate_hz))
        self._before: MeasuredRate | None = None  # what the last look told, if it was another rate
        self.forget()

    def forget(self) -> None:
        """Begin a look anew: what comes next does not follow what came before."""
        self._t: list[FloatArray] = []
        self._counter: list[FloatArray] = []
        self._n = 0

    @property
    def room(self) -> int:
        """Samples until the look is complete."""
        return self._size - self._n

    def look(self, chunk: Chunk) -> MeasuredRate | None:
        """Take at most ``room`` samples; return the new rate where a change has shown with the last of them."""
        self._t.append(chunk.t)
        if self._counter_row is not None:
            self._counter.append(chunk.x[self._counter_row])
        self._n += chunk.t.size
        if self.room:
            return None
        measured = self._measure()
        self.forget()
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
