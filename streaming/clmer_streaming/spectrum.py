"""The spectrum of a stretch of signal, up to where EEG and the mains end."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FloatArray

_HIGHEST_HZ = 64.0  # beyond EEG and mains; higher frequencies are not looked at
_AT_ONCE = 16  # channels; as many as stay in a processor's cache


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What frequencies are in a signal under a Hann window, in no unit: only shares and likenesses mean something."""

    values: npt.NDArray[np.complex128]  # (C, m)
    n: int  # samples of the signal
    sfreq: float  # Hz, their rate

    def band(self, low: float, high: float) -> FloatArray:
        """Return real and imaginary parts (C, 2 b) of the b bins from ``low`` to ``high`` Hz, both included."""
        parts: FloatArray = self.values[:, _bins(self.n, self.sfreq, low, high)].view(np.float64)
        return parts

    def power(self, low: float, high: float) -> FloatArray:
        """Return the summed power (C,) from ``low`` to ``high`` Hz, both included."""
        band = self.band(low, high)
        power: FloatArray = np.einsum("cb,cb->c", band, band)
        return power


def spectrum(x: FloatArray, sfreq: float) -> Spectrum:
    """Return the spectrum of x (C, n) without its mean, between 0 Hz and half of the rate, both left out."""
    n = x.shape[1]
    n_bins = _frequencies(n, sfreq).size + 2
    plain = np.empty((x.shape[0], n_bins), dtype=np.complex128)
    for first in range(0, x.shape[0], _AT_ONCE):
        some = x[first : first + _AT_ONCE]
        plain[first : first + _AT_ONCE] = np.fft.rfft(some - some[:, :1], axis=1)[:, :n_bins]
    plain[:, 0] = 0.0
    # Multiplying by a Hann window is, on the bins, taking off the mean of both neighbours.
    return Spectrum(0.5 * plain[:, 1:-1] - 0.25 * (plain[:, :-2] + plain[:, 2:]), n, sfreq)


@functools.lru_cache(maxsize=64)
def _frequencies(n: int, sfreq: float) -> FloatArray:
    """Return the frequencies (m,) in Hz of the bins that are kept, of a signal of ``n`` samples."""
    freqs: FloatArray = np.fft.rfftfreq(n, 1.0 / sfreq)[1:-1]
    return freqs[freqs <= _HIGHEST_HZ]


@functools.lru_cache(maxsize=256)
def _bins(n: int, sfreq: float, low: float, high: float) -> slice:
    freqs = _frequencies(n, sfreq)
    return slice(int(np.searchsorted(freqs, low)), int(np.searchsorted(freqs, high, side="right")))
