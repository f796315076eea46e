"""The EEG of a simulated session: brain activity, blinks, artifacts, and the headset's digitization.

``simulate_brain`` makes a 1/f background and an alpha peak whose band powers change second by second. Each source is
made by overlap-add: every half second, a spectrum of random phase and of the present power is turned into one second
of signal; sine windows keep the power even. Sources then spread over the electrodes. ``simulate_artifacts`` adds
everything that is not brain, and ``digitise`` what a headset makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter, sosfilt
from scipy.special import polygamma

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.simulation.participant import BLINK_REACH, CAPS, MUSCLE_REACH, Participant, conduction, reach
from clmer_streaming.simulation.trials import Emotion, stimulus_offsets, structured_noise
from clmer_streaming.types import FloatArray, StreamInfo

BANDS: dict[str, tuple[float, float]] = {
    "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0),
}  # fmt: skip
"""The bands whose power varies, in Hz."""

TRIAL_SD, SECOND_SD = 0.45, 0.65  # ln power, SD of a band's gain
SHARED = 0.6  # share of a gain's variance that all sources have in common
BACKGROUND_UV2 = 22.0  # uV^2/Hz at 1 Hz
AROUSAL_WEIGHTS = {"alpha": -1.0, "beta": 1.0, "gamma": 0.5}  # of the effect on each band, at every source
TEMPORAL = ("T7", "T8", "FC5", "FC6")  # sites where high valence raises gamma
LEFT_FRONT, RIGHT_FRONT = ("Fp1", "AF7", "AF3", "F7", "F3", "FC5"), ("Fp2", "AF8", "AF4", "F8", "F4", "FC6")
ASYMMETRY_WEIGHT = 0.7  # of the effect of valence on frontal alpha: falls on the left, rises on the right


def simulate_brain(config: SimulationConfig, person: Participant, emotion: Emotion, n_times: int) -> FloatArray:
    """Return potentials (C, n_times) in uV against the cap's reference, at the nominal rate, undisturbed."""
    rng = session_generator(config, Draw.BRAIN)
    gains = band_gains(config, person, emotion, rng)
    sources = _overlap_add(_segments(config, person, gains, rng), n_times)
    potentials = conduction(person.cap.sites, person.spread_deg) @ sources
    referenced: FloatArray = potentials[:-1] - potentials[-1]
    return referenced


def band_gains(config: SimulationConfig, person: Participant, emotion: Emotion, rng: np.random.Generator) -> FloatArray:
    """Return the ln gain of each band, source and second, (4, n, S): noise, and effects of emotion and stimulus."""
    shape = (len(BANDS), len(person.cap.sites))
    shared = structured_noise(rng, (len(BANDS), 1), emotion, TRIAL_SD, SECOND_SD)
    own = structured_noise(rng, shape, emotion, TRIAL_SD, SECOND_SD)
    noise = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
    valence, arousal = effect_weights(person)
    felt = 0.5 * person.eeg_d * (valence[..., None] * emotion.valence + arousal[..., None] * emotion.arousal)
    offsets = stimulus_offsets(emotion, shape[0] * shape[1], config.effects.stimuli_balanced)
    shown = config.effects.stimulus_sd * offsets.reshape(*shape, -1)
    gains: FloatArray = noise + within_sd()[:, None, None] * (felt + shown)
    return gains


def within_sd() -> FloatArray:
    """Return the within-subject SD of one second's ln band power, (4,).

    It is the variance of trials and seconds, plus that of estimating a power from one second: trigamma(n / 2) for the
    n = 2 * bandwidth * 1 s degrees of freedom of a band (Bartlett and Kendall 1946, on log chi-square).
    """
    width = np.asarray([high - low for low, high in BANDS.values()])
    spread: FloatArray = np.sqrt(TRIAL_SD**2 + SECOND_SD**2 + polygamma(1, width))
    return spread


def effect_weights(person: Participant) -> tuple[FloatArray, FloatArray]:
    """Return the weights of valence and arousal on each band and source, two arrays (4, n) in units of the d."""
    valence, arousal = np.zeros((2, len(BANDS), len(person.cap.sites)))
    for row, band in enumerate(BANDS):
        arousal[row] = AROUSAL_WEIGHTS.get(band, 0.0)
        for column, site in enumerate(person.cap.sites):
            side = (site in RIGHT_FRONT) * 1.0 - (site in LEFT_FRONT) * 1.0
            if band == "alpha":
                valence[row, column] = person.asymmetry_sign * ASYMMETRY_WEIGHT * side
            elif band == "gamma" and site in TEMPORAL:
                valence[row, column] = 1.0
    return valence, arousal


