"""The configuration of a simulated session: settings, presets of effect sizes, and random number generators."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from clmer_streaming.errors import SettingsError

SIMULATOR_ID = "clmer-simulator-2"
"""Id of this simulator; it changes with any change of the numbers that it makes."""


@dataclass(frozen=True)
class Preset:
    """Effect sizes of emotion, and disturbances of the recording.

    Effect sizes are Cohen's d: high minus low, in within-subject standard deviations of one second's log
    band power (EEG) or of one second's expressive drive (face). Each person's d lies uniformly in the range.
    """

    eeg_d: tuple[float, float]
    au_d: tuple[float, float]
    stimulus_sd: float  # SD of the effect of a stimulus beside its emotion, in within-subject SD
    poker_share: float  # share of people with a poker face
    asymmetry_flip: float  # share of people with the opposite frontal alpha asymmetry
    most_talk: float  # share of the time in which the most talkative people speak
    misreading: float  # factor on the face extractor's calibration errors and cross-talk; 1: usual
    losses_per_min: float  # short runs of lost EEG samples
    fills_per_min: float  # short runs of samples that the headset filled in (Interpolate = 1)
    pops_per_min: float  # electrode pops
    face_losses_per_min: float  # stretches without a face
    stimuli_balanced: bool = True  # stimulus effects sum to zero within a quadrant


_REALISTIC = Preset(
    eeg_d=(0.15, 0.25),
    au_d=(0.4, 0.8),
    stimulus_sd=0.2,
    poker_share=0.25,
    asymmetry_flip=0.25,
    most_talk=0.2,
    misreading=1.0,
    losses_per_min=1.0,
    fills_per_min=2.0,
    pops_per_min=0.5,
    face_losses_per_min=1.0,
)

_NULL = dataclasses.replace(_REALISTIC, eeg_d=(0.0, 0.0), au_d=(0.0, 0.0), stimulus_sd=0.0, asymmetry_flip=0.0)

PRESETS: dict[str, Preset] = {
    "realistic": _REALISTIC,
    "easy": Preset(
        eeg_d=(1.0, 1.0),
        au_d=(1.0, 1.0),
        stimulus_sd=0.0,
        poker_share=0.0,
        asymmetry_flip=0.0,
        most_talk=0.0,
        misreading=0.0,
        losses_per_min=0.0,
        fills_per_min=0.0,
        pops_per_min=0.0,
        face_losses_per_min=0.0,
    ),
    "null": _NULL,
    "null-stimulus": dataclasses.replace(_NULL, stimulus_sd=1.0, stimuli_balanced=False),
}
"""``realistic``: effects of the size that large studies find. ``easy``: large effects, for smoke tests. ``null``: no
effects, so that a sound evaluation ends at chance. ``null-stimulus``: strong effects of stimuli and none of emotion, so
that only an evaluation on unseen stimuli ends at chance."""


CAP_NAMES = ("epoc", "cap36")


@dataclass(frozen=True)
class SimulationConfig:
    """The settings of one session of one person.

    Example::

        session = simulate(SimulationConfig(seconds=60.0, preset="easy"))

    Raises:
        SettingsError: A value is out of range.
    """

    seconds: float = 60.0  # s, length of the recording
    seed: int = 7  # of the session: order of trials and noise
    preset: str = "realistic"  # a name in PRESETS
    participant: int = 0  # the same number is the same person in every session
    cap: str = "epoc"  # what the person wears: "epoc" (14 electrodes) or "cap36"
    trial_s: float = 12.0  # s, length of a trial
    rest_s: float = 2.0  # s of rest before the first trial and after each
    sfreq: float = 128.0  # Hz, nominal rate of the EEG: a whole, even number
    jitter_s: float = 0.0004  # s, mean of the one-sided delay of an EEG stamp
    drift_ppm: float | None = None  # ppm, drift of the headset's clock; None: drawn, 20 to 50 in either direction

    def __post_init__(self) -> None:
        _require(
            self.preset in PRESETS, f"a preset: {', '.join(PRESETS)}", repr(self.preset), "name one of these presets"
        )
        _require(self.cap in CAP_NAMES, f"a cap: {', '.join(CAP_NAMES)}", repr(self.cap), "name one of these caps")
        for name in ("seconds", "trial_s"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 1, f"{name} of at least 1 s", repr(value), f"raise {name}")
        for name in ("seed", "participant", "rest_s", "jitter_s"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"{name} not below 0", repr(value), f"raise {name}")
        even = self.sfreq > 0 and self.sfreq % 2 == 0
        _require(even, "an EEG rate of a whole, even number of Hz", repr(self.sfreq), "use 128 or 256")

    @property
    def effects(self) -> Preset:
        """The preset's effect sizes and disturbances."""
        return PRESETS[self.preset]


class Draw(IntEnum):
    """The parts of a simulation, each with a generator of its own, so that no part changes the numbers of another."""

    PERSON = 1
    PLAN = 2
    EMOTION = 3
    BLINKS = 4
    EXPRESSION = 5
    FACE = 6
    BRAIN = 7
    ARTEFACTS = 8
    CLOCK = 9
    AMPLIFIER = 10
    STIMULUS = 11
    SITES = 12


def session_generator(config: SimulationConfig, draw: Draw) -> np.random.Generator:
    """Return the random generator of one part of a session."""
    return np.random.default_rng(np.random.SeedSequence([config.participant, config.seed, int(draw)]))


def fixed_generator(number: int, draw: Draw) -> np.random.Generator:
    """Return the random generator of what is the same in every session: a person, or a stimulus."""
    return np.random.default_rng(np.random.SeedSequence([number, int(draw)]))


def _require(holds: bool, expected: str, found: str, mend: str) -> None:
    if not holds:
        raise SettingsError(expected=expected, found=found, mend=mend)
