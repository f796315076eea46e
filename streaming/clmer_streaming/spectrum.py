"""Power over frequency of a stretch of signal."""

from __future__ import annotations

import numpy as np

from clmer_streaming.types import FloatArray

_HIGHEST_HZ = 64.0  # beyond EEG and mains; higher frequencies are not looked at


def power_spectrum(x: FloatArray, sfreq: float) -> tuple[FloatArray, FloatArray]:
    """Return frequencies (m,) up to 64 Hz and power (C, m) of x (C, n), without its mean and Hann-windowed.

    The power has no scale; only its shares mean something.
    """
    n = x.shape[1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    spectrum = np.fft.rfft((x - np.mean(x, axis=1, keepdims=True)) * window, axis=1)
    freqs = np.fft.rfftfreq(n, 1.0 / sfreq)
    spectrum = spectrum[:, freqs <= _HIGHEST_HZ]
    power: FloatArray = spectrum.real**2 + spectrum.imag**2
    return freqs[freqs <= _HIGHEST_HZ], power


def band_power(freqs: FloatArray, power: FloatArray, low: float, high: float) -> FloatArray:
    """Return the summed power (C,) between two frequencies in Hz, both included."""
    total: FloatArray = np.sum(power[:, (freqs >= low) & (freqs <= high)], axis=1)
    return total
