"""The simulated EEG looks like a headset's: channels, counter, offset, clock, blinks, muscles, spectrum."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.signal import welch

from clmer_streaming.config import CAP36_CH_NAMES, EPOC_CH_NAMES
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.eeg import Blinks, simulate_artifacts
from clmer_streaming.simulation.participant import draw_participant
from clmer_streaming.simulation.session import SimulatedSession, simulate, simulate_cohort
from clmer_streaming.types import FloatArray

CLEAN = SimulationConfig(preset="easy")  # nothing lost
STEP_UV = 0.1282


@pytest.fixture(scope="module")
def clean() -> SimulatedSession:
    return simulate(CLEAN)


def channel(session: SimulatedSession, name: str) -> FloatArray:
    values: FloatArray = session.eeg_x[session.eeg_info.ch_names.index(name)].astype(np.float64)
    return values


def test_the_stream_has_the_channels_of_emotivpro(clean: SimulatedSession) -> None:
    """19 channels in EmotivPRO's order, declared in microvolts."""
    assert clean.eeg_info.ch_names == (
        "Timestamp", "Counter", "Interpolate", *EPOC_CH_NAMES, "HardwareMarker", "Markers",
    )  # fmt: skip
    assert (clean.eeg_info.name, clean.eeg_info.manufacturer) == ("EmotivDataStream-EEG", "Emotiv")
    assert (clean.eeg_info.unit, clean.eeg_info.sfreq, clean.eeg_x.shape) == ("microvolts", 128.0, (19, 60 * 128))


def test_the_counter_runs_from_0_to_127(clean: SimulatedSession) -> None:
    """Without losses the counter counts every sample and restarts each second."""
    assert np.array_equal(channel(clean, "Counter"), np.arange(60 * 128) % 128)


def test_lost_samples_show_in_the_counter() -> None:
    """Where the counter jumps by k, the stamps jump by k samples too; runs stay short enough to be bridged."""
    session = simulate(SimulationConfig(seconds=300.0))
    steps = np.diff(channel(session, "Counter")) % 128
    jumps = np.flatnonzero(steps != 1)
    assert jumps.size > 1
    assert np.diff(session.eeg_t)[jumps] == pytest.approx(steps[jumps] / 128, abs=0.005)
    assert steps.max() <= 12 < 0.1 * 128


def test_filled_samples_repeat_the_last_one_and_are_marked() -> None:
    """Where Interpolate is 1 the sensors hold the value before."""
    session = simulate(SimulationConfig(seconds=300.0))
    filled = np.flatnonzero(channel(session, "Interpolate"))
    assert filled.size > 1
    assert np.array_equal(session.eeg_x[3:17, filled], session.eeg_x[3:17, filled - 1])


def test_values_lie_about_4200_microvolts_in_the_headsets_steps(clean: SimulatedSession) -> None:
    """Each channel has its own offset near 4200 uV; values are multiples of 0.1282 uV, as float32 holds them."""
    sensors = clean.eeg_x[3:17].astype(np.float64)
    assert np.all(np.abs(sensors.mean(axis=1) - 4200) < 200)
    assert np.all(np.abs(sensors / STEP_UV - np.round(sensors / STEP_UV)) < 0.01)


def test_the_clock_is_20_to_50_ppm_off_and_jitters_little(clean: SimulatedSession) -> None:
    """The stamps' own rate is off by the drift that the truth tells; they stray from it by less than a sample."""
    index = np.arange(clean.eeg_t.size)
    period, start = np.polyfit(index, clean.eeg_t, 1)
    ppm = (clean.truth.true_rate_hz / 128 - 1) * 1e6
    assert 20 <= abs(ppm) <= 50
    assert (1 / period / 128 - 1) * 1e6 == pytest.approx(ppm, abs=2)
    stray = clean.eeg_t - (start + period * index)
    assert 1e-4 < stray.std() < 1e-3
    assert np.all(np.diff(clean.eeg_t) > 0)


def test_blinks_are_seen_in_front_and_by_the_camera_at_once(clean: SimulatedSession) -> None:
    """At each blink's peak AF3 and AF4 rise by about the person's height, the back of the head does not; AU45 too."""
    peaks = clean.truth.blinks.peak
    assert 12 * 0.7 <= peaks.size <= 20 * 1.3
    around = np.round(np.arange(-0.3, 0.3, 1 / 128) * 128).astype(int)
    index = np.searchsorted(clean.eeg_t, clean.t0 + peaks)
    mean = {name: channel(clean, name)[index[:, None] + around].mean(axis=0) for name in ("AF3", "AF4", "O1")}
    rise = {name: wave.max() - np.median(wave[:20]) for name, wave in mean.items()}
    assert rise["AF3"] == pytest.approx(clean.person.blink_uv, rel=0.25)
    assert rise["AF4"] == pytest.approx(clean.person.blink_uv, rel=0.25)
    assert rise["O1"] < 0.3 * clean.person.blink_uv
    assert abs(around[np.argmax(mean["AF3"])] / 128) < 0.05
    closed = clean.face.rows[:, 204 + AU_NAMES.index("AU45")]
    frames = np.searchsorted(clean.face.t, clean.t0 + peaks)
    assert all(closed[frame - 1 : frame + 2].max() > 3 for frame in frames)


