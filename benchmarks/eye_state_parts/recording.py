"""The EEG Eye State recording as windows, through the signal path of the service, and its blocks of time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig, WindowConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import BoolArray, Chunk, FloatArray, StreamInfo, Tick

FILE = Path("eeg") / "eeg-eye-state.csv"
SFREQ = 128.0  # Hz
CHUNK_SAMPLES = 16
CONFIG = PreprocessConfig(window=WindowConfig(window_s=1.0, hop_s=0.25), modalities=("eeg",))
"""As the service has it, but for windows of a second, because the eyes are often open for a few seconds only."""


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
    """Windows to train on and to ask, as rows."""

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def blocks_of(windows: EyeWindows, block_s: float) -> npt.NDArray[np.int64]:
    """Return the number of the block of time (n,) that each window ends in."""
    numbers: npt.NDArray[np.int64] = ((windows.t_end - 1e-9) // block_s).astype(np.int64)
    return numbers


def block_folds(windows: EyeWindows, block_s: float, guard_s: float) -> list[Fold]:
    """Return a fold for each block of time, which trains on what is at least ``guard_s`` away from it.

    The distance is from the end of one window to the start of the other, so that no sample is on both sides, nor
    one that the filters or a rhythm still remember.
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
    """Return folds of windows in random order, as many studies have them: neighbours are on both sides."""
    order = np.random.default_rng(seed).permutation(len(windows))
    return [
        Fold(np.sort(np.concatenate([*parts[:k], *parts[k + 1 :]])), np.sort(parts[k]))
        for parts in [np.array_split(order, n_folds)]
        for k in range(n_folds)
    ]
