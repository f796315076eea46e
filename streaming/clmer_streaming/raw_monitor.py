"""What can only be seen before filtering: values that stand still, the level at which they do, and the mains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.sample_buffer import SampleBuffer
from clmer_streaming.spectrum import spectrum
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Item

_MAINS_HZ = (50.0, 60.0)
_MAINS_HALF_WIDTH_HZ = 1.0  # a Hann window of 2 s spreads a line over 1 Hz to either side
_EEG_HZ = (4.0, 45.0)


@dataclass(frozen=True, eq=False)
class RawView:
    """The unfiltered signal of one window, all (C,)."""

    stuck: FloatArray  # 0-1, share of the measured samples that repeat the one before, to the last bit
    level_uv: FloatArray  # uV, mean
    line: FloatArray  # 0-1, power of the mains (50 or 60 Hz, whichever has more) over it and that of 4-45 Hz


class RawMonitor:
    """Keeps the latest seconds of the unfiltered signal; a stage that passes everything on.

    Args:
        sfreq: Rate of the stream in Hz.
        notch_hz: Mains frequency that is filtered out later, and so does not count; None without a notch.
    """

    def __init__(self, sfreq: float, notch_hz: float | None = None) -> None:
        self._sfreq = sfreq
        self._mains_hz = tuple(hz for hz in _MAINS_HZ if hz != notch_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the signal."""
        self._samples: SampleBuffer | None = None  # uV; marked where a value was measured

    def push(self, item: Item) -> list[Item]:
        """Take note of Chunks (C, n) in microvolts; pass everything."""
        if isinstance(item, Chunk) and item.t.size:
            if self._samples is None or (self._samples.t.size and item.t[0] <= self._samples.t[-1]):
                self._samples = SampleBuffer(item.x.shape[0])  # the first chunk, or the clock has gone back
            self._samples.append(item.t, item.x, True if item.filled is None else ~item.filled)
        return [item]

    def view(self, t_start: float, t_end: float) -> RawView | None:
        """Return what the samples with ``t_start <= t < t_end`` look like; None where there are fewer than two."""
        if self._samples is None:
            return None
        first, last = np.searchsorted(self._samples.t, (t_start, t_end)).tolist()
        if last - first < 2:
            return None
        x, measured = self._samples.x[:, first:last], self._samples.marks[:, first:last]
        return RawView(
            stuck=_repeated(x, measured[:, 1:]),
            level_uv=np.mean(x, axis=1),
            line=mains_share(x, self._sfreq, self._mains_hz),
        )

    def forget_before(self, t: float) -> None:
        """Drop samples older than ``t``."""
        if self._samples is not None:
            self._samples.forget_before(t)


def _repeated(x: FloatArray, measured: BoolArray) -> FloatArray:
    """Return the share (C,) of the measured samples that repeat the one before: x (C, n), measured (C, n - 1)."""
    same = x[:, 1:] == x[:, :-1]
    if not same.any():
        return np.zeros(x.shape[0])
    share: FloatArray = np.sum(same & measured, axis=1) / np.maximum(np.sum(measured, axis=1), 1)
    return share


def mains_share(x: FloatArray, sfreq: float, mains_hz: tuple[float, ...] = _MAINS_HZ) -> FloatArray:
    """Return the share (C,) of the mains in unfiltered EEG (C, n): its power over it and that of 4-45 Hz.

    Args:
        x: (C, n) uV.
        sfreq: Its rate in Hz; frequencies that it cannot carry do not count.
        mains_hz: Where to look; the frequency with the most power counts.
    """
    seen = spectrum(x, sfreq)
    eeg = seen.power(*_EEG_HZ)
    carried = [hz for hz in mains_hz if hz + _MAINS_HALF_WIDTH_HZ < sfreq / 2]
    lines = [seen.power(hz - _MAINS_HALF_WIDTH_HZ, hz + _MAINS_HALF_WIDTH_HZ) for hz in carried]
    line: FloatArray = np.max(lines, axis=0) if lines else np.zeros(x.shape[0])
    total = eeg + line
    return np.divide(line, total, out=np.zeros(x.shape[0]), where=total > 0)
