"""The promise under live = replay = offline: no stage can tell how the stream was cut, to the last bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import PreprocessConfig, SignalConfig, SlotSeriesConfig, WindowConfig
from clmer_streaming.pipeline.channels import ChannelPicker, UnitGuess, resolve_channels
from clmer_streaming.pipeline.filters import CausalFilter, PolyphaseResampler, design_sos
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.quality import RawMonitor
from clmer_streaming.pipeline.slotted import SlotBuffer
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, Stage, StreamInfo
from tests.support.signals import EEG_INFO, cut, eeg_like, eeg_path, merged, push_all, stamps

SFREQ = 250.0
INFO = dataclasses.replace(EEG_INFO, sfreq=SFREQ, ch_names=(*EEG_INFO.ch_names, "COUNTER"))
CHANNELS = resolve_channels(INFO, SignalConfig())

UNDECLARED = dataclasses.replace(INFO, unit="")

STAGES: dict[str, Callable[[], Stage[Item]]] = {
    "timeline": lambda: Timeline(SFREQ, range(14), counter=14),
    "channels": lambda: ChannelPicker(CHANNELS),
    "filter": lambda: CausalFilter(design_sos(SignalConfig(), SFREQ)),
    "resampling": lambda: PolyphaseResampler(SFREQ, 128.0),
    "unit": lambda: UnitGuess(range(14), SFREQ),
    "unfiltered": lambda: RawMonitor(SFREQ),
    "all of them": lambda: eeg_path(INFO),
    "all, guessing and with a notch": lambda: eeg_path(UNDECLARED, SignalConfig(notch_hz=50.0)),
}

SIZES = st.one_of(st.sampled_from([[1], [8], [32]]), st.lists(st.integers(1, 300), min_size=1, max_size=8))


def recording(seed: int, *, whole_numbers: bool = False) -> tuple[FloatArray, FloatArray]:
    """Return stamps and 15 channels of a recording with jitter and, unless whole, losses and NaN."""
    rng = np.random.default_rng(seed)
    n = 900
    t = stamps(n, SFREQ) + 0.003 * rng.standard_normal(n)
    x = np.concatenate([eeg_like(n, seed=seed, sfreq=SFREQ), (np.arange(n) % 250)[None, :]])
    if whole_numbers:
        return t, x
    x[rng.integers(0, 14), rng.integers(0, n, 20)] = np.nan
    keep = np.ones(n, dtype=bool)
    for first, n_lost in zip(rng.integers(10, n, 3), (2, 15, 120), strict=True):
        keep[first : first + n_lost] = False
    return t[keep], x[:, keep]


def flattened(items: list[Item]) -> tuple[FloatArray, FloatArray, FloatArray, list[Gap]]:
    """Return stamps, values, marks and gaps of everything that came out, whatever the pieces."""
    chunks = [item for item in items if isinstance(item, Chunk)]
    marks = [np.zeros(c.x.shape) if c.filled is None else c.filled.astype(float) for c in chunks]
    return (
        np.concatenate([c.t for c in chunks]),
        np.concatenate([c.x for c in chunks], axis=1),
        np.concatenate(marks, axis=1),
        [item for item in items if isinstance(item, Gap)],
    )


@pytest.mark.parametrize("name", STAGES)
@settings(max_examples=20, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 5))
def test_any_cut_gives_the_same_bits(name: str, sizes: list[int], seed: int) -> None:
    """Whole equals chunks of 1, 8, 32 and of any random sizes: values, stamps, marks, gaps."""
    finite_input_only = name in ("filter", "resampling")
    t, x = recording(seed, whole_numbers=finite_input_only)
    whole = flattened(push_all(STAGES[name](), cut(t, x, [t.size])))
    pieces = flattened(push_all(STAGES[name](), cut(t, x, sizes)))
    for one, other in zip(whole[:3], pieces[:3], strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    assert whole[3] == pieces[3]


@pytest.mark.parametrize("name", STAGES)
def test_a_reset_stage_is_as_new(name: str) -> None:
    """Nothing of what was pushed before a reset is left."""
    t, x = recording(1, whole_numbers=True)
    used = STAGES[name]()
    push_all(used, cut(t, x, [64]))
    used.reset()
    for one, other in zip(
        flattened(push_all(used, cut(t, x, [64])))[:3],
        flattened(push_all(STAGES[name](), cut(t, x, [64])))[:3],
        strict=True,
    ):
        assert np.array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(
    sfreq=st.one_of(
        st.sampled_from([100.0, 128.0, 220.0, 300.0, 512.0, 1024.0, 2000.0, 2048.0]), st.floats(95.0, 2048.0)
    ),
    sizes=SIZES,
    undeclared=st.booleans(),
    seed=st.integers(0, 3),
)
def test_any_cut_gives_the_same_bits_at_any_rate(sfreq: float, sizes: list[int], undeclared: bool, seed: int) -> None:
    """Losses, NaN and jitter at any rate, the unit declared or guessed: the whole path gives the same bits."""
    info = dataclasses.replace(INFO, sfreq=sfreq, ch_names=EEG_INFO.ch_names, unit="" if undeclared else "uV")
    rng = np.random.default_rng(seed)
    n = int(5 * sfreq)
    t, x = stamps(n, sfreq) + 1e-3 * rng.standard_normal(n), eeg_like(n, seed=seed, sfreq=sfreq)
    x[rng.integers(0, 14), rng.integers(0, n, 20)] = np.nan
    first = int(rng.integers(6 * n // 10, 8 * n // 10))
    keep = (np.arange(n) < first) | (np.arange(n) >= first + int(0.4 * sfreq))
    t, x = t[keep], x[:, keep]
    whole = flattened(push_all(eeg_path(info), cut(t, x, [t.size])))
    pieces = flattened(push_all(eeg_path(info), cut(t, x, sizes)))
    for one, other in zip(whole[:3], pieces[:3], strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    assert whole[3] == pieces[3]


def tracked(seed: int, n: int) -> tuple[FloatArray, FloatArray]:
    """Return stamps at odd times, some of which step back, and two channels, some of whose values are not numbers."""
    rng = np.random.default_rng(seed)
    t = np.sort(100.0 + rng.uniform(0.0, 6.0, n))
    t[rng.integers(0, n, 3)] -= rng.uniform(0.0, 2.0, 3)
    x = rng.standard_normal((2, n))
    x[0, rng.integers(0, n, 5)] = np.nan
    return t, x


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 50), n_slots=st.sampled_from([1, 3, 8]))
def test_any_cut_gives_the_same_slots(sizes: list[int], seed: int, n_slots: int) -> None:
    """Values at odd times, with NaN and steps back: the same means and masks, whatever the pieces."""
    t, x = tracked(seed, 60)
    whole, pieces = (SlotBuffer(2, WindowConfig(face_slots=n_slots)) for _ in range(2))
    whole.push(t, x)
    for chunk in cut(t, x, sizes):
        pieces.push(chunk.t, chunk.x)
    assert (whole.watermark, whole.n_dropped) == (pieces.watermark, pieces.n_dropped)
    for t_end in np.arange(100.5, 107.0, 0.5):
        one, other = whole.cut(t_end), pieces.cut(t_end)
        assert one.x.tobytes() == other.x.tobytes()
        assert one.mask.tobytes() == other.mask.tobytes()


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 10), min_size=1, max_size=6), seed=st.integers(0, 50))  # of 0.1 s each
def test_any_cut_of_a_series_on_slots_gives_the_same_windows(sizes: list[int], seed: int) -> None:
    """Beside EEG, in chunks of up to a second: every window that is whole is the same to the last bit."""
    t, x = np.arange(100.0, 106.0, 0.1), tracked(seed, 60)[1]
    info = StreamInfo("physio-tracker", "physio", "Tracker", ("SMILE", "FROWN"), 0.0)
    series = SlotSeriesConfig("tracker", info.ch_names)
    config = PreprocessConfig(modalities=("eeg", "tracker"), slot_series=(series,))

    def checksums(pieces: list[int]) -> dict[int, int]:
        chunks = merged(cut(stamps(128 * 6), eeg_like(128 * 6), (16,)), cut(t, x, pieces, info.source))
        windows = push_all(Preprocessor(config), [EEG_INFO, info, *chunks])
        return {window.index: window.crc for window in windows if window.t_end < 105.0}

    assert checksums(sizes) == checksums([1])
