"""The benchmark of open and closed eyes keeps a distance in time between training and test, and reads real EEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.eye_state import (
    SFREQ,
    EyeWindows,
    band_powers,
    block_folds,
    blocks_of,
    encoder,
    majority,
    read_windows,
    shuffled_folds,
    windows_of,
)


@pytest.fixture(scope="module")
def windows() -> EyeWindows:
    """A minute of noise; while the eyes are closed, 10 of every 20 s, all channels have a 10 Hz rhythm as well."""
    t = np.arange(60 * int(SFREQ)) / SFREQ
    closed = (t % 20.0 >= 10.0).astype(np.int64)
    noise = 10.0 * np.random.default_rng(0).standard_normal((14, len(t)))
    phase = np.arange(14)[:, None]
    return windows_of(noise + closed * 20.0 * np.sin(2 * np.pi * 10.0 * t + phase), closed)


def test_no_window_spans_a_change_of_the_eyes(windows: EyeWindows) -> None:
    """A second long, from one state; the last of each ten seconds ends with them."""
    start = windows.t_end - 1.0
    assert ((start // 10.0) == ((windows.t_end - 1e-9) // 10.0)).all()
    assert np.array_equal(windows.closed, (start % 20.0 >= 10.0).astype(int))
    assert {20.0, 30.0, 40.0} <= set(windows.t_end.tolist())


def test_training_keeps_its_distance_from_the_block_that_is_asked(windows: EyeWindows) -> None:
    """Between the end of one window and the start of the other there are two seconds or more, on both sides."""
    folds = block_folds(windows, 9.0, 2.0)
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(windows)))
    for fold in folds:
        assert len(np.unique(blocks_of(windows, 9.0)[fold.test])) == 1
        apart = np.abs(windows.t_end[fold.train][:, None] - windows.t_end[fold.test][None, :])
        assert apart.min() >= 3.0
        assert len(fold.train) > len(windows) / 2


def test_windows_at_random_have_their_neighbours_in_training(windows: EyeWindows) -> None:
    """Every window is asked once; most share samples with one that was trained on: the leak that the column shows."""
    folds = shuffled_folds(windows, 10, seed=1)
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(windows)))
    for fold in folds:
        assert not np.intersect1d(fold.train, fold.test).size
        nearest = np.abs(windows.t_end[fold.train][:, None] - windows.t_end[fold.test][None, :]).min(0)
        assert (nearest < 1.0).mean() > 0.9


def test_both_estimators_find_a_rhythm_and_the_baseline_does_not_look(windows: EyeWindows) -> None:
    """Band powers and the encoder are right in nine of ten unseen windows, the encoder after a few epochs."""
    fold = block_folds(windows, 20.0, 2.0)[1]
    train, test = windows.take(fold.train), windows.take(fold.test)
    assert (band_powers(train, test) == test.closed).mean() > 0.9
    assert (encoder(seed=1, epochs=12)(train, test) == test.closed).mean() > 0.9
    assert len(np.unique(majority(train, test))) == 1


def test_the_real_recording_passes_the_signal_path(sample_data: Path) -> None:
    """372 windows of 117 s, both states among them, finite throughout; a spike masks channels for a while only."""
    windows = read_windows(sample_data)
    assert len(windows) == 372
    assert 0.4 < windows.closed.mean() < 0.6
    assert np.isfinite(windows.x).all()
    assert 0.8 < windows.mask.mean() <= 1.0
