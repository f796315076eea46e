"""Features of windows for classifiers without a network: log band powers of signals, mean values of all else.

``feature_matrix`` joins those of several modalities; ``band_powers`` is the definition that the network's linear path
shares.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from clmer_model.config import modality_spec
from clmer_model.data.examples import Examples
from clmer_model.network.encoder import BANDS
from clmer_streaming.config import PreprocessConfig

Floats = npt.NDArray[np.float64]
Bands = tuple[tuple[float, float], ...]
"""Lower and upper edges, in Hz."""


FURTHER_BANDS: Bands = ((0, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32))
"""Slow waves, as of breath and skin, then octaves, as of the pulse; the constant level belongs to the first band."""


MIN_POWER = 1e-6  # squared unit of the signal (microvolts of EEG); keeps the logarithm finite


def feature_matrix(examples: Examples, modalities: Iterable[str], preprocess: PreprocessConfig) -> Floats:
    """Return the features of windows (n, m) float64, modality after modality; NaN where nothing was measured.

    A signal gives the log power of each channel, by band from slow to fast as far as its rate allows: EEG in the seven
    bands of the network, other signals in ``FURTHER_BANDS``. Any other series gives its mean over the measured slots.

    Args:
        examples: The windows.
        modalities: Names of the modalities, in the order of the features.
        preprocess: Of the windows: the rate of every signal.

    Example::

        x = feature_matrix(store.examples, ("eeg",), store.preprocess)  # (n, 14 * 7)
    """
    return np.concatenate([_features(examples, name, preprocess) for name in modalities], axis=1)


def _features(examples: Examples, modality: str, preprocess: PreprocessConfig) -> Floats:
    x, mask = examples.series[modality], examples.mask[modality]
    if modality_spec(modality, preprocess).kind == "signal":
        power = np.log(band_powers(x, *_rate_and_bands(modality, preprocess)) + MIN_POWER)
        return np.where(mask[..., None], power, np.nan).reshape(len(x), -1)
    known = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
    total = np.where(known, x, 0.0).sum(1, dtype=np.float64).reshape(len(x), -1)
    n = mask.sum(1)[:, None]
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _rate_and_bands(modality: str, preprocess: PreprocessConfig) -> tuple[float, Bands]:
    """Return rate in Hz and bands of a signal."""
    series = preprocess.physio_of(modality)
    if series is None:
        return preprocess.signal.sfreq, BANDS
    return series.sfreq, tuple((low, high) for low, high in FURTHER_BANDS if low < series.sfreq / 2)


def band_powers(x: npt.NDArray[np.float32], sfreq: float, bands: Bands) -> Floats:
    """Return the mean power of signals in each band, (n, C, bands) float64, in the squared unit of the signal.

    It is the sum of the squared Fourier coefficients of the band, scaled by Parseval's theorem so that all frequencies
    together give the mean square of the window. The network's linear path uses the same definition.

    Args:
        x: The signals, (n, C, T).
        sfreq: Their rate, Hz.
        bands: Each from its lower edge up to, but without, its upper edge.
    """
    n_times = x.shape[2]
    hz = np.fft.rfftfreq(n_times, 1 / sfreq)
    twice = np.where((hz == 0) | (hz == sfreq / 2), 1.0, 2.0)  # every other frequency stands for its negative, too
    in_band = np.stack([np.where((hz >= low) & (hz < high), twice, 0.0) for low, high in bands], axis=1) / n_times**2
    power = np.empty((*x.shape[:2], len(bands)))
    for first in range(0, len(x), _BATCH):
        power[first : first + _BATCH] = np.abs(np.fft.rfft(x[first : first + _BATCH], axis=2)) ** 2 @ in_band
    return power


_BATCH = 512  # windows that are transformed at once
