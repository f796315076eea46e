"""Settings of a training and the recipes of the presets.

``AugmentationConfig`` belongs to both stages, ``PretrainConfig`` to the contrastive one, ``FitConfig`` to the
supervised one; ``TrainConfig`` holds everything. ``recipe`` returns that of a preset. Field names are keys in
checkpoints, artifacts and reports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clmer_model.config import DEFAULT, LABELS_VA4, MODEL_MODALITIES, ClmerDims, find_preset
from clmer_model.data.simulated import PersonRecipe
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.simulation.config import CAP_NAMES, SimulationConfig
from clmer_streaming.simulation.trials import session_seconds

if TYPE_CHECKING:
    from clmer_model.data.store import WindowStore

LogCallback = Callable[[dict[str, Any]], None]
"""Called with each line of the training log, a dictionary of plain JSON values."""


BAND_STOP = 0.08
"""5 Hz of 64, as in SeqCLR (Mohsenvand et al. 2020), for EEG at 128 Hz."""


@dataclass(frozen=True)
class AugmentationConfig:
    """Strengths of the augmentations; those of EEG follow SeqCLR (Mohsenvand et al. 2020).

    ``landmark_identity`` shifts each landmark by the same vector in all slots of a sample, in the face's RMS radius,
    neighbours on a contour alike: a face at rest can then have any shape, and only movement, or what stands out from
    shapes, counts. Depth gets the most, because one camera estimates it poorly. ``au_offset`` does the same to
    intensities, like a calibration that is somewhat off; intensities stay within the scale of 0-5.

    Further signals have the strengths of EEG. A shift is never longer than an eighth of the window, a blank stretch
    never longer than a quarter: series of a low rate have few samples.

    Gaze without calibration is off by the person more than by the moment (Chen and Shi 2020, who found more squared
    bias between people than variance within), by several degrees in all: 9.1 on average with OpenFace (Baltrusaitis
    et al. 2018). ``gaze_offset`` is 3 degrees, ``gaze_jitter`` 1, so that a look elsewhere stays one. The strengths of
    further slots have no source; a quarter and a tenth of a value's SD mostly leave windows in their order.

    Example::

        milder = dataclasses.replace(AugmentationConfig(), eeg_gain=(0.9, 1.1), eeg_band_stop=0.0)
    """

    eeg_gain: tuple[float, float] = (0.5, 2.0)  # of each channel, log-uniform
    eeg_jitter: float = 0.2  # most noise added, in the channel's SD
    eeg_shift: int = 32  # samples, most by which a window is shifted either way; what enters is zero
    eeg_blank: int = 64  # samples, longest stretch set to zero in all channels
    eeg_band_stop: float = BAND_STOP  # of the range up to half the rate: widest band taken out; 0: none
    channel_dropout: float = 0.15  # probability that a channel is masked
    fewer_channels: float = 0.0  # share of windows that keep a random set of their EEG channels, referenced anew
    least_channels: int = 4  # of such a set
    slot_dropout: float = 0.1  # probability that a slot of a face series is masked
    landmark_scale: tuple[float, float] = (0.97, 1.03)  # of the whole face
    landmark_jitter: float = 0.01  # SD of noise, in the face's RMS radius
    landmark_identity: tuple[float, float, float] = (0.05, 0.05, 0.1)  # SD of a change of shape, x, y, z
    au_scale: tuple[float, float] = (0.8, 1.25)  # of all intensities of a window
    au_jitter: float = 0.15  # SD of noise on an intensity that is not zero, points
    au_offset: float = 0.5  # points, SD of what each unit's neutral is off throughout a window
    gaze_offset: float = 0.05  # rad, SD of what either angle is off throughout a window
    gaze_jitter: float = 0.02  # rad, SD of noise
    slot_offset: float = 0.25  # SD of an offset throughout a window, in the value's SD; of further series in slots
    slot_jitter: float = 0.1  # SD of noise on them, in the value's SD

    def without_time_changes(self) -> AugmentationConfig:
        """Return the strengths without those augmentations that move samples in time."""
        return dataclasses.replace(self, eeg_shift=0, eeg_band_stop=0.0)


TEMPERATURE = 0.2  # tau
"""tau of the sample loss (paper, Eq. 1), which gives no value; this one is of the code that its authors published."""
STEPS_AHEAD = 2  # M, the tokens that a summary predicts
"""M of the temporal loss (paper, Eq. 3): the number of tokens that a summary predicts."""


Negatives = Literal["batch", "time"]
"""The negatives of a token to come: the same step of other samples, or other steps of the same sample."""


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the contrastive stage.

    The stage is off in preset ``default``, because it was nowhere shown to help. Of forty simulated people
    (``realistic``, 29 others to train on, one run each; standard error 0.012 over people) 0.366 were told with two
    epochs of it and 0.367 without; nor did the validation set distinguish ``lambda_temporal`` 0.3 or 1 from 0
    (``benchmarks/RESULTS.md``).

    Raises:
        SettingsError: The weights of the losses are negative or both 0, or ``sample_of`` needs the temporal loss.
    """

    epochs: int = 0  # of each modality
    batch: int = 128  # samples; each has its two views, and the others' views as negatives
    learning_rate: float = 1e-3
    weight_decay: float = 3e-4  # paper
    temperature: float = TEMPERATURE
    seed: int = 1  # of augmentations, batches, projection head and summary
    views: AugmentationConfig = field(default_factory=AugmentationConfig)  # of either view of a window
    lambda_sample: float = 1.0  # weight of the sample loss (Eq. 4)
    lambda_temporal: float = 0.0  # weight of the temporal loss, both directions together; 0 leaves it out
    steps_ahead: int = STEPS_AHEAD  # tokens that a summary predicts; fewer where a modality has fewer
    negatives: Negatives | None = None  # of the temporal loss; None: slots of a face over time, all else by batch
    sample_of: Literal["tokens", "context"] = "tokens"  # what the sample loss compares: mean token, or s_t
    mixed_precision: bool = False  # bfloat16 where it is safe; on CUDA alone

    def __post_init__(self) -> None:
        if min(self.lambda_sample, self.lambda_temporal) < 0 or self.lambda_sample + self.lambda_temporal == 0:
            raise SettingsError(
                "lambda_sample and lambda_temporal of 0 or more, not both 0",
                f"{self.lambda_sample:g} and {self.lambda_temporal:g}",
                "leave the contrastive stage out with --pretrain-epochs 0",
            )
        if self.sample_of == "context" and self.lambda_temporal == 0:
            raise SettingsError(
                "a temporal loss, whose summary the sample loss compares",
                "lambda_temporal 0",
                "raise --lambda-temporal, or choose the default preset",
            )


