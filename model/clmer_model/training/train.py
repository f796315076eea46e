"""From labelled windows, recorded or simulated, to a checkpoint: the whole recipe, read from top to bottom."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clmer_model.checkpoint import Checkpoint
from clmer_model.clmer import Clmer
from clmer_model.dims import ClmerDims
from clmer_model.labels import LABELS_VA4
from clmer_model.modalities import MODEL_MODALITIES, modality_specs
from clmer_model.predictor import choose_device
from clmer_model.presets import DEFAULT
from clmer_model.training.contrast_stage import pretrain
from clmer_model.training.curves import PICTURE_NAME, Curves, draw_curves
from clmer_model.training.evaluate import evaluate, fit_temperature, trained_subsets
from clmer_model.training.fit import FitConfig, Fitting
from clmer_model.training.normalise import fit_doors
from clmer_model.training.pretrain import PretrainConfig, Report
from clmer_model.training.ranks import n_ranks, rank
from clmer_model.training.sides import Progress, Sides, examples_key, make_sides
from clmer_model.training.simulated import PersonRecipe
from clmer_model.training.snapshot import Keeper, Snapshot, SnapshotFile
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.sources.simulation.trials import session_seconds
from clmer_streaming.sources.simulator import SimulationConfig

SPLIT_NAME, STORE_SPLIT_NAME = "unseen simulated people", "unseen people"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a model. The defaults make the shipped ``clmer-va4``."""

    n_people: int = 80  # simulated participants of all three sides of the split: 48 train, 12 choose, 20 test
    first_person: int = 1000  # number of the first participant; far from those of demonstrations
    n_trials: int = 24  # of each participant, 12 s each
    sim_preset: str = "realistic"  # effect sizes; see the simulator
    every: int = 4  # keep every fourth window of a trial, which then do not overlap
    store: str | None = None  # folder of clmer prepare, whose windows take the place of simulated people
    trained_on: str = "simulated"  # what the model says of itself
    seed: int = 1
    preset: str = "default"  # name of the network's sizes, for people
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
        """Return how each person's examples are made."""
        seconds = session_seconds(self.n_trials)
        return [
            PersonRecipe(
                SimulationConfig(seconds=seconds, seed=self.seed, preset=self.sim_preset, participant=person),
                self.preprocess,
                self.labels,
                self.every,
            )
            for person in self.people
        ]


@dataclass(frozen=True)
class Run:
    """Where a training leaves what it makes, and whom it tells."""

    out: Path  # folder of the checkpoint, the curves and, until the end, the snapshot
    cache: Path  # folder in which each person's examples are kept
    show: Report  # is told every line that goes to ``curves.jsonl``
    progress: Progress  # wraps the making of examples
    resume: bool = False  # go on where an interrupted training in ``out`` was


def train(config: TrainConfig, run: Run) -> Checkpoint:
    """Train a model, split by people, and write its checkpoint, ``curves.jsonl`` and ``curves.png``.

    Its windows are those of a store that ``clmer prepare`` made of recordings, or of simulated people. Of several
    processes each does the same on its share of every batch, and the first one's files are kept.

    Raises:
        DatasetError: The store cannot be read.
        SettingsError: A setting is out of range, or there is nothing to resume, or it began with other windows.
        DeviceError: The device is unknown or absent.
    """
    _check_device(config, run)
    if rank() == 0:
        return _train(config, run)
    with tempfile.TemporaryDirectory() as folder:
        return _train(config, dataclasses.replace(run, out=Path(folder), show=lambda line: None))


def _train(config: TrainConfig, run: Run) -> Checkpoint:
    run.out.mkdir(parents=True, exist_ok=True)
    key = examples_key(config)
    snapshots = SnapshotFile(run.out, _settings(config), key)
    start, n_lines = snapshots.read() if run.resume else (None, 0)
    sides = make_sides(config, run.cache, run.progress)
    curves = Curves(run.out, run.show, n_lines)
    if start is None:
        curves.report({"stage": "examples", **sides.n_windows()})

    def keep(snapshot: Snapshot) -> None:
        snapshots.write(snapshot, len(curves.lines))

    model = train_model(config, sides, curves.report, Keeper(start, keep)).cpu()
    checkpoint = _checkpoint(config, key, sides, model)
    (scores,) = checkpoint.scores.values()
    curves.report({"stage": "test", **scores})
    draw_curves(curves.lines, run.out / PICTURE_NAME)
    checkpoint.save(run.out)
    snapshots.remove()
    return checkpoint


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return all that decides a run but its windows: the folder of a store says nothing of what is in it."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "store"}


