"""What tells open eyes from closed: always the same answer, band powers, or the extractor of preset ``default``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from eye_state_parts.recording import CONFIG, SFREQ, EyeWindows
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from clmer_model.config import DEFAULT, modality_spec
from clmer_model.network.encoder import ModalityEncoder, masked_mean
from clmer_model.network.normalization import SignalNormalizer, signal_scale
from clmer_model.training.augment import augment_eeg
from clmer_model.training.config import SUPERVISED_AUGMENTATION
from clmer_model.training.contrastive import batches
from clmer_streaming.types import FloatArray

SplitPredictions = npt.NDArray[np.int64]
Estimator = Callable[[EyeWindows, EyeWindows], SplitPredictions]
"""Learns from the first windows and answers (n,) for the second: 1 where the eyes seem closed."""

BANDS = ((4, 8), (8, 13), (13, 20), (20, 30), (30, 45))  # Hz
RIDGE = 1.0  # penalty on the weights of standardised band powers
EPOCHS, BATCH, RATE, WEIGHT_DECAY = 30, 32, 1e-3, 0.05  # of the extractor; set beforehand, nothing is chosen


def majority(train: EyeWindows, test: EyeWindows) -> SplitPredictions:
    """Answer what was more frequent in training."""
    return np.full(len(test), int(2 * train.closed.sum() > len(train)), dtype=np.int64)


def band_powers(train: EyeWindows, test: EyeWindows) -> SplitPredictions:
    """Answer by logistic regression on the log power of five bands in each channel."""
    known, asked = (_log_powers(windows) for windows in (train, test))
    mean = np.nan_to_num(np.nanmean(known, axis=0))
    sd = np.maximum(np.nan_to_num(np.nanstd(known, axis=0)), 1e-6)
    known, asked = (_with_one(np.nan_to_num((values - mean) / sd)) for values in (known, asked))
    sign = 2.0 * train.closed - 1.0

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (known @ weights)
        slope = -sign / (1.0 + np.exp(margin))
        penalised = np.append(weights[:-1], 0.0)
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * RIDGE * (penalised**2).sum()
        return float(value), known.T @ slope + RIDGE * penalised

    weights = minimize(loss, np.zeros(known.shape[1]), jac=True, method="L-BFGS-B").x
    answers: SplitPredictions = (asked @ weights > 0).astype(np.int64)
    return answers


def _log_powers(windows: EyeWindows) -> FloatArray:
    """Return (n, 14 * 5); NaN where a channel was not measured."""
    power = np.abs(np.fft.rfft(windows.x.astype(np.float64) * np.hanning(windows.x.shape[2]), axis=2)) ** 2
    hz = np.fft.rfftfreq(windows.x.shape[2], 1 / SFREQ)
    bands = np.stack([power[..., (hz >= low) & (hz < high)].sum(2) for low, high in BANDS], axis=2)
    return np.where(windows.mask[..., None], np.log(bands + 1e-6), np.nan).reshape(len(windows), -1)


def _with_one(values: FloatArray) -> FloatArray:
    return np.hstack([values, np.ones((len(values), 1))])


class EyeNetwork(nn.Module):
    """The EEG extractor of preset ``default``; a linear map from its mean token to the two states."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ModalityEncoder(modality_spec("eeg", CONFIG), DEFAULT.dims)
        self.out = nn.Linear(self.encoder.out_width, 2)

    def fit_door(self, x: Tensor, mask: Tensor) -> None:
        """Take the usual level of the signal from windows (n, 14, T) and masks (n, 14) of the training side."""
        door = self.encoder.door
        assert isinstance(door, SignalNormalizer)
        level = signal_scale(x, mask).log()
        door.log_scale_mean.copy_(level.mean())
        door.log_scale_sd.copy_(level.std())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, 2) from EEG (B, 14, T) and its mask (B, 14)."""
        logits: Tensor = self.out(masked_mean(*self.encoder(x, mask)))
        return logits


def extractor(seed: int, epochs: int = EPOCHS) -> Estimator:
    """Return a learner that trains the extractor from nothing, with the views and optimiser of the shipped recipe."""

    def answer(train: EyeWindows, test: EyeWindows) -> SplitPredictions:
        torch.manual_seed(seed)
        rng = torch.Generator().manual_seed(seed)
        network = EyeNetwork()
        x, mask, closed = (torch.from_numpy(values) for values in (train.x, train.mask, train.closed))
        network.fit_door(x, mask)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        network.train()
        for _ in range(epochs):
            for rows in batches(len(train), BATCH, rng):
                loss = F.cross_entropy(
                    network(*augment_eeg(x[rows], mask[rows], SUPERVISED_AUGMENTATION, rng)), closed[rows]
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
                optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = network(torch.from_numpy(test.x), torch.from_numpy(test.mask))
        answers: SplitPredictions = logits.argmax(1).numpy()
        return answers

    return answer
