"""What can be trained on one side of a split and asked about another: the network, and plain nearest neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

from clmer_model.clmer import Clmer
from clmer_model.modalities import modality_spec
from clmer_model.training.evaluate import logits_of
from clmer_model.training.examples import Examples
from clmer_model.training.pretrain import Report
from clmer_model.training.sides import Sides
from clmer_model.training.splits import PeopleSplit
from clmer_model.training.train import TrainConfig, train_model
from clmer_streaming.config import PreprocessConfig

Floats = npt.NDArray[np.float64]

MUSCLE_FREE_HZ = 20.0
"""Hz; above it lies most of what muscles of face and scalp give to EEG, as for ``muscle_share`` of a channel."""


class Learner(Protocol):
    """Learns from two sides of a split and answers for the third."""

    def answer(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the probabilities (n_test, K) with each subset of modalities.

        Everything is fitted on ``train``; ``validation`` may choose the epoch and the temperature.
        """


@dataclass(frozen=True)
class NetworkLearner:
    """CLMER, trained from nothing: doors, contrastive stage, labels, temperature.

    A recipe that takes whole modalities away while it trains makes one network, which answers from any subset. One
    that does not, as the paper's, makes a network that never saw a window without a face: for a smaller subset another
    is then trained, to which nothing but that subset is ever shown.
    """

    config: TrainConfig
    report: Report

    def answer(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the probabilities with each subset; what is not in it is masked."""
        shared = self.config.fit.modality_dropout > 0
        models: dict[frozenset[str], Clmer] = {}
        answers = {}
        for name, modalities in subsets.items():
            shown = frozenset(train.series if shared else modalities)
            if shown not in models:
                models[shown] = self._trained(*(part.showing(shown) for part in (train, validation, test)))
            logits = logits_of(models[shown], test, modalities)
            answers[name] = logits.softmax(1).numpy().astype(np.float64)
        return answers

    def _trained(self, train: Examples, validation: Examples, test: Examples) -> Clmer:
        people = (tuple(np.unique(part.person).tolist()) for part in (train, validation, test))
        return train_model(self.config, Sides(PeopleSplit(*people), train, validation, test), self.report)


Bands = tuple[tuple[float, float], ...]
"""From and to, in Hz."""

EEG_BANDS: Bands = ((4, 8), (8, 13), (13, 20), (20, 30), (30, 45))
FURTHER_BANDS: Bands = ((0, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32))
"""Slow waves, as of breath and skin, then octaves, as of the pulse; the level itself is among the slow ones."""


@dataclass(frozen=True)
class NeighbourLearner:
    """The k nearest training windows by band power and mean face: quick, and quick to show a leak."""

    n_classes: int
    preprocess: PreprocessConfig  # of the windows: the rate of every signal
    k: int = 5

    def answer(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the share of each class among the neighbours, one count added to each; nothing needs validation."""
        del validation
        answers = {}
        for name, modalities in subsets.items():
            known, asked = (np.concatenate([self.features(e, m) for m in modalities], axis=1) for e in (train, test))
            mean = np.nan_to_num(np.nanmean(known, axis=0, where=np.isfinite(known)))
            sd = np.maximum(np.nan_to_num(np.nanstd(known, axis=0)), 1e-6)
            known, asked = (np.nan_to_num((values - mean) / sd) for values in (known, asked))
            distance = (known**2).sum(1) - 2 * asked @ known.T
            nearest = train.label[np.argpartition(distance, min(self.k, len(known)) - 1, axis=1)[:, : self.k]]
            counts = 1.0 + np.stack([(nearest == c).sum(1) for c in range(self.n_classes)], axis=1)
            answers[name] = counts / counts.sum(1, keepdims=True)
        return answers

    def features(self, examples: Examples, modality: str) -> Floats:
        """Return numbers (n, m) of one modality; NaN where it was not measured.

        Of a signal they are the logarithms of its power, channel by channel and in each the bands from slow to fast,
        as far as its rate has them. Of a face series they are the means over its slots.
        """
        x, mask = examples.series[modality], examples.mask[modality]
        if modality_spec(modality, self.preprocess).kind == "signal":
            values = band_powers(x, *self._bands_of(modality))
            values = np.where(mask[..., None], np.log(values + 1e-6), np.nan)
            return values.reshape(len(x), -1)
        n = np.maximum(mask.sum(1), 1).reshape(-1, *[1] * (x.ndim - 2))
        mean = np.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0.0).sum(1) / n
        mean[~mask.any(1)] = np.nan
        flat: Floats = mean.reshape(len(x), -1).astype(np.float64)
        return flat

    def _bands_of(self, modality: str) -> tuple[float, Bands]:
        """Return rate and bands of a signal."""
        series = self.preprocess.physio_of(modality)
        if series is None:
            return self.preprocess.signal.sfreq, EEG_BANDS
        return series.sfreq, tuple((low, high) for low, high in FURTHER_BANDS if low < series.sfreq / 2)


def band_powers(x: npt.NDArray[np.float32], sfreq: float, bands: Bands) -> Floats:
    """Return the power (n, C, bands) of signals (n, C, T) at ``sfreq`` Hz from the start of each band up to its end."""
    power = np.abs(np.fft.rfft(x, axis=2)) ** 2
    hz = np.fft.rfftfreq(x.shape[2], 1 / sfreq)
    return np.stack([power[..., (hz >= low) & (hz < high)].sum(2) for low, high in bands], axis=2)


def without_muscle(examples: Examples, sfreq: float) -> Examples:
    """Return the examples with EEG above 20 Hz removed (Butterworth of order 8, forwards and backwards)."""
    eeg = examples.series["eeg"]
    sos = butter(8, MUSCLE_FREE_HZ, output="sos", fs=sfreq)
    slow = np.concatenate([sosfiltfilt(sos, eeg[i : i + 256], axis=2) for i in range(0, len(eeg), 256)])
    slow = np.where(examples.mask["eeg"][..., None], slow, 0.0).astype(np.float32)
    return dataclasses.replace(examples, series={**examples.series, "eeg": slow})