def test_between_blinks_only_weeping_closes_the_eyes(clean: SimulatedSession) -> None:
    """Away from every blink AU45 stays below 1, or brow, nose, lip and chin move with the lids."""
    since = clean.face.t - clean.t0
    near = (np.abs(since[:, None] - clean.truth.blinks.peak) < 0.35).any(axis=1)
    closed = ~near & (clean.face.rows[:, 204 + AU_NAMES.index("AU45")] >= 1.0)
    rest_of_face = [AU_NAMES.index(au) for au in ("AU04", "AU09", "AU10", "AU17")]
    assert clean.truth.intensities[rest_of_face].sum(axis=0)[closed].min(initial=np.inf) > 1.0
    assert closed[~near].mean() < 0.15


@pytest.mark.parametrize(
    ("au", "seen_at", "not_at"), [("AU12", ("T7", "T8", "F7", "F8"), "O1"), ("AU04", ("AF3", "AF4"), "P7")]
)
def test_strong_action_units_bring_muscle_noise(au: str, seen_at: tuple[str, ...], not_at: str) -> None:
    """A cheek muscle is picked up at the temples, a brow muscle in front: noise above 20 Hz, and nothing weaker."""
    times = np.arange(20 * 128) / 128
    nobody_blinks = Blinks(np.empty(0), np.empty(0), np.empty(0))
    power = {}
    for intensity in (0.0, 1.0, 4.0):
        intensities = np.zeros((17, times.size))
        intensities[AU_NAMES.index(au)] = intensity
        x = simulate_artifacts(CLEAN, draw_participant(CLEAN), nobody_blinks, intensities, times)
        hz, psd = welch(x, 128, nperseg=128)
        power[intensity] = psd[:, (hz >= 25) & (hz < 45)].sum(axis=1)
    gain = power[4.0] / power[0.0]
    assert all(gain[EPOC_CH_NAMES.index(name)] > 5 for name in seen_at)
    assert gain[EPOC_CH_NAMES.index(not_at)] == pytest.approx(1.0)
    assert power[1.0] == pytest.approx(power[0.0])


def test_the_spectrum_falls_like_one_over_f() -> None:
    """Over people, power between 2 and 45 Hz falls with an exponent near -1 (alpha and the power line left out)."""
    slopes = []
    for session in simulate_cohort(12, CLEAN, n_trials=4):
        sensors = session.eeg_x[3:17].astype(np.float64)
        hz, psd = welch(sensors - sensors.mean(axis=0), 128, nperseg=256)
        used = ((hz >= 2) & (hz < 7)) | ((hz >= 15) & (hz < 45))
        slopes.append(np.polyfit(np.log(hz[used]), np.log(psd[:, used].mean(axis=0)), 1)[0])
    assert np.mean(slopes) == pytest.approx(-1.0, abs=0.25)
    assert 0.1 < np.std(slopes) < 0.5


def test_the_alpha_peak_stands_at_the_persons_frequency() -> None:
    """At the back of the head the spectrum over its background peaks within 1 Hz of the person's alpha."""
    for session in simulate_cohort(4, CLEAN, n_trials=8):
        o2 = channel(session, "O2") - channel(session, "F4")
        hz, psd = welch(o2, 128, nperseg=256)
        searched = (hz >= 7) & (hz <= 14)
        peak = hz[searched][np.argmax((psd * hz**session.person.slope)[searched])]
        assert peak == pytest.approx(session.person.alpha_hz, abs=1.0)


def test_the_headset_may_run_at_256_hz() -> None:
    """The other rate of an EPOC has its own counter and the same amplitudes."""
    slow, fast = simulate(CLEAN), simulate(dataclasses.replace(CLEAN, sfreq=256.0))
    assert channel(fast, "Counter").max() == 255
    spread = [np.diff(session.eeg_x[3:17].astype(np.float64), axis=1).std() for session in (slow, fast)]
    assert fast.eeg_t.size == 2 * slow.eeg_t.size
    assert 0.5 < spread[1] / spread[0] < 1.5


def test_a_cap_of_36_electrodes_measures_the_same_person(clean: SimulatedSession) -> None:
    """Face and traits do not depend on the cap; all electrodes are in the stream, between the columns of an outlet."""
    wide = simulate(dataclasses.replace(CLEAN, cap="cap36"))
    assert wide.eeg_info.ch_names[3:-2] == CAP36_CH_NAMES
    assert len(set(CAP36_CH_NAMES)) == 36
    assert np.array_equal(wide.face.rows, clean.face.rows, equal_nan=True)
    alone, among = clean.person, wide.person
    shared = [(i, among.cap.sites.index(site)) for i, site in enumerate(alone.cap.sites)]
    assert [alone.log_gain[i] for i, _ in shared] == [among.log_gain[k] for _, k in shared]
    assert [alone.alpha_height[i] for i, _ in shared] == [among.alpha_height[k] for _, k in shared]


def test_alpha_of_a_wide_cap_is_strongest_at_the_back() -> None:
    """The mean power at 8 to 13 Hz over occipital sites is higher than over central ones, in each of six people."""
    for participant in range(6):
        session = simulate(dataclasses.replace(CLEAN, cap="cap36", participant=participant))
        frequencies, power = welch(session.eeg_x[3:-2].astype(float), 128.0, nperseg=256)
        alpha = power[:, (frequencies >= 8) & (frequencies < 13)].mean(1)
        back, centre = (
            alpha[[CAP36_CH_NAMES.index(name) for name in names]].mean()
            for names in (("O1", "Oz", "O2", "PO3", "PO4"), ("FC1", "FC2", "C3", "Cz", "C4"))
        )
        assert back > centre


def test_a_cap_that_nobody_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="epoc, cap36"):
        SimulationConfig(cap="cap37")
