"""The plan of a session: trials, their emotion, their stimuli, and the markers that say so.

A marker's label is ``trial_start/<trial id>/<label>/<stimulus id>`` or ``trial_end/...`` with the same rest,
for example ``trial_start/3/HVLA/HVLA-2``. No part holds a slash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.types import FloatArray, Marker

QUADRANTS = ("LVLA", "LVHA", "HVLA", "HVHA")
"""Labels of the four quadrants; the index is 2 * valence high + arousal high."""

STIMULI_PER_QUADRANT = 4


@dataclass(frozen=True)
class Trial:
    """One stimulus shown, and the emotion it stands for."""

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
    """What a trial marker says."""

    kind: Literal["trial_start", "trial_end"]
    trial_id: int
    label: str
    stimulus_id: str


def session_seconds(n_trials: int, trial_s: float = 12.0, rest_s: float = 2.0) -> float:
    """Return the length in seconds of a session that holds exactly ``n_trials`` trials."""
    return rest_s + n_trials * (trial_s + rest_s)


def plan_trials(config: SimulationConfig) -> tuple[Trial, ...]:
    """Return the trials of a session: every four hold each quadrant once, in random order."""
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
    """Return for each time (seconds since the session began) the index of its trial, or -1 in a rest."""
    index = np.full(times.shape, -1, dtype=np.int64)
    for k, trial in enumerate(trials):
        index[(times >= trial.t_start) & (times < trial.t_end)] = k
    return index


def trial_markers(trials: tuple[Trial, ...], t0: float) -> tuple[Marker, ...]:
    """Return the markers of a session that began at ``t0`` (seconds of the LSL clock)."""
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
    """Return what a marker's label says, or None when it is no trial marker."""
    parts = label.split("/")
    if len(parts) != 4 or not parts[1].isdecimal():
        return None
    kind, number, quadrant, stimulus_id = parts
    if kind == "trial_start":
        return TrialMarker("trial_start", int(number), quadrant, stimulus_id)
    if kind == "trial_end":
        return TrialMarker("trial_end", int(number), quadrant, stimulus_id)
    return None