def _checkpoint(config: TrainConfig, key: str, sides: Sides, model: Clmer) -> Checkpoint:
    """Return the model with its scores on the test side, and with what decided it."""
    majority = int(np.bincount(sides.train.label, minlength=len(config.labels)).argmax())
    subsets = trained_subsets(model, config.fit.modality_dropout)
    split_name = SPLIT_NAME if config.store is None else STORE_SPLIT_NAME
    return Checkpoint(
        model=model,
        labels=config.labels,
        preprocess=config.preprocess,
        dims=config.dims,
        trained_on=config.trained_on,
        training=_recipe(config, key, sides),
        scores={split_name: evaluate(model, sides.test, majority, subsets)},
    )


def train_model(config: TrainConfig, sides: Sides, report: Report, keeper: Keeper | None = None) -> Clmer:
    """Return a model whose extractors were trained by contrast, then all of it with labels, then calibrated.

    Args:
        config: The recipe.
        sides: Its training side teaches, its validation side chooses the epoch and the temperature; the test side is
            not looked at.
        report: Is told every line of the log.
        keeper: From where to go on; is given what each epoch has reached.
    """
    keeper = keeper or Keeper()
    torch.manual_seed(config.seed)
    model = Clmer(modality_specs(config.preprocess), len(config.labels), config.dims)
    x, mask = sides.train.tensors()
    fit_doors(model, x, mask, config.fit.views, config.seed)
    model.to(choose_device(config.device))
    if keeper.start is None or keeper.start.stage == "pretrain":
        pretrain(model, (x, mask), config.pretrain, report, keeper)
    fitting = Fitting(model, sides.train, sides.validation, config.fit)
    if keeper.start is not None and keeper.start.stage == "fit":
        fitting.restore(keeper.start)
    while not fitting.finished:
        report(fitting.run_epoch())
        keeper.keep(fitting.snapshot())
    fitting.finish()
    subsets = trained_subsets(model, config.fit.modality_dropout)
    report({"stage": "calibrate", "temperature": fit_temperature(model, sides.validation, subsets)})
    return model


def _check_device(config: TrainConfig, run: Run) -> None:
    device = choose_device(config.device)
    if (config.pretrain.mixed_precision or config.fit.mixed_precision) and device.type != "cuda":
        raise SettingsError("a CUDA device for mixed precision", config.device, "leave it out, or choose --device cuda")
    if n_ranks() > 1 and (run.resume or device.type != "cpu"):
        found = f"{n_ranks()} processes with device {config.device}, resume {run.resume}"
        raise SettingsError("one process, to resume or to train on CUDA", found, "start clmer train without torchrun")


def _recipe(config: TrainConfig, key: str, sides: Sides) -> dict[str, Any]:
    """Return what decided the model, as plain JSON values."""
    return {
        **recipe_of(config, key),
        "people": sides.n_people(),
        "test_people": list(sides.split.test),
        "windows": sides.n_windows(),
        "processes": n_ranks(),
    }


def recipe_of(config: TrainConfig, key: str) -> dict[str, Any]:
    """Return how a model is trained, and on which data (``key`` as of ``examples_key``), as plain JSON values."""
    simulated = {
        "first_person": config.first_person,
        "trials_per_person": config.n_trials,
        "every": config.every,
        "simulator_preset": config.sim_preset,
    }
    return {
        "preset": config.preset,
        **(simulated if config.store is None else {"store": key}),
        "seed": config.seed,
        "pretrain": dataclasses.asdict(config.pretrain),
        "fit": dataclasses.asdict(config.fit),
    }
