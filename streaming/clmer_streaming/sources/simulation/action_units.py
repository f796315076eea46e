"""What the face shows: expressions driven by the emotion of each second, above a threshold, and speech."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.sources.simulation.blinks import Blinks, closure
from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.emotion import Emotion, ar1, stimulus_offsets, structured_noise
from clmer_streaming.sources.simulation.expressions import MAX_INTENSITY
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.sources.simulation.repertoire import (
    DRIVES,
    IDLE_GAINS,
    SPEECH_CLOSED,
    SPEECH_OPEN,
    choose,
    gain_row,
)
from clmer_streaming.types import BoolArray, FloatArray

TRIAL_SD, SECOND_SD = 0.55, 0.83  # of the noise of a drive; together 1
GAIN = 1.5  # points of intensity per SD of drive above the threshold
SMOOTHING_S = 0.15  # s, time constant with which muscles follow
SYLLABLE_HZ = 4.0  # Hz, at which speech opens and closes the mouth
SPEECH_AR = 0.7  # lag-1 autocorrelation of whether a person speaks, in seconds
PRESENT_FROM, ABSENT_BELOW = 1.0, 0.7  # points; presence has a hysteresis, and needs two frames to begin

_OWN_SHARE = 0.4  # share of a driven unit's noise (variance) that is its own


def simulate_action_units(
    config: SimulationConfig, person: Participant, emotion: Emotion, blinks: Blinks, times: FloatArray
) -> FloatArray:
    """Return the intensities (17, n), 0-5, at increasing, even ``times`` (n,) seconds since the session began."""
    rng = session_generator(config, Draw.EXPRESSION)
    shared = structured_noise(rng, (len(DRIVES),), emotion, TRIAL_SD, SECOND_SD)
    own = structured_noise(rng, (len(AU_NAMES),), emotion, TRIAL_SD, SECOND_SD)
    effect = emotional_drives(config, person, emotion)
    gains = _gains_by_second(rng, person, emotion)
    by_second = np.maximum(gain_row(IDLE_GAINS)[:, None] * (own - person.threshold), 0.0)
    for drive, gain in enumerate(gains):
        noise = np.sqrt(1 - _OWN_SHARE) * shared[drive] + np.sqrt(_OWN_SHARE) * own
        by_second = np.maximum(by_second, gain * (noise + effect[drive] - person.threshold))
    moved = _follow(by_second, emotion.centres, times) * (GAIN * person.expressivity)
    moved = np.maximum(moved, _speech(rng, person, emotion, times))
    lids = AU_NAMES.index("AU45")
    moved[lids] = np.maximum(moved[lids], MAX_INTENSITY * closure(blinks, times))
    return np.clip(moved, 0.0, MAX_INTENSITY)


def emotional_drives(config: SimulationConfig, person: Participant, emotion: Emotion) -> FloatArray:
    """Return what emotion and stimulus add to the drives of each second, (3, S), in the order of DRIVES."""
    felt = np.stack([emotion.valence, -emotion.valence, emotion.arousal])
    offsets = stimulus_offsets(emotion, len(DRIVES), config.effects.stimuli_balanced)
    drives: FloatArray = 0.5 * person.au_d * felt + config.effects.stimulus_sd * offsets
    return drives


def _gains_by_second(rng: np.random.Generator, person: Participant, emotion: Emotion) -> FloatArray:
    """Return what each drive moves in each second, (3, 17, S): one expression through a trial and the rest after."""
    starts = np.asarray([trial.t_start for trial in emotion.trials])
    block = np.searchsorted(starts, emotion.centres, side="right")
    return np.stack([choose(rng, person.habits, drive, starts.size + 1)[:, block] for drive in DRIVES])


def _speech(rng: np.random.Generator, person: Participant, emotion: Emotion, times: FloatArray) -> FloatArray:
    """Return the intensities of speech (17, n): a mouth that opens and closes in some seconds, whatever is felt."""
    speaks = ar1(rng, emotion.centres.shape, SPEECH_AR) < ndtri(person.talkativeness)
    loudness = np.interp(times, emotion.centres, speaks.astype(np.float64))
    hurry = 1.0 + 0.3 * ar1(rng, emotion.centres.shape, SPEECH_AR)
    phase = 2 * np.pi * SYLLABLE_HZ * np.cumsum(np.interp(times, emotion.centres, hurry)) * _step_s(times)
    opened = 0.5 + 0.5 * np.sin(phase)
    by_unit = gain_row(SPEECH_OPEN)[:, None] * opened + gain_row(SPEECH_CLOSED)[:, None] * (1 - opened)
    spoken: FloatArray = by_unit * loudness
    return spoken


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
    keep = np.exp(-_step_s(times) / SMOOTHING_S) if times.size > 1 else 0.0
    smooth: FloatArray = lfilter([1 - keep], [1, -keep], joined, axis=-1)
    return smooth


def _step_s(times: FloatArray) -> float:
    return float(np.mean(np.diff(times))) if times.size > 1 else 0.0
