"""Eyes open against closed in a real Emotiv recording: the EEG encoder of preset ``default`` beside baselines.

Run with ``CLMER_TEST_DATA=FOLDER python -m benchmarks.eye_state``; the folder holds ``eeg/eeg-eye-state.csv`` (EEG Eye
State, O. Roesler, one person, 117 s). Without it the program says so and ends with code 2. Each block of time is
predicted by what was trained on all others but its neighbourhood; the interval resamples whole blocks. The last column
splits windows at random, with neighbours in both sets, to show what such a split is worth. Nothing is asserted.

In this order: the program, the windows of the recording and its folds, and the estimators.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.support.intervals import figure
from benchmarks.support.report import Report, Table, make_parser, report_missing
from clmer_model.config import DEFAULT, modality_spec
from clmer_model.network.encoder import ModalityEncoder, masked_mean
from clmer_model.network.normalization import SignalNormalizer, signal_scale
from clmer_model.predictor import limit_threads
from clmer_model.training.augment import augment_eeg
from clmer_model.training.config import SUPERVISED_AUGMENTATION
from clmer_model.training.contrastive import batches
from clmer_model.training.evaluate import Floats, accuracy, balanced_accuracy, confusion_by_unit
from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig, WindowConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import BoolArray, Chunk, FloatArray, StreamInfo, Tick

SHUFFLED_FOLDS = 10
TINY_BLOCK_S = 60.0
EPOCHS, BATCH, RATE, WEIGHT_DECAY = 30, 32, 1e-3, 0.05  # of the encoder; set beforehand, nothing is chosen


def main() -> int:
    """Train, predict and print; return the exit code."""
    args = options()
    folder = os.environ.get("CLMER_TEST_DATA", "")
    if not folder or not (Path(folder) / FILE).is_file():
        return report_missing(f"no recording: CLMER_TEST_DATA should name a folder with {FILE}")
    windows = read_windows(Path(folder))
    folds = block_folds(windows, args.block, args.guard)
    n_train = [len(fold.train) for fold in folds]
    estimators: Mapping[str, Sequence[Estimator]] = {
        "the more frequent state": [majority],
        "logistic regression on band powers": [band_powers],
        "encoder of `default`": [encoder(seed, args.epochs) for seed in args.seeds],
    }
    title = (
        f"{len(windows)} windows, {windows.closed.mean():.3f} closed; {len(folds)} blocks of {args.block:g} s;\n"
        f"margin {args.guard:g} s, {min(n_train)} to {max(n_train)} windows to train on"
    )
    columns = {"accuracy": "", "each_seed": "", "balanced_accuracy": "", "accuracy_of_random_windows": ".3f"}
    table = Table("scores", title, estimator="", **columns)
    for name, seeds in estimators.items():
        matrices = [predict(windows, folds, estimator, args.block) for estimator in seeds]
        leaking = predict(windows, shuffled_folds(windows, args.shuffled_folds, 1), seeds[0], args.block)
        total = np.sum(matrices, axis=0)
        table.add(
            estimator=name,
            accuracy=figure(accuracy, total),
            each_seed=", ".join(f"{accuracy(one.sum(0)):.3f}" for one in matrices),
            balanced_accuracy=figure(balanced_accuracy, total),
            accuracy_of_random_windows=accuracy(leaking.sum(0)),
        )
    with Report("eye_state", args.json) as report:
        report.show(table, markdown=True)
    return 0


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--block", type=float, default=9.0, help="s, length of a block")
    parser.add_argument("--guard", type=float, default=2.0, help="s around a block that nothing is trained on")
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    args.shuffled_folds = SHUFFLED_FOLDS
    if args.tiny:
        args.block, args.seeds, args.epochs, args.shuffled_folds = TINY_BLOCK_S, (1,), 1, 2
    return args


def predict(windows: EyeWindows, folds: Sequence[Fold], estimator: Estimator, block_s: float) -> Floats:
    """Return the confusion matrix of each block of time, (blocks, 2, 2)."""
    predicted = np.zeros(len(windows), dtype=np.int64)
    for fold in folds:
        predicted[fold.test] = estimator(windows.take(fold.train), windows.take(fold.test))
    return confusion_by_unit(windows.closed, predicted, blocks_of(windows, block_s), 2)


FILE = Path("eeg") / "eeg-eye-state.csv"
SFREQ = 128.0  # Hz
CHUNK_SAMPLES = 16
CONFIG = PreprocessConfig(window=WindowConfig(window_s=1.0, hop_s=0.25), modalities=("eeg",))
"""Settings of the service, but for windows of one second, because the eyes are often open for a few seconds only."""


@dataclass(frozen=True, eq=False)
class EyeWindows:
    """Windows in which the eyes were open all the time, or closed all the time; in order of time."""

    x: npt.NDArray[np.float32]  # (n, 14, T) microvolts
    mask: BoolArray  # (n, 14)
    closed: npt.NDArray[np.int64]  # (n,) 1 where the eyes were closed
    t_end: FloatArray  # (n,) s since the recording began

    def __len__(self) -> int:
        return len(self.closed)

    def take(self, rows: npt.NDArray[np.int64]) -> EyeWindows:
        """Return these windows."""
        return EyeWindows(self.x[rows], self.mask[rows], self.closed[rows], self.t_end[rows])


def read_windows(folder: Path) -> EyeWindows:
    """Return the windows of the recording in the folder of sample data."""
    values = np.loadtxt(folder / FILE, delimiter=",", skiprows=1)
    return windows_of(values[:, :-1].T, values[:, -1].astype(np.int64))


def windows_of(eeg: FloatArray, closed: npt.NDArray[np.int64], config: PreprocessConfig = CONFIG) -> EyeWindows:
    """Return the windows of a recording whose first sample is at 0 s.

    Args:
        eeg: (14, n) microvolts, channels as an EPOC has them.
        closed: (n,) 1 where the eyes are closed.
        config: Settings of the signal path.
    """
    t = np.arange(eeg.shape[1]) / SFREQ
    preprocessor = Preprocessor(config)
    windows = preprocessor.push(StreamInfo("eeg", "eeg", "EEG Eye State", EPOC_CH_NAMES, SFREQ, unit="microvolts"))
    for first in range(0, len(t), CHUNK_SAMPLES):
        part = slice(first, first + CHUNK_SAMPLES)
        windows += preprocessor.push(Chunk("eeg", t[part], eeg[:, part]))
    windows += preprocessor.push(Tick(t[-1] + 10.0, "eeg"))
    kept = []
    for window in windows:
        state = closed[(t >= window.t_start) & (t < window.t_end)]
        if window.mask["eeg"].any() and len(state) == config.n_times and state.min() == state.max():
            kept.append((window, int(state[0])))
    return EyeWindows(
        x=np.array([window.series["eeg"] for window, _ in kept], dtype=np.float32),
        mask=np.array([window.mask["eeg"] for window, _ in kept], dtype=np.bool_),
        closed=np.array([state for _, state in kept], dtype=np.int64),
        t_end=np.array([window.t_end for window, _ in kept]),
    )


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of the windows to train on and to predict."""

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def blocks_of(windows: EyeWindows, block_s: float) -> npt.NDArray[np.int64]:
    """Return the number of the block of time (n,) in which each window ends."""
    numbers: npt.NDArray[np.int64] = ((windows.t_end - 1e-9) // block_s).astype(np.int64)
    return numbers


def block_folds(windows: EyeWindows, block_s: float, guard_s: float) -> list[Fold]:
    """Return a fold for each block of time, which trains on what is at least ``guard_s`` away from it.

    The distance is from the end of one window to the start of the other, so that the two sets share no sample, nor one
    that still affects the filters or belongs to the same rhythm.
    """
    block = blocks_of(windows, block_s)
    window_s = windows.x.shape[2] / SFREQ
    folds = []
    for number in np.unique(block):
        test = np.flatnonzero(block == number)
        first, last = windows.t_end[test[0]] - window_s, windows.t_end[test[-1]]
        away = (windows.t_end <= first - guard_s) | (windows.t_end - window_s >= last + guard_s)
        folds.append(Fold(np.flatnonzero(away), test))
    return folds


def shuffled_folds(windows: EyeWindows, n_folds: int, seed: int) -> list[Fold]:
    """Return folds of windows in random order, as in many studies: neighbours are in both sets."""
    order = np.random.default_rng(seed).permutation(len(windows))
    return [
        Fold(np.sort(np.concatenate([*parts[:k], *parts[k + 1 :]])), np.sort(parts[k]))
        for parts in [np.array_split(order, n_folds)]
        for k in range(n_folds)
    ]


States = npt.NDArray[np.int64]
Estimator = Callable[[EyeWindows, EyeWindows], States]
"""Trains on the first windows and predicts the second (n,): 1 where the eyes are closed."""

BANDS = ((4, 8), (8, 13), (13, 20), (20, 30), (30, 45))  # Hz
RIDGE = 1.0  # penalty on the weights of standardised band powers


def majority(train: EyeWindows, test: EyeWindows) -> States:
    """Return the state that was more frequent in training."""
    return np.full(len(test), int(2 * train.closed.sum() > len(train)), dtype=np.int64)


def band_powers(train: EyeWindows, test: EyeWindows) -> States:
    """Return the states by logistic regression on the log power of five bands in each channel."""
    train_features, test_features = (_log_powers(windows) for windows in (train, test))
    mean = np.nan_to_num(np.nanmean(train_features, axis=0))
    sd = np.maximum(np.nan_to_num(np.nanstd(train_features, axis=0)), 1e-6)
    train_features, test_features = (
        _with_one(np.nan_to_num((values - mean) / sd)) for values in (train_features, test_features)
    )
    sign = 2.0 * train.closed - 1.0

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        margin = sign * (train_features @ weights)
        slope = -sign / (1.0 + np.exp(margin))
        penalised = np.append(weights[:-1], 0.0)
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * RIDGE * (penalised**2).sum()
        return float(value), train_features.T @ slope + RIDGE * penalised

    weights = minimize(loss, np.zeros(train_features.shape[1]), jac=True, method="L-BFGS-B").x
    states: States = (test_features @ weights > 0).astype(np.int64)
    return states


def _log_powers(windows: EyeWindows) -> FloatArray:
    """Return (n, 14 * 5); NaN where a channel was not measured."""
    power = np.abs(np.fft.rfft(windows.x.astype(np.float64) * np.hanning(windows.x.shape[2]), axis=2)) ** 2
    hz = np.fft.rfftfreq(windows.x.shape[2], 1 / SFREQ)
    bands = np.stack([power[..., (hz >= low) & (hz < high)].sum(2) for low, high in BANDS], axis=2)
    return np.where(windows.mask[..., None], np.log(bands + 1e-6), np.nan).reshape(len(windows), -1)


def _with_one(values: FloatArray) -> FloatArray:
    return np.hstack([values, np.ones((len(values), 1))])


class EyeNetwork(nn.Module):
    """The EEG encoder of preset ``default``, with a linear map from its mean token to the two states."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ModalityEncoder(modality_spec("eeg", CONFIG), DEFAULT.dims)
        self.out = nn.Linear(self.encoder.out_width, 2)

    def fit_normalizer(self, x: Tensor, mask: Tensor) -> None:
        """Set the level of the signal from the training windows (n, 14, T) and their masks (n, 14)."""
        normalizer = self.encoder.door
        assert isinstance(normalizer, SignalNormalizer)
        level = signal_scale(x, mask).log()
        normalizer.log_scale_mean.copy_(level.mean())
        normalizer.log_scale_sd.copy_(level.std())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, 2) from EEG (B, 14, T) and its mask (B, 14)."""
        logits: Tensor = self.out(masked_mean(*self.encoder(x, mask)))
        return logits


def encoder(seed: int, epochs: int = EPOCHS) -> Estimator:
    """Return an estimator that trains the encoder from scratch, augmented and optimized as in the shipped recipe."""

    def fit_predict(train: EyeWindows, test: EyeWindows) -> States:
        torch.manual_seed(seed)
        rng = torch.Generator().manual_seed(seed)
        network = EyeNetwork()
        x, mask, closed = (torch.from_numpy(values) for values in (train.x, train.mask, train.closed))
        network.fit_normalizer(x, mask)
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
        states: States = logits.argmax(1).numpy()
        return states

    return fit_predict


if __name__ == "__main__":
    limit_threads()
    sys.exit(main())