SUPERVISED_AUGMENTATION = AugmentationConfig(
    eeg_gain=(0.9, 1.1), eeg_jitter=0.1, eeg_shift=16, eeg_blank=16, eeg_band_stop=0.0, channel_dropout=0.1
)
"""Strengths for training with labels. The power of channels and bands carries the emotion: strong gains would hide it
(measured), and so would a band that is removed.
"""


MANY_CHANNELS = 16
FEWER_CHANNELS = 0.5
"""From so many EEG channels on, this share of the windows is shown as a cap of fewer electrodes would measure them.

So one model serves caps that share some of its electrodes.
"""


FEW_WINDOWS = 2000
FEW_STEPS, LEAST_STEPS, USUAL_EPOCHS = 800, 200, 6
"""Steps of the supervised stage with fewer windows, and with more; and epochs that many windows need at least.

With windows of 4 people and 3 states a network of this kind reached .603 of the trials at 42 steps, .834 at 200 and
.877 at 800, and no over-training was seen. Six epochs of simulated people are enough for the validation loss to stop
falling.
"""


def fit_epochs(n_windows: int, batch: int) -> int:
    """Return the epochs of the supervised stage for a data set of so many windows.

    Args:
        n_windows: All that there are to train on, those that a split takes out included.
        batch: Windows of a batch.
    """
    steps = FEW_STEPS if n_windows < FEW_WINDOWS else LEAST_STEPS
    return max(USUAL_EPOCHS, math.ceil(steps / max(1, math.ceil(n_windows / batch))))


