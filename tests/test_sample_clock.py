"""Claims about the map from sample index to time."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.sample_clock import SampleClock
from clmer_streaming.types import FloatArray
from signals import stamps


def times(
    received: FloatArray, sfreq: float = 128.0, sizes: tuple[int, ...] = (1000,)
) -> tuple[FloatArray, SampleClock]:
    """Run stamps through a clock in pieces of the given sizes."""
    clock = SampleClock(sfreq, float(received[0]))
    out, done, turn = [], 0, 0
    while done < received.size:
        n = min(sizes[turn % len(sizes)], clock.room, received.size - done)
        out.append(clock.advance(received[done : done + n]))
        done, turn = done + n, turn + 1
    return np.concatenate(out), clock


def test_even_stamps_are_kept() -> None:
    """Where nothing jitters the counted time is the stamp."""
    received = stamps(2000)
    assert times(received)[0] == pytest.approx(received, abs=1e-9)


def test_jitter_and_drift_are_followed_to_a_millisecond() -> None:
    """4 ms jitter and 35 ppm: within 1 ms of the truth from 10 s on, and the drift is found."""
    rng = np.random.default_rng(5)
    true = 50.0 + np.arange(128 * 60) / (128.0 * (1 + 35e-6))
    t, clock = times(true + 0.004 * rng.standard_normal(true.size))
    assert np.max(np.abs(t - true)[1280:]) < 1e-3
    assert 1 / clock.period / 128.0 - 1 == pytest.approx(35e-6, abs=15e-6)


def test_a_rate_off_by_a_sixth_of_a_percent_is_found() -> None:
    """A nominal 125 Hz stream that runs at 125.21 Hz (as a real board does) is counted at 125.21 Hz."""
    t, clock = times(stamps(125 * 40, 125.21), 125.0)
    assert 1 / clock.period == pytest.approx(125.21, abs=1e-3)
    assert t[-1] == pytest.approx(stamps(125 * 40, 125.21)[-1], abs=1e-3)


def test_time_never_runs_backward() -> None:
    """Whatever the stamps do, each sample is later than the one before."""
    rng = np.random.default_rng(1)
    t, _ = times(stamps(3000) + 0.08 * rng.standard_normal(3000))
    assert np.min(np.diff(t)) > 0


def test_invented_samples_do_not_enter_the_fit() -> None:
    """A NaN stamp is counted and given a time, but teaches nothing."""
    received = stamps(1000)
    holed = received.copy()
    holed[300:310] = np.nan
    assert times(holed)[0] == pytest.approx(received, abs=1e-9)


def test_any_cut_gives_the_same_times() -> None:
    """The map is fitted anew at fixed indices, so pieces do not matter."""
    rng = np.random.default_rng(2)
    received = stamps(2000) + 0.01 * rng.standard_normal(2000)
    whole = times(received)[0]
    for sizes in ((1,), (8,), (5, 31, 2)):
        assert np.array_equal(times(received, sizes=sizes)[0], whole)


def test_the_jitter_is_the_percentile_that_numpy_gives_to_the_bit() -> None:
    """After each block, from the eighth on: the 90th percentile of the largest residuals of the last 120 blocks."""
    rng = np.random.default_rng(3)
    clock, spreads = SampleClock(128.0, 100.0), list[float]()
    for block in range(140):
        stamps_seen = 100.0 + (block * clock.block + np.arange(clock.block)) / 128.0
        stamps_seen = stamps_seen + rng.exponential(0.004, clock.block)
        spreads.append(float(np.max(np.abs(stamps_seen - clock.predict(clock.block)))))
        clock.advance(stamps_seen)
        if clock.jitter_known:
            assert clock.jitter == float(np.percentile(spreads[-120:], 90))