def source_spectra(person: Participant, frequencies: FloatArray) -> FloatArray:
    """Return the mean power of each source at frequencies (F,) in Hz, (n, F) uV^2/Hz; 0 at 0 Hz."""
    hz = np.maximum(frequencies, 1e-9)
    background = BACKGROUND_UV2 * hz**-person.slope * (frequencies > 0)
    peak = np.exp(-0.5 * ((hz - person.alpha_hz) / person.alpha_width_hz) ** 2)
    spectra: FloatArray = np.exp(person.log_gain)[:, None] * background * (1 + person.alpha_height[:, None] * peak)
    return spectra


def _segments(config: SimulationConfig, person: Participant, gains: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return a windowed second of each source for every half second, (n, K, sfreq) uV."""
    n_fft = round(config.sfreq)
    frequencies = np.arange(n_fft // 2 + 1, dtype=np.float64)  # 1 Hz apart, as segments last 1 s
    membership = np.stack([(frequencies >= low) & (frequencies < high) for low, high in BANDS.values()]).astype(float)
    at_segment = _at_half_seconds(gains)
    ln_power = np.einsum("bf,bsk->skf", membership, at_segment)
    amplitude = np.sqrt(source_spectra(person, frequencies)[:, None, :] * np.exp(ln_power) / 2) * n_fft
    phases = rng.standard_normal((2, *amplitude.shape)) * np.sqrt(0.5)
    signal = np.fft.irfft(amplitude * (phases[0] + 1j * phases[1]), n=n_fft, axis=-1)
    window = np.sin(np.pi * (np.arange(n_fft) + 0.5) / n_fft)  # sin^2 of neighbours sums to 1
    windowed: FloatArray = signal * window
    return windowed


def _at_half_seconds(gains: FloatArray) -> FloatArray:
    """Return gains of seconds (4, n, S) at the centres 0, .5, 1, ... S of the segments, (4, n, 2 S + 1)."""
    padded = np.concatenate([gains[..., :1], gains, gains[..., -1:]], axis=-1)
    at_edges = 0.5 * (padded[..., :-1] + padded[..., 1:])
    centred = np.empty((*gains.shape[:-1], 2 * gains.shape[-1] + 1))
    centred[..., ::2], centred[..., 1::2] = at_edges, gains
    return centred


def _overlap_add(segments: FloatArray, n_times: int) -> FloatArray:
    """Return the overlap-add (n, n_times) of segments (n, K, length) by half their length."""
    n_sources, n_segments, length = segments.shape
    half = length // 2
    halves = segments.reshape(n_sources, n_segments, 2, half)
    joined = halves[:, :-1, 1] + halves[:, 1:, 0]
    return joined.reshape(n_sources, -1)[:, :n_times]


_BEFORE, _BEHIND = ("Timestamp", "Counter", "Interpolate"), ("HardwareMarker", "Markers")
FIRST_SENSOR = len(_BEFORE)


def stream_ch_names(cap: str) -> tuple[str, ...]:
    """Return the channels of the EEG outlet for a cap, as EmotivPRO has them for an EPOC."""
    return (*_BEFORE, *CAPS[cap].ch_names, *_BEHIND)


STEP_UV = 0.1282  # uV, least significant bit of a 16-bit EPOC
UNIX_EPOCH_S = 1.6e9  # s at which the Timestamp channel begins; fixed, so that files do not depend on the date
LOST_RUN = (3, 11)  # samples, shortest and longest loss; below 0.1 s, so that it can be bridged
FILLED_RUN = (1, 3)  # samples that the headset fills by repeating the last one
LONGEST_DELAY_S = 0.004  # s, of a stamp; less than a sample, so that stamps never step back


def eeg_stream_info(config: SimulationConfig) -> StreamInfo:
    """Return the announcement of the EEG stream."""
    name, manufacturer = CAPS[config.cap].device
    return StreamInfo(
        source="eeg",
        kind="eeg",
        name=name,
        ch_names=stream_ch_names(config.cap),
        sfreq=config.sfreq,
        unit="microvolts",
        source_id=f"simulated-eeg-{config.participant}-{config.seed}",
        hostname="simulator",
        manufacturer=manufacturer,
        type="EEG",
        channel_format="float32",
    )


def true_rate(config: SimulationConfig) -> float:
    """Return the true rate of the headset in Hz: 20 to 50 ppm off its nominal rate."""
    rng = session_generator(config, Draw.CLOCK)
    drawn = rng.uniform(20.0, 50.0) * rng.choice([-1.0, 1.0])
    ppm = float(drawn) if config.drift_ppm is None else config.drift_ppm
    return config.sfreq * (1 + ppm * 1e-6)


def digitise(
    config: SimulationConfig, potentials: FloatArray, offsets: FloatArray, t0: float
) -> tuple[FloatArray, npt.NDArray[np.float32]]:
    """Return the stamps (n,) and the stream's values (C + 5, n) float32, without lost samples.

    Args:
        config: Settings of the session.
        potentials: (C, N) uV without offset.
        offsets: (C,) uV.
        t0: LSL seconds of the first sample.
    """
    rng = session_generator(config, Draw.AMPLIFIER)
    n_channels, n_times = potentials.shape
    delay = np.minimum(rng.exponential(config.jitter_s, n_times), LONGEST_DELAY_S)
    t = t0 + np.arange(n_times) / true_rate(config) + delay
    x = np.zeros((len(stream_ch_names(config.cap)), n_times))
    sensors = slice(FIRST_SENSOR, FIRST_SENSOR + n_channels)
    x[0] = UNIX_EPOCH_S + t
    x[1] = np.arange(n_times) % round(config.sfreq)
    x[sensors] = np.round((potentials + offsets[:, None]) / STEP_UV) * STEP_UV
    for first, last in _runs(rng, config.effects.fills_per_min, FILLED_RUN, config, n_times):
        x[2, first:last] = 1
        x[sensors, first:last] = x[sensors, first - 1 : first]
    arrived = np.ones(n_times, dtype=bool)
    for first, last in _runs(rng, config.effects.losses_per_min, LOST_RUN, config, n_times):
        arrived[first:last] = False
    return t[arrived], x[:, arrived].astype(np.float32)


def _runs(
    rng: np.random.Generator, per_min: float, length: tuple[int, int], config: SimulationConfig, n_times: int
) -> list[tuple[int, int]]:
    """Return random runs of samples as (first, end), none in the first second."""
    n_runs = rng.poisson(per_min * config.seconds / 60)
    earliest = round(config.sfreq)
    firsts = rng.integers(earliest, max(n_times - length[1], earliest + 1), n_runs)
    return [
        (int(first), int(first + n))
        for first, n in zip(firsts, rng.integers(*length, n_runs, endpoint=True), strict=True)
    ]


SHORTEST_PAUSE_S = 0.8  # s between two blinks
PAUSE_SHAPE = 2.0  # of the gamma distribution; blinks are more regular than a Poisson process
PEAK_SHARE = 0.4  # of a blink's duration; lids close faster than they open


@dataclass(frozen=True, eq=False)
class Blinks:
    """All blinks of a session."""

    onset: FloatArray  # (n,) seconds since the session began
    duration: FloatArray  # (n,) s, 0.2-0.3
    strength: FloatArray  # (n,) closure of the lids, about 1

    @property
    def peak(self) -> FloatArray:
        """Time of the fullest closure of each blink, (n,) seconds since the session began."""
        return self.onset + PEAK_SHARE * self.duration


def simulate_blinks(config: SimulationConfig, person: Participant) -> Blinks:
    """Return the blinks of a session; the pauses between them are gamma distributed above a minimum."""
    rng = session_generator(config, Draw.BLINKS)
    mean_pause = 60.0 / person.blinks_per_min - SHORTEST_PAUSE_S
    n_most = int(config.seconds * person.blinks_per_min / 60.0 * 2) + 20
    onset = np.cumsum(SHORTEST_PAUSE_S + rng.gamma(PAUSE_SHAPE, mean_pause / PAUSE_SHAPE, n_most))
    duration = rng.uniform(0.2, 0.3, n_most)
    strength = np.clip(rng.normal(1.0, 0.12, n_most), 0.7, 1.3)
    kept = onset < config.seconds - 0.4
    return Blinks(onset[kept], duration[kept], strength[kept])


def closure(blinks: Blinks, times: FloatArray) -> FloatArray:
    """Return the closure of the lids at increasing ``times`` (n,) in seconds: 0 open, about 1 at a blink's peak."""
    closed = np.zeros(times.shape)
    ends = blinks.onset + blinks.duration
    firsts = np.searchsorted(times, blinks.onset)
    for first, last, onset, duration, strength in zip(
        firsts, np.searchsorted(times, ends), blinks.onset, blinks.duration, blinks.strength, strict=True
    ):
        phase = (times[first:last] - onset) / duration
        warped = np.where(phase < PEAK_SHARE, phase / PEAK_SHARE / 2, 0.5 + (phase - PEAK_SHARE) / (1 - PEAK_SHARE) / 2)
        closed[first:last] = strength * np.sin(np.pi * warped) ** 2
    return closed


LINE_HZ = 50.0
MUSCLE_FROM_HZ = 20.0  # lowest frequency of muscle noise
MUSCLE_FROM_INTENSITY = 1.5  # points; weaker action units do not show in the EEG
MUSCLE_UV = 3.5  # uV rms per point of intensity above that, at a weight of 1
DRIFT_UV, DRIFT_S = 12.0, 8.0  # SD and time constant of slow electrode drift
SENSOR_UV = 0.6  # uV rms, white
POP_UV, POP_S = (60.0, 200.0), 0.25  # height and decay of an electrode pop


def simulate_artifacts(
    config: SimulationConfig, person: Participant, blinks: Blinks, intensities: FloatArray, times: FloatArray
) -> FloatArray:
    """Return everything that is not brain, (C, n) uV: blinks, muscles, power line, sensor noise, drift and pops.

    Args:
        config: Settings of the session.
        person: The participant.
        blinks: Blinks of the session.
        intensities: (17, n) action units at ``times``.
        times: (n,) seconds since the session began, at the nominal rate.
    """
    rng = session_generator(config, Draw.ARTEFACTS)
    shape = (len(person.cap.ch_names), times.size)
    eye = np.outer(reach(BLINK_REACH, person.cap.ch_names), person.blink_uv * closure(blinks, times))
    muscle = _muscle_rms(person.cap.ch_names, intensities) * _muscle_noise(rng, shape, config.sfreq)
    line = person.line_uv[:, None] * np.sin(2 * np.pi * LINE_HZ * times + rng.uniform(0, 2 * np.pi))
    sensor = SENSOR_UV * rng.standard_normal(shape)
    drift = _drift(rng, shape, config.sfreq)
    picked_up: FloatArray = eye + muscle + line + sensor + drift + _pops(config, shape, rng, times)
    return picked_up


def _muscle_rms(ch_names: tuple[str, ...], intensities: FloatArray) -> FloatArray:
    weights = np.stack([reach(MUSCLE_REACH[au], ch_names) for au in MUSCLE_REACH], axis=1)
    acting = np.maximum(intensities[[AU_NAMES.index(au) for au in MUSCLE_REACH]] - MUSCLE_FROM_INTENSITY, 0.0)
    rms: FloatArray = MUSCLE_UV * (weights @ acting)
    return rms


def _muscle_noise(rng: np.random.Generator, shape: tuple[int, int], sfreq: float) -> FloatArray:
    sos = butter(2, MUSCLE_FROM_HZ, "highpass", fs=sfreq, output="sos")
    noise = sosfilt(sos, rng.standard_normal(shape), axis=-1)
    unit: FloatArray = noise / noise.std()
    return unit


def _drift(rng: np.random.Generator, shape: tuple[int, int], sfreq: float) -> FloatArray:
    keep = np.exp(-1.0 / (DRIFT_S * sfreq))
    white = rng.standard_normal(shape) * np.sqrt(1 - keep**2)
    white[:, 0] /= np.sqrt(1 - keep**2)
    wandering: FloatArray = DRIFT_UV * lfilter([1.0], [1.0, -keep], white, axis=-1)
    return wandering


def _pops(config: SimulationConfig, shape: tuple[int, int], rng: np.random.Generator, times: FloatArray) -> FloatArray:
    pops = np.zeros(shape)
    for onset in rng.uniform(0, config.seconds, rng.poisson(config.effects.pops_per_min * config.seconds / 60)):
        first = int(np.searchsorted(times, onset))
        height = rng.uniform(*POP_UV) * rng.choice([-1.0, 1.0])
        pops[rng.integers(shape[0]), first:] += height * np.exp(-(times[first:] - onset) / POP_S)
    return pops
