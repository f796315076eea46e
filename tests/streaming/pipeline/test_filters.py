"""Claims about filters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sosfreqz

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.filters import CausalFilter, PolyphaseResampler, design_band, design_polyphase, design_sos
from clmer_streaming.types import Chunk, Gap, Item
from tests.support.signals import cut, eeg_like, joined, push_all, stamps


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


RATES = [100.0, 125.0, 128.0, 200.0, 220.0, 250.0, 256.0, 300.0, 500.0, 512.0, 1000.0, 1024.0, 1200.0, 2000.0, 2048.0]
ODD_RATES = [98.96, 127.94, 128.01, 219.7, 257.1, 999.3, 1111.11]
"""Rates as they are measured: no small ratio of 128 Hz."""


@pytest.mark.parametrize("sfreq", RATES)
def test_a_sine_keeps_amplitude_and_time(sfreq: float) -> None:
    """A 5 Hz sine at any rate is the same sine at 128 Hz, at the time its stamps say."""
    t = stamps(int(4 * sfreq), sfreq)
    x = np.sin(2 * np.pi * 5.0 * t)[None, :]
    t_out, y = joined(push_all(PolyphaseResampler(sfreq, 128.0), cut(t, x, [37])))
    settled = t_out > t[0] + 0.5
    assert np.max(np.abs(y[0, settled] - np.sin(2 * np.pi * 5.0 * t_out[settled]))) < 2e-3
    assert np.diff(t_out) == pytest.approx(1 / 128.0, rel=1e-6)


@pytest.mark.parametrize("sfreq", RATES)
def test_an_offset_stays_an_offset(sfreq: float) -> None:
    """Each phase has unit gain: 4200 uV in, 4200 uV out, from the first sample on."""
    t = stamps(int(sfreq), sfreq)
    _, y = joined(push_all(PolyphaseResampler(sfreq, 128.0), cut(t, np.full((2, t.size), 4200.0), [50])))
    assert y == pytest.approx(4200.0, abs=1e-6)


def test_what_would_fold_into_the_band_is_gone() -> None:
    """100 Hz at 256 Hz would fold onto 28 Hz; less than 1 % of it is left."""
    t = stamps(1024, 256.0)
    _, y = joined(push_all(PolyphaseResampler(256.0, 128.0), cut(t, np.sin(2 * np.pi * 100.0 * t)[None, :], [64])))
    assert np.max(np.abs(y[0, 64:])) < 0.01


def test_equal_rates_pass_untouched_and_undelayed() -> None:
    """128 Hz in, the very same samples out."""
    t, x = stamps(10), eeg_like(10)
    (out,) = PolyphaseResampler(128.0, 128.0).push(Chunk("eeg", t, x))
    assert isinstance(out, Chunk)
    assert out.x is x
    assert out.t is t


@pytest.mark.parametrize("sfreq", ODD_RATES)
@pytest.mark.parametrize("hz", [1.0, 3.0, 10.0])
def test_a_rate_that_is_no_small_ratio_is_met_too(sfreq: float, hz: float) -> None:
    """At measured rates every output has the value of the sine at the time of its own stamp."""
    t = stamps(int(6 * sfreq), sfreq)
    x = np.sin(2 * np.pi * hz * t)[None, :]
    t_out, y = joined(push_all(PolyphaseResampler(sfreq, 128.0), cut(t, x, [37])))
    settled = t_out > t[0] + 0.5
    assert np.max(np.abs(y[0, settled] - np.sin(2 * np.pi * hz * t_out[settled]))) < 2e-3
    assert np.diff(t_out) == pytest.approx(1 / 128.0, rel=1.1e-4)


@pytest.mark.parametrize("sfreq", [*RATES, *ODD_RATES])
def test_a_filter_stays_of_bounded_length(sfreq: float) -> None:
    """However odd the rate, its delay stays below 70 ms and its taps fit into a megabyte."""
    resampler = PolyphaseResampler(sfreq, 128.0)
    assert resampler.delay_s < 0.07
    assert resampler._phases.nbytes < 2**20


@settings(max_examples=60, deadline=None)
@given(
    sfreq=st.one_of(st.sampled_from([*RATES, *ODD_RATES]), st.floats(91.0, 2048.0)),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=6),
)
def test_any_cut_gives_the_same_bits_resampling(sfreq: float, sizes: list[int]) -> None:
    """Values, stamps and marks do not depend on how the stream was cut, at any rate."""
    t, x = stamps(300, sfreq), eeg_like(300, 3)
    whole = joined(push_all(PolyphaseResampler(sfreq, 128.0), cut(t, x, [300])))
    pieces = joined(push_all(PolyphaseResampler(sfreq, 128.0), cut(t, x, sizes)))
    assert np.array_equal(whole[0], pieces[0])
    assert np.array_equal(whole[1], pieces[1])


def test_marks_travel_with_the_samples() -> None:
    """An invented input sample marks the outputs that lie beside it, and no others."""
    t, filled = stamps(256, 256.0), np.zeros((1, 256), dtype=bool)
    filled[0, 100] = True
    (out,) = PolyphaseResampler(256.0, 128.0).push(Chunk("eeg", t, np.zeros((1, 256)), filled))
    assert isinstance(out, Chunk)
    assert out.filled is not None
    marked = out.t[out.filled[0]]
    assert marked.size > 0
    assert np.max(np.abs(marked - t[100])) <= 1 / 256.0


def test_a_gap_starts_anew() -> None:
    """Behind a gap the output is that of a new resampler."""
    t, x = stamps(200, 250.0), eeg_like(200, 2)
    running = PolyphaseResampler(250.0, 128.0)
    running.push(Chunk("eeg", t[:100], x[:, :100]))
    running.push(Gap(0, 1, "eeg", "lost_samples"))
    after = joined(running.push(Chunk("eeg", t[100:], x[:, 100:])))
    fresh = joined(PolyphaseResampler(250.0, 128.0).push(Chunk("eeg", t[100:], x[:, 100:])))
    assert np.array_equal(after[0], fresh[0])
    assert np.array_equal(after[1], fresh[1])


AMPLIFIER_RATES = [100.0, 125.0, 200.0, 250.0, 256.0, 257.1, 500.0, 512.0, 1000.0, 1024.0, 2048.0]


def amplitude(sfreq: float, hz: float) -> float:
    """Return the amplitude that a sine of amplitude 1 has in the windows when an amplifier samples it at ``sfreq``."""
    config = SignalConfig()
    t = stamps(int(12 * sfreq), sfreq)
    stages = (PolyphaseResampler(sfreq, 128.0, config.band[1]), CausalFilter(design_sos(config, 128.0)))
    items: list[Item] = [Chunk("eeg", t, np.sin(2 * np.pi * hz * t)[None, :])]
    for stage in stages:
        items = push_all(stage, items)
    t_out, y = joined(items)
    return float(np.sqrt(2) * np.std(y[0, (t_out > t[0] + 4.0) & (t_out < t[0] + 11.5)]))


@pytest.mark.parametrize("sfreq", AMPLIFIER_RATES)
@pytest.mark.parametrize("hz", [4.0, 6.0, 10.0, 20.0, 30.0, 40.0, 45.0])
def test_the_band_is_the_same_at_any_amplifier(sfreq: float, hz: float) -> None:
    """From 4 to 45 Hz a model sees the same amplitude, whatever the rate, within 2 %."""
    assert amplitude(sfreq, hz) == pytest.approx(amplitude(128.0, hz), rel=0.02)


@pytest.mark.parametrize("sfreq", [rate for rate in AMPLIFIER_RATES if rate > 128])
@pytest.mark.parametrize("hz", [50.0, 60.0])
def test_the_mains_are_not_larger_at_a_faster_amplifier(sfreq: float, hz: float) -> None:
    """What is left of 50 and 60 Hz at 128 Hz is the most that is left at any rate."""
    assert amplitude(sfreq, hz) <= amplitude(128.0, hz)


@pytest.mark.parametrize("hz", [83.0, 90.0, 100.0, 118.0, 124.0])
def test_what_lies_beyond_the_rate_of_the_model_does_not_fold_into_the_band(hz: float) -> None:
    """Of frequencies whose image lies between 4 and 45 Hz less than 1 % is left."""
    assert max(amplitude(sfreq, hz) for sfreq in (250.0, 256.0, 500.0, 2048.0)) < 0.01


def test_the_delay_is_longer_only_where_the_rate_leaves_little_room() -> None:
    """At 100 Hz the band ends 5 Hz below what the rate can hold; from 125 Hz on the delay stays below 50 ms."""
    assert 0.1 < PolyphaseResampler(100.0, 128.0, 45.0).delay_s < 0.2
    assert all(PolyphaseResampler(sfreq, 128.0, 45.0).delay_s < 0.05 for sfreq in AMPLIFIER_RATES if sfreq >= 125)


def test_every_phase_has_unit_gain() -> None:
    """The taps of each of the 128 phases from 125 to 128 Hz sum to one."""
    phases = design_polyphase(128, 125)
    assert phases.shape[0] == 128
    assert phases.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
