"""The emotion of each second, and the noise around it that has the structure of trials and seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, fixed_generator, session_generator
from clmer_streaming.sources.simulation.trials import QUADRANTS, STIMULI_PER_QUADRANT, Trial, trial_at
from clmer_streaming.types import FloatArray

SECOND_AR = 0.45  # lag-1 autocorrelation of one-second band powers (DASPS recordings, lower end)
TRIAL_AR = 0.3  # lag-1 autocorrelation of trial offsets
RISE_S = 1.0  # s, time constant with which an emotion comes and goes
STRENGTH_SD = 0.2  # ln SD of how strongly a trial moves a person
WAVER_SD = 0.3  # SD of the emotion within a trial; its mean there is about -1 or 1


@dataclass(frozen=True, eq=False)
class Emotion:
    """The latent emotion of a session, second by second; second ``k`` spans [k, k+1) since the start."""

    valence: FloatArray  # (S,) about -1 (low) to 1 (high), 0 at rest
    arousal: FloatArray  # (S,) likewise
    trials: tuple[Trial, ...]

    @property
    def centres(self) -> FloatArray:
        """Middle of each second, (S,) seconds since the session began."""
        return np.arange(self.valence.size) + 0.5


def simulate_emotion(config: SimulationConfig, trials: tuple[Trial, ...]) -> Emotion:
    """Return valence and arousal of each second of a session."""
    rng = session_generator(config, Draw.EMOTION)
    n_seconds = int(np.ceil(config.seconds))
    index = trial_at(trials, np.arange(n_seconds) + 0.5)
    keep = np.exp(-1.0 / RISE_S)
    axes = []
    for levels in ([t.valence for t in trials], [t.arousal for t in trials]):
        strengths = np.exp(rng.normal(0.0, STRENGTH_SD, len(trials)))
        target = np.append(np.asarray(levels, dtype=np.float64) * strengths, 0.0)[index]
        axes.append(lfilter([1 - keep], [1, -keep], target) + WAVER_SD * ar1(rng, (n_seconds,), SECOND_AR))
    return Emotion(valence=axes[0], arousal=axes[1], trials=trials)


def ar1(rng: np.random.Generator, shape: tuple[int, ...], coefficient: float) -> FloatArray:
    """Return stationary AR(1) noise of unit variance along the last axis."""
    white = rng.standard_normal(shape) * np.sqrt(1 - coefficient**2)
    if shape[-1]:
        white[..., 0] /= np.sqrt(1 - coefficient**2)
    noise: FloatArray = lfilter([1.0], [1.0, -coefficient], white, axis=-1)
    return noise


def structured_noise(
    rng: np.random.Generator, shape: tuple[int, ...], emotion: Emotion, trial_sd: float, second_sd: float
) -> FloatArray:
    """Return noise of shape (*shape, S): an offset per trial (kept through the rest after it) plus seconds.

    Args:
        rng: Where the numbers come from.
        shape: The leading axes; every series is independent.
        emotion: Of the session, for its seconds and trials.
        trial_sd: SD of the trial offsets.
        second_sd: SD of the seconds around them.
    """
    starts = np.asarray([trial.t_start for trial in emotion.trials])
    block = np.searchsorted(starts, emotion.centres, side="right")
    offsets = ar1(rng, (*shape, starts.size + 1), TRIAL_AR)
    return trial_sd * offsets[..., block] + second_sd * ar1(rng, (*shape, emotion.centres.size), SECOND_AR)


def stimulus_offsets(emotion: Emotion, n_measures: int, balanced: bool) -> FloatArray:
    """Return what each second's stimulus does beside its emotion, (n_measures, S), SD about 1, 0 at rest.

    A stimulus does the same to everyone. A model that lives on the offsets fails with stimuli it has not met.

    Args:
        emotion: Of the session, for its seconds and trials.
        n_measures: How many numbers a stimulus shifts.
        balanced: Within a quadrant the offsets sum to zero, so that they say nothing of emotion itself. The last
            stimulus then follows from the others; without, each is drawn on its own.
    """
    n_stimuli = len(QUADRANTS) * STIMULI_PER_QUADRANT
    table = np.stack([fixed_generator(k, Draw.STIMULUS).standard_normal(n_measures) for k in range(n_stimuli)], axis=1)
    if balanced:
        by_quadrant = table.reshape(n_measures, len(QUADRANTS), STIMULI_PER_QUADRANT)
        table = (by_quadrant - by_quadrant.mean(axis=2, keepdims=True)).reshape(n_measures, n_stimuli)
    stimuli = np.asarray([trial.stimulus for trial in emotion.trials], dtype=np.int64)
    index = trial_at(emotion.trials, emotion.centres)
    offsets = np.zeros((n_measures, emotion.centres.size))
    offsets[:, index >= 0] = table[:, stimuli[index[index >= 0]]]
    return offsets
