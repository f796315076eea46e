"""Power over frequency of a stretch of signal."""

from __future__ import annotations

import numpy as np

from clmer_streaming.types import FloatArray


def power_spectrum(x: FloatArray, sfreq: float) -> tuple[FloatArray, FloatArray]:
    """Return frequencies (n // 2 + 1,) in Hz and power (C, n // 2 + 1) of x (C, n), without its mean, Hann-windowed.

    The power has no scale; only its shares mean something.
    """
    n = x.shape[1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    spectrum = np.fft.rfft((x - np.mean(x, axis=1, keepdims=True)) * window, axis=1)
    power: FloatArray = spectrum.real**2 + spectrum.imag**2
    return np.fft.rfftfreq(n, 1.0 / sfreq), power


def band_power(freqs: FloatArray, power: FloatArray, low: float, high: float) -> FloatArray:
    """Return the summed power (C,) between two frequencies in Hz, both included."""
    total: FloatArray = np.sum(power[:, (freqs >= low) & (freqs <= high)], axis=1)
    return total
