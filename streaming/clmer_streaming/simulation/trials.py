"""The trials of a session, their markers, and the latent emotion and stimulus effects of each second.

A marker's label is ``trial_start/<trial id>/<label>/<stimulus id>`` or ``trial_end/...`` with the same parts, for
example ``trial_start/3/HVLA/HVLA-2``. No part contains a slash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from clmer_streaming.simulation.config import Draw, SimulationConfig, fixed_generator, session_generator
from clmer_streaming.types import FloatArray, Marker

QUADRANTS = ("LVLA", "LVHA", "HVLA", "HVHA")
"""Labels of the four quadrants; the index is 2 * valence high + arousal high."""

STIMULI_PER_QUADRANT = 4


@dataclass(frozen=True)
class Trial:
    """One presentation of a stimulus, and its emotion."""

    id: int  # counts from 1
    label_index: int  # into QUADRANTS
    stimulus: int  # 0-15: STIMULI_PER_QUADRANT for each quadrant in turn
    t_start: float  # seconds since the session began
    t_end: float  # seconds since the session began

    @property
    def label(self) -> str:
        """The quadrant's name."""
        return QUADRANTS[self.label_index]

    @property
    def valence(self) -> int:
        """-1 for low, 1 for high valence."""
        return 1 if self.label_index & 2 else -1

    @property
    def arousal(self) -> int:
        """-1 for low, 1 for high arousal."""
        return 1 if self.label_index & 1 else -1

    @property
    def stimulus_id(self) -> str:
        """The stimulus, for example ``HVLA-2``."""
        return f"{self.label}-{self.stimulus % STIMULI_PER_QUADRANT + 1}"


@dataclass(frozen=True)
class TrialMarker:
    """The content of a trial marker."""

    kind: Literal["trial_start", "trial_end"]
    trial_id: int
    label: str
    stimulus_id: str


def session_seconds(n_trials: int, trial_s: float = 12.0, rest_s: float = 2.0) -> float:
    """Return the length in seconds of a session with exactly ``n_trials`` trials."""
    return rest_s + n_trials * (trial_s + rest_s)


def plan_trials(config: SimulationConfig) -> tuple[Trial, ...]:
    """Return the trials of a session: each block of four has every quadrant once, in random order."""
    rng = session_generator(config, Draw.PLAN)
    cycle_s = config.trial_s + config.rest_s
    n_trials = int((config.seconds - config.rest_s) / cycle_s + 1e-9)
    n_blocks = -(-n_trials // len(QUADRANTS))
    quadrants = np.concatenate([rng.permutation(len(QUADRANTS)) for _ in range(n_blocks)] or [np.empty(0, dtype=int)])
    orders = np.stack([rng.permutation(STIMULI_PER_QUADRANT) for _ in QUADRANTS])
    trials = []
    for k, quadrant in enumerate(quadrants[:n_trials].tolist()):
        shown = orders[quadrant, (k // len(QUADRANTS)) % STIMULI_PER_QUADRANT]
        start = config.rest_s + k * cycle_s
        stimulus = quadrant * STIMULI_PER_QUADRANT + int(shown)
        trials.append(Trial(k + 1, quadrant, stimulus, start, start + config.trial_s))
    return tuple(trials)


def trial_at(trials: tuple[Trial, ...], times: FloatArray) -> npt.NDArray[np.int64]:
    """Return for each time (n,), in seconds since the session began, the index of its trial, or -1 in a rest."""
    index = np.full(times.shape, -1, dtype=np.int64)
    for k, trial in enumerate(trials):
        index[(times >= trial.t_start) & (times < trial.t_end)] = k
    return index


def trial_markers(trials: tuple[Trial, ...], t0: float) -> tuple[Marker, ...]:
    """Return the markers of a session that began at ``t0`` seconds of the LSL clock."""
    edges = [(kind, trial) for trial in trials for kind in ("trial_start", "trial_end")]
    return tuple(
        Marker(
            t=t0 + (trial.t_start if kind == "trial_start" else trial.t_end),
            id=str(number),
            label=f"{kind}/{trial.id}/{trial.label}/{trial.stimulus_id}",
        )
        for number, (kind, trial) in enumerate(edges, start=1)
    )


def parse_trial_marker(label: str) -> TrialMarker | None:
    """Parse the label of a marker; return None if it is not a trial marker."""
    parts = label.split("/")
    if len(parts) != 4 or not parts[1].isdecimal():
        return None
    kind, number, quadrant, stimulus_id = parts
    if kind == "trial_start":
        return TrialMarker("trial_start", int(number), quadrant, stimulus_id)
    if kind == "trial_end":
        return TrialMarker("trial_end", int(number), quadrant, stimulus_id)
    return None


SECOND_AR = 0.45  # lag-1 autocorrelation of one-second band powers (DASPS recordings, lower end)
TRIAL_AR = 0.3  # lag-1 autocorrelation of trial offsets
RISE_S = 1.0  # s, time constant of an emotion
STRENGTH_SD = 0.2  # ln SD of the strength of a trial's emotion
WAVER_SD = 0.3  # SD of the emotion within a trial, whose mean is about -1 or 1


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
    """Return the latent valence and arousal of each second of a session."""
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
    r"""Return noise (\*shape, S): an offset for each trial, kept through the rest after it, plus noise of each second.

    Args:
        rng: Random generator.
        shape: Leading axes; every series is independent.
        emotion: Emotion of the session, for its seconds and trials.
        trial_sd: SD of the trial offsets.
        second_sd: SD of the seconds around them.
    """
    starts = np.asarray([trial.t_start for trial in emotion.trials])
    block = np.searchsorted(starts, emotion.centres, side="right")
    offsets = ar1(rng, (*shape, starts.size + 1), TRIAL_AR)
    return trial_sd * offsets[..., block] + second_sd * ar1(rng, (*shape, emotion.centres.size), SECOND_AR)


def stimulus_offsets(emotion: Emotion, n_measures: int, balanced: bool) -> FloatArray:
    """Return the effects of each second's stimulus beside its emotion, (n_measures, S), SD about 1, 0 at rest.

    A stimulus has the same effects on everyone. A model that relies on them fails with unseen stimuli.

    Args:
        emotion: Emotion of the session, for its seconds and trials.
        n_measures: Number of measures that a stimulus shifts.
        balanced: Make the effects sum to zero within a quadrant, so that they carry no information on emotion itself.
            Otherwise those of each stimulus are drawn independently.
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
