"""What the face shows: action units driven by the emotion of each second, above a threshold of expression."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.sources.simulation.blinks import Blinks, closure
from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.emotion import Emotion, stimulus_offsets, structured_noise
from clmer_streaming.sources.simulation.expressions import MAX_INTENSITY
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.types import BoolArray, FloatArray

TRIAL_SD, SECOND_SD = 0.55, 0.83  # of the noise of a drive; together 1
GAIN = 1.5  # points of intensity per SD of drive above the threshold
SMOOTHING_S = 0.15  # s, time constant with which muscles follow
PRESENT_FROM, ABSENT_BELOW = 1.0, 0.7  # points; presence has a hysteresis, and needs two frames to begin

DRIVES = ("smile", "frown", "alert")
"""What emotion moves: valence up, valence down, arousal up."""

_DRIVEN: dict[str, tuple[str, float]] = {
    "AU12": ("smile", 1.0), "AU06": ("smile", 0.75), "AU04": ("frown", 0.8), "AU15": ("frown", 0.8),
    "AU05": ("alert", 0.8), "AU25": ("alert", 0.9), "AU26": ("alert", 0.45),
}  # fmt: skip
"""Action units that follow a drive, and with what gain."""

_IDLE_GAIN: dict[str, float] = {
    "AU01": 0.35, "AU02": 0.35, "AU07": 0.35, "AU09": 0.15, "AU10": 0.25,
    "AU14": 0.3, "AU17": 0.35, "AU20": 0.2, "AU23": 0.25,
}  # fmt: skip
"""Action units that come and go by themselves."""

_OWN_SHARE = 0.4  # share of a driven unit's noise (variance) that is its own


def simulate_action_units(
    config: SimulationConfig, person: Participant, emotion: Emotion, blinks: Blinks, times: FloatArray
) -> FloatArray:
    """Return the intensities (17, n), 0-5, at increasing, even ``times`` (n,) seconds since the session began."""
    rng = session_generator(config, Draw.EXPRESSION)
    shared = structured_noise(rng, (len(DRIVES),), emotion, TRIAL_SD, SECOND_SD)
    own = structured_noise(rng, (len(AU_NAMES),), emotion, TRIAL_SD, SECOND_SD)
    effect = emotional_drives(config, person, emotion)
    by_second = np.zeros_like(own)
    for row, au in enumerate(AU_NAMES):
        if au in _DRIVEN:
            name, gain = _DRIVEN[au]
            drive = DRIVES.index(name)
            noise = np.sqrt(1 - _OWN_SHARE) * shared[drive] + np.sqrt(_OWN_SHARE) * own[row]
            by_second[row] = gain * (noise + effect[drive] - person.threshold)
        elif au in _IDLE_GAIN:
            by_second[row] = _IDLE_GAIN[au] * (own[row] - person.threshold)
    moved = _follow(np.maximum(by_second, 0.0), emotion.centres, times) * (GAIN * person.expressivity)
    moved[AU_NAMES.index("AU45")] = MAX_INTENSITY * closure(blinks, times)
    return np.clip(moved, 0.0, MAX_INTENSITY)


def emotional_drives(config: SimulationConfig, person: Participant, emotion: Emotion) -> FloatArray:
    """Return what emotion and stimulus add to the drives of each second, (3, S), in the order of DRIVES."""
    felt = np.stack([emotion.valence, -emotion.valence, emotion.arousal])
    drives: FloatArray = 0.5 * person.au_d * felt + config.effects.stimulus_sd * stimulus_offsets(emotion, len(DRIVES))
    return drives


def presence(intensities: FloatArray) -> BoolArray:
    """Return which units are present, (17, n): on at 1.0 for two frames running, off below 0.7."""
    high = intensities >= PRESENT_FROM
    begins = high.copy()
    begins[:, 1:] &= high[:, :-1]
    begins[:, :1] = False
    ends = intensities < ABSENT_BELOW
    frame = np.arange(intensities.shape[1])
    last_begin = np.maximum.accumulate(np.where(begins, frame, -1), axis=1)
    last_end = np.maximum.accumulate(np.where(ends, frame, -1), axis=1)
    on: BoolArray = last_begin > last_end
    return on


def _follow(by_second: FloatArray, centres: FloatArray, times: FloatArray) -> FloatArray:
    """Return values of seconds (k, S) at ``times``: joined by lines, then smoothed as muscles do."""
    joined = np.stack([np.interp(times, centres, row) for row in by_second])
    keep = np.exp(-np.mean(np.diff(times)) / SMOOTHING_S) if times.size > 1 else 0.0
    smooth: FloatArray = lfilter([1 - keep], [1, -keep], joined, axis=-1)
    return smooth
