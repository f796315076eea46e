"""What the headset picks up beside the brain: blinks, muscles, drift, the power line and electrode pops."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.sources.simulation.blinks import Blinks, closure
from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.head import BLINK_REACH, MUSCLE_REACH, reach
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.types import FloatArray

LINE_HZ = 50.0
MUSCLE_FROM_HZ = 20.0  # muscle noise lies above
MUSCLE_FROM_INTENSITY = 1.5  # points; a weaker action unit leaves no trace in the EEG
MUSCLE_UV = 3.5  # uV rms per point of intensity above that, where the reach is 1
DRIFT_UV, DRIFT_S = 12.0, 8.0  # SD and time constant of slow electrode drift
SENSOR_UV = 0.6  # uV rms, white
POP_UV, POP_S = (60.0, 200.0), 0.25  # height and decay of an electrode pop


def simulate_artefacts(
    config: SimulationConfig, person: Participant, blinks: Blinks, intensities: FloatArray, times: FloatArray
) -> FloatArray:
    """Return everything that is not brain, (14, n) uV.

    Args:
        config: Of the session.
        person: Whose blinks, offsets and power line these are.
        blinks: Of the session.
        intensities: (17, n) action units at ``times``.
        times: (n,) seconds since the session began, at the nominal rate.
    """
    rng = session_generator(config, Draw.ARTEFACTS)
    shape = (len(EPOC_CH_NAMES), times.size)
    eye = np.outer(reach(BLINK_REACH), person.blink_uv * closure(blinks, times))
    muscle = _muscle_rms(intensities) * _muscle_noise(rng, shape, config.sfreq)
    line = person.line_uv[:, None] * np.sin(2 * np.pi * LINE_HZ * times + rng.uniform(0, 2 * np.pi))
    sensor = SENSOR_UV * rng.standard_normal(shape)
    drift = _drift(rng, shape, config.sfreq)
    picked_up: FloatArray = eye + muscle + line + sensor + drift + _pops(config, rng, times)
    return picked_up


def _muscle_rms(intensities: FloatArray) -> FloatArray:
    weights = np.stack([reach(MUSCLE_REACH[au]) for au in MUSCLE_REACH], axis=1)
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


def _pops(config: SimulationConfig, rng: np.random.Generator, times: FloatArray) -> FloatArray:
    pops = np.zeros((len(EPOC_CH_NAMES), times.size))
    for onset in rng.uniform(0, config.seconds, rng.poisson(config.effects.pops_per_min * config.seconds / 60)):
        first = int(np.searchsorted(times, onset))
        height = rng.uniform(*POP_UV) * rng.choice([-1.0, 1.0])
        pops[rng.integers(len(EPOC_CH_NAMES)), first:] += height * np.exp(-(times[first:] - onset) / POP_S)
    return pops
