"""Claims about filters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import sosfreqz

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.filters import CausalFilter, design_band, design_sos
from clmer_streaming.types import Chunk, Gap
from signals import cut, eeg_like, joined, push_all, stamps


def gain_at(frequency_hz: float, config: SignalConfig, sfreq: float = 128.0) -> float:
    _, response = sosfreqz(design_sos(config, sfreq), worN=[frequency_hz], fs=sfreq)
    return float(np.abs(response[0]))


def test_the_band_passes_and_the_rest_does_not() -> None:
    """10 Hz stays, 0.5 Hz goes, the band edges are 3 dB down."""
    config = SignalConfig()
    assert gain_at(10, config) == pytest.approx(1, abs=0.02)
    assert gain_at(0.5, config) < 0.03
    assert gain_at(4, config) == pytest.approx(np.sqrt(0.5), abs=1e-3)
    assert gain_at(45, config) == pytest.approx(np.sqrt(0.5), abs=1e-3)


def test_a_notch_takes_the_mains_out() -> None:
    """With a notch at 50 Hz nothing of 50 Hz is left; 40 Hz hardly changes."""
    config = SignalConfig(notch_hz=50.0)
    assert gain_at(50, config) < 1e-6
    assert gain_at(40, config) == pytest.approx(gain_at(40, SignalConfig()), rel=0.01)


def test_a_notch_that_the_rate_cannot_carry_is_refused() -> None:
    """60 Hz lies beyond what 100 Hz can hold; the user reads how to go without."""
    with pytest.raises(StreamError, match="--notch none"):
        design_sos(SignalConfig(notch_hz=60.0), 100.0)


def test_a_band_from_zero_is_a_low_pass() -> None:
    """Skin conductance lives at 0 Hz: its mean stays."""
    sos = design_band((0.0, 5.0), 2, 32.0)
    _, response = sosfreqz(sos, worN=[0.0, 5.0], fs=32.0)
    assert np.abs(response) == pytest.approx([1.0, np.sqrt(0.5)], abs=1e-6)


def test_a_rate_too_low_for_the_band_is_refused() -> None:
    """45 Hz cannot be filtered at 80 Hz."""
    with pytest.raises(StreamError, match="80 Hz"):
        design_sos(SignalConfig(), 80.0)


def test_an_offset_of_4200_uv_leaves_nothing() -> None:
    """The filter starts as if the signal had always had its first value."""
    out = CausalFilter(design_sos(SignalConfig(), 128.0)).push(Chunk("eeg", stamps(256), np.full((1, 256), 4200.0)))
    _, y = joined(out)
    assert np.max(np.abs(y)) < 1e-6


def test_any_cut_gives_the_same_bits() -> None:
    """Whole, 1, 8, 32 and uneven chunks: equal to the last bit."""
    sos = design_sos(SignalConfig(), 128.0)
    t, x = stamps(500), eeg_like(500)
    whole = joined(push_all(CausalFilter(sos), cut(t, x, [500])))[1]
    for sizes in ([1], [8], [32], [3, 1, 17]):
        assert np.array_equal(joined(push_all(CausalFilter(sos), cut(t, x, sizes)))[1], whole)


def test_a_gap_starts_the_filter_anew() -> None:
    """Behind a gap the output is that of a new filter."""
    sos = design_sos(SignalConfig(), 128.0)
    t, x = stamps(200), eeg_like(200)
    running = CausalFilter(sos)
    running.push(Chunk("eeg", t[:100], x[:, :100]))
    running.push(Gap(0, 1, "eeg", "lost_samples"))
    after = joined(running.push(Chunk("eeg", t[100:], x[:, 100:])))[1]
    fresh = joined(CausalFilter(sos).push(Chunk("eeg", t[100:], x[:, 100:])))[1]
    assert np.array_equal(after, fresh)
