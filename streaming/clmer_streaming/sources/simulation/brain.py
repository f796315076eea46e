"""The brain's share of the EEG: a 1/f background and an alpha peak whose band powers change second by second.

Each source is made by overlap-add: every half second a spectrum of random phase and of that moment's power is
turned into one second of signal; sine windows keep the power even. Sources then spread over the electrodes.
"""

from __future__ import annotations

import numpy as np
from scipy.special import polygamma

from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.emotion import Emotion, stimulus_offsets, structured_noise
from clmer_streaming.sources.simulation.head import SITES, conduction
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.types import FloatArray

BANDS: dict[str, tuple[float, float]] = {
    "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0),
}  # fmt: skip
"""Hz; the bands whose power varies."""

TRIAL_SD, SECOND_SD = 0.45, 0.65  # ln power, of a band's gain
SHARED = 0.6  # share of a gain's variance that all sources have in common
BACKGROUND_UV2 = 22.0  # uV^2/Hz at 1 Hz
AROUSAL_WEIGHTS = {"alpha": -1.0, "beta": 1.0, "gamma": 0.5}  # of the effect on each band, at every source
TEMPORAL = ("T7", "T8", "FC5", "FC6")  # where high valence raises gamma
LEFT_FRONT, RIGHT_FRONT = ("AF3", "F7", "F3", "FC5"), ("AF4", "F8", "F4", "FC6")
ASYMMETRY_WEIGHT = 0.7  # of the effect of valence on frontal alpha: falls on the left, rises on the right


def simulate_brain(config: SimulationConfig, person: Participant, emotion: Emotion, n_times: int) -> FloatArray:
    """Return potentials (14, n_times) in uV against P3, at the nominal rate, without offset or artefacts."""
    rng = session_generator(config, Draw.BRAIN)
    gains = band_gains(config, person, emotion, rng)
    sources = _overlap_add(_segments(config, person, gains, rng), n_times)
    potentials = conduction(person.spread_deg) @ sources
    against_p3: FloatArray = potentials[:-1] - potentials[-1]
    return against_p3


def band_gains(config: SimulationConfig, person: Participant, emotion: Emotion, rng: np.random.Generator) -> FloatArray:
    """Return the ln gain of each band, source and second, (4, 15, S)."""
    shape = (len(BANDS), len(SITES))
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

    Trial and second variance, plus what estimating a variance from one second adds: trigamma(n / 2) for the
    n = 2 * bandwidth * 1 s degrees of freedom of a band (Bartlett & Kendall 1946, on log chi-square).
    """
    width = np.asarray([high - low for low, high in BANDS.values()])
    spread: FloatArray = np.sqrt(TRIAL_SD**2 + SECOND_SD**2 + polygamma(1, width))
    return spread


def effect_weights(person: Participant) -> tuple[FloatArray, FloatArray]:
    """Return what valence and arousal do to each band and source, two arrays (4, 15) in units of the preset's d."""
    valence, arousal = np.zeros((2, len(BANDS), len(SITES)))
    for row, band in enumerate(BANDS):
        arousal[row] = AROUSAL_WEIGHTS.get(band, 0.0)
        for column, site in enumerate(SITES):
            side = (site in RIGHT_FRONT) * 1.0 - (site in LEFT_FRONT) * 1.0
            if band == "alpha":
                valence[row, column] = person.asymmetry_sign * ASYMMETRY_WEIGHT * side
            elif band == "gamma" and site in TEMPORAL:
                valence[row, column] = 1.0
    return valence, arousal


def source_spectra(person: Participant, frequencies: FloatArray) -> FloatArray:
    """Return the power of each source at its average, (15, F) uV^2/Hz; nothing at 0 Hz."""
    hz = np.maximum(frequencies, 1e-9)
    background = BACKGROUND_UV2 * hz**-person.slope * (frequencies > 0)
    peak = np.exp(-0.5 * ((hz - person.alpha_hz) / person.alpha_width_hz) ** 2)
    spectra: FloatArray = np.exp(person.log_gain)[:, None] * background * (1 + person.alpha_height[:, None] * peak)
    return spectra


def _segments(config: SimulationConfig, person: Participant, gains: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return one second of each source for every half second, (15, K, sfreq) uV, windowed."""
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
    """Return gains of seconds (4, 15, S) at the centres 0, .5, 1, ... S of the segments, (4, 15, 2 S + 1)."""
    padded = np.concatenate([gains[..., :1], gains, gains[..., -1:]], axis=-1)
    at_edges = 0.5 * (padded[..., :-1] + padded[..., 1:])
    centred = np.empty((*gains.shape[:-1], 2 * gains.shape[-1] + 1))
    centred[..., ::2], centred[..., 1::2] = at_edges, gains
    return centred


def _overlap_add(segments: FloatArray, n_times: int) -> FloatArray:
    """Return the sum (15, n_times) of segments (15, K, n) that follow each other by half their length."""
    n_sources, n_segments, length = segments.shape
    half = length // 2
    halves = segments.reshape(n_sources, n_segments, 2, half)
    joined = halves[:, :-1, 1] + halves[:, 1:, 0]
    return joined.reshape(n_sources, -1)[:, :n_times]