@dataclass(frozen=True)
class FitConfig:
    """Settings of the supervised stage; learning rates were chosen together with EEG's bands, see ``config.DEFAULT``.

    Raises:
        SettingsError: There is no epoch to train.
    """

    epochs: int = USUAL_EPOCHS  # of simulated people; for other data see fit_epochs
    batch: int = 64
    learning_rate: float = 1e-3  # of fusion and classifier
    encoder_learning_rate: float = 1e-3  # of the pre-trained encoders
    weight_decay: float = 0.05  # of AdamW; without it, AdamW is Adam
    warm_up: float = 0.1  # share of all steps in which the learning rate rises; of schedule "cosine"
    label_smoothing: float = 0.1  # keeps probabilities modest
    max_gradient: float = 1.0  # norm
    seed: int = 1  # of batches, augmentations and dropout
    modality_dropout: float = 0.5  # share of samples from which whole modalities are taken
    views: AugmentationConfig | None = SUPERVISED_AUGMENTATION  # augmentation; None: windows as they are
    schedule: Literal["cosine", "plateau"] = "cosine"  # of the learning rate
    plateau_patience: int = 20  # epochs without a lower validation loss until the rate falls; of schedule "plateau"
    plateau_factor: float = 0.6  # by which it falls
    stop_after: int | None = None  # epochs without a lower validation loss that end the training; None: all epochs
    freeze_encoders: bool = False  # keep the pre-trained encoders as they are
    mixed_precision: bool = False  # bfloat16 where it is safe; on CUDA alone

    def __post_init__(self) -> None:
        if self.epochs < 1 or (self.stop_after is not None and self.stop_after < 1):
            found = f"{self.epochs} epochs, stopped after {self.stop_after}"
            raise SettingsError("an epoch or more to train, and to stop after", found, "raise --epochs or --stop-after")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a model. ``recipe`` returns the settings that make the shipped ``clmer-va4``.

    Example::

        config = recipe("default")
        config = dataclasses.replace(config, store="build/store", labels=("LV", "HV"), trained_on="own study")
    """

    n_people: int = 80  # simulated participants: 48 in the training set, 12 in validation, 20 in test
    first_person: int = 1000  # number of the first participant; far from those of demonstrations
    n_trials: int = 24  # of each participant, 12 s each
    sim_preset: str = "realistic"  # effect sizes; see the simulator
    caps: tuple[str, ...] = ("epoc",)  # that simulated people wear, in turn
    every: int = 4  # keep every fourth window of a trial, which then do not overlap
    store: str | None = None  # folder of clmer prepare; its windows replace simulated people
    unlabelled: str | None = None  # folder of recordings whose windows the contrastive stage sees, too
    trained_on: str = "simulated"  # kept in the model's metadata
    seed: int = 1
    preset: str = "default"  # name of the network's sizes, for display
    dims: ClmerDims = DEFAULT.dims
    preprocess: PreprocessConfig = field(default_factory=lambda: PreprocessConfig(modalities=MODEL_MODALITIES))
    labels: tuple[str, ...] = LABELS_VA4
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    device: str = "cpu"  # "auto", "cpu", "cuda" or "cuda:N"

    @property
    def people(self) -> range:
        """Numbers of the simulated participants."""
        return range(self.first_person, self.first_person + self.n_people)

    def recipes(self) -> list[PersonRecipe]:
        """Return how the examples of each simulated person are made."""
        seconds = session_seconds(self.n_trials)
        return [
            PersonRecipe(
                SimulationConfig(
                    seconds=seconds,
                    seed=self.seed,
                    preset=self.sim_preset,
                    participant=person,
                    cap=self.caps[person % len(self.caps)],
                ),
                self.preprocess,
                self.labels,
                self.every,
            )
            for person in self.people
        ]


def recipe(preset: str = "default", width: int | None = None) -> TrainConfig:
    """Return the training settings of a preset; the default makes the shipped ``clmer-va4``.

    Args:
        preset: ``default`` or ``paper``.
        width: Another token width L.

    Raises:
        SettingsError: There is no such preset.
        ArtifactError: The preset's number of heads does not divide the width.
    """
    chosen = find_preset(preset).with_width(width)
    paper = chosen.name == "paper"
    config = TrainConfig(
        preset=chosen.name,
        dims=chosen.dims,
        preprocess=chosen.preprocess,
        pretrain=PAPER_PRETRAIN if paper else PretrainConfig(),
        fit=PAPER_FIT if paper else FitConfig(),
        caps=("epoc",) if paper else CAP_NAMES,
    )
    return config if paper else _with_fewer_channels(config)


def _with_fewer_channels(config: TrainConfig) -> TrainConfig:
    """Return the settings with windows of fewer channels in the supervised stage, if there are many channels."""
    many = "eeg" in config.preprocess.modalities and len(config.preprocess.signal.ch_names) >= MANY_CHANNELS
    if config.fit.views is None:
        return config
    views = dataclasses.replace(config.fit.views, fewer_channels=FEWER_CHANNELS if many else 0.0)
    return dataclasses.replace(config, fit=dataclasses.replace(config.fit, views=views))


def for_store(config: TrainConfig, folder: Path, store: WindowStore) -> TrainConfig:
    """Return the settings for windows of a store in place of simulated people.

    In preset ``default`` the number of epochs follows the number of windows.

    Args:
        config: The recipe of a preset.
        folder: Of the store.
        store: Its windows.
    """
    default = config.preset == DEFAULT.name
    epochs = fit_epochs(len(store.examples), config.fit.batch) if default else config.fit.epochs
    found = dataclasses.replace(
        config,
        store=str(folder),
        trained_on=store.trained_on,
        preprocess=store.preprocess,
        labels=store.labels,
        fit=dataclasses.replace(config.fit, epochs=epochs),
    )
    return _with_fewer_channels(found) if default else found


def recipe_of(config: TrainConfig, key: str) -> dict[str, Any]:
    """Return how a model is trained, and on which data, as plain JSON values.

    Args:
        config: The settings.
        key: Identifies the windows, as ``examples_key`` returns it.
    """
    simulated = {
        "first_person": config.first_person,
        "trials_per_person": config.n_trials,
        "every": config.every,
        "simulator_preset": config.sim_preset,
        "caps": list(config.caps),
    }
    return {
        "preset": config.preset,
        **(simulated if config.store is None else {"store": key}),
        "seed": config.seed,
        "pretrain": dataclasses.asdict(config.pretrain),
        "fit": dataclasses.asdict(config.fit),
    }


PAPER_AUGMENTATION = AugmentationConfig(
    eeg_shift=0,
    eeg_blank=0,
    eeg_band_stop=0.0,
    channel_dropout=0.0,
    slot_dropout=0.0,
    landmark_identity=(0.0, 0.0, 0.0),
    au_offset=0.0,
    gaze_offset=0.0,
    slot_offset=0.0,
)
"""The augmentations that the paper names, scaling and jittering (section III-C), and nothing else.

The paper gives no strengths; these are ours, legal for each modality. Those that its authors published are not: a
factor for each time step with a mean of 2 is noise, and their strong augmentation copies one channel over all others.
"""


PAPER_PRETRAIN = PretrainConfig(
    epochs=500,
    batch=64,
    learning_rate=3e-4,
    weight_decay=3e-4,
    views=PAPER_AUGMENTATION,
    lambda_sample=0.7,
    lambda_temporal=1.0,
    sample_of="context",
)
"""The paper's contrastive stage (section IV). The weights of its losses are those that its authors published."""


PAPER_FIT = FitConfig(
    epochs=300,
    batch=64,
    learning_rate=1e-3,
    weight_decay=0.0,
    label_smoothing=0.0,
    max_gradient=0.8,
    modality_dropout=0.0,
    views=None,
    schedule="plateau",
    plateau_patience=20,
    plateau_factor=0.6,
    freeze_encoders=True,
)
"""The paper's supervised stage: Adam, learning rate lowered on a plateau of 20 epochs. Factor, clipping and frozen
encoders are those that its authors published.
"""
