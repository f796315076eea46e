"""Signals one can read: sample numbers, ramps, slow sines; and the cuts they are pushed in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from clmer_streaming.config import EPOC_CH_NAMES, SignalConfig
from clmer_streaming.face.layout import AU_NAMES, EXTRACTOR_ID, N_LANDMARKS
from clmer_streaming.pipeline.sampled import SignalPath, eeg_series
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Gap, Item, Stage, StreamInfo

Out = TypeVar("Out")

EEG_INFO = StreamInfo("eeg", "eeg", "TestEEG", EPOC_CH_NAMES, 128.0, unit="microvolts")
FACE_INFO = StreamInfo("face", "face", "CLMER-Face", (), 30.0, extractor=EXTRACTOR_ID)


def eeg_like(n: int, n_channels: int = 14, seed: int = 0, sfreq: float = 128.0) -> FloatArray:
    """Return (C, n) of 4200 uV offset, a 10 Hz sine of 10 uV and 5 uV of noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / sfreq
    phase = rng.uniform(0, 2 * np.pi, (n_channels, 1))
    return 4200.0 + 10.0 * np.sin(2 * np.pi * 10.0 * t + phase) + 5.0 * rng.standard_normal((n_channels, n))


def stamps(n: int, sfreq: float = 128.0, t0: float = 100.0) -> FloatArray:
    """Return (n,) even stamps."""
    return t0 + np.arange(n) / sfreq


def cut(t: FloatArray, x: FloatArray, sizes: Sequence[int], source: str = "eeg") -> Iterator[Chunk]:
    """Cut samples into chunks of the given sizes, over and over."""
    start, turn = 0, 0
    while start < t.size:
        stop = start + sizes[turn % len(sizes)]
        yield Chunk(source, t[start:stop], x[:, start:stop])
        start, turn = stop, turn + 1


def face(t: float, level: float = 0.0, quality: float = 0.9) -> FaceSample:
    """Return a face whose numbers all equal ``level``; NaN makes a missing one."""
    return FaceSample(
        t=t,
        landmarks=np.full((N_LANDMARKS, 3), level),
        aus=np.full((len(AU_NAMES), 2), level),
        gaze=np.full(2, level),
        pose=np.zeros(6),
        quality=quality,
        calibration="running",
    )


def eeg_path(info: StreamInfo, config: SignalConfig | None = None) -> SignalPath:
    """Return the stages that EEG of a stream goes through, from raw chunks to filtered ones."""
    signal = config or SignalConfig()
    return SignalPath(info, eeg_series(info, signal), signal)


def merged(*streams: Iterable[Item]) -> list[Item]:
    """Merge items by the time of their newest sample, announcements first."""

    def when(item: Item) -> float:
        if isinstance(item, StreamInfo):
            return -np.inf
        return float(item.t[-1]) if isinstance(item, Chunk) else item.t1 if isinstance(item, Gap) else item.t

    return sorted((item for items in streams for item in items), key=when)


def push_all(stage: Stage[Out], items: Iterable[Item]) -> list[Out]:
    """Push items one after the other and return everything that came out: of a Preprocessor, its windows."""
    return [out for item in items for out in stage.push(item)]


def joined(items: Iterable[Item]) -> tuple[FloatArray, FloatArray]:
    """Return the stamps (n,) and values (C, n) of all chunks among the items."""
    chunks = [item for item in items if isinstance(item, Chunk)]
    return np.concatenate([c.t for c in chunks]), np.concatenate([c.x for c in chunks], axis=1)
