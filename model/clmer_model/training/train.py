"""From simulated people to a checkpoint: the whole recipe, read from top to bottom."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
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
from clmer_model.training.evaluate import evaluate, fit_temperature
from clmer_model.training.examples import Examples, concatenate
from clmer_model.training.fit import FitConfig, fit
from clmer_model.training.normalise import fit_doors
from clmer_model.training.pretrain import PretrainConfig, Report, pretrain_encoder
from clmer_model.training.simulated import PersonRecipe, examples_of_people
from clmer_model.training.splits import PeopleSplit, split_people
from clmer_model.training.store import open_store
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.sources.simulation.trials import session_seconds
from clmer_streaming.sources.simulator import SimulationConfig

METRICS_NAME = "metrics.jsonl"
SPLIT_NAME, STORE_SPLIT_NAME = "unseen simulated people", "unseen people"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a model. The defaults make the shipped ``clmer-va4``."""

    n_people: int = 160  # simulated participants of all three sides of the split
    first_person: int = 1000  # number of the first participant; far from those of demonstrations
    n_trials: int = 24  # of each participant, 12 s each
    sim_preset: str = "realistic"  # effect sizes; see the simulator
    every: int = 4  # keep every fourth window of a trial, which then do not overlap
    store: str | None = None  # folder of clmer prepare, whose windows take the place of simulated people
    trained_on: str = "simulated"  # what the model says of itself
    seed: int = 1
    dims: ClmerDims = field(default_factory=ClmerDims)
    preprocess: PreprocessConfig = field(default_factory=lambda: PreprocessConfig(modalities=MODEL_MODALITIES))
    labels: tuple[str, ...] = LABELS_VA4
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    fit: FitConfig = field(default_factory=FitConfig)

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


Progress = Callable[[Iterable[Examples], int], Iterable[Examples]]
"""Wraps an iterable of known length, to show how far it is."""


@dataclass(frozen=True)
class Sides:
    """The examples of the three sides of a split by people."""

    split: PeopleSplit
    train: Examples
    validation: Examples
    test: Examples

    def n_windows(self) -> dict[str, int]:
        """Return the number of windows of each side."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def n_people(self) -> dict[str, int]:
        """Return the number of people of each side."""
        return {name: len(people) for name, people in dataclasses.asdict(self.split).items()}


def train(config: TrainConfig, out: Path, cache: Path, show: Report, progress: Progress) -> Checkpoint:
    """Train a model on simulated people and write its checkpoint.

    Args:
        config: Settings.
        out: Folder of the checkpoint; ``metrics.jsonl`` is written there too.
        cache: Folder in which each person's examples are kept.
        show: Is told every line that goes to ``metrics.jsonl``.
        progress: Wraps the making of examples.

    Raises:
        SettingsError: A setting is out of range.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / METRICS_NAME).open("w", encoding="utf-8") as log:

        def report(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")
            log.flush()
            show(line)

        sides = make_sides(config, cache, progress)
        report({"stage": "examples", **sides.n_windows()})
        model = train_model(config, sides, report)
        majority = int(np.bincount(sides.train.label, minlength=len(config.labels)).argmax())
        split_name = SPLIT_NAME if config.store is None else STORE_SPLIT_NAME
        scores = {split_name: evaluate(model, sides.test, majority)}
        report({"stage": "test", **scores[split_name]})
    checkpoint = Checkpoint(
        model=model,
        labels=config.labels,
        preprocess=config.preprocess,
        dims=config.dims,
        trained_on=config.trained_on,
        training=_recipe(config, sides),
        scores=scores,
    )
    checkpoint.save(out)
    return checkpoint


def make_sides(config: TrainConfig, cache: Path, progress: Progress) -> Sides:
    """Return everybody's examples, split by people."""
    if config.store is None:
        recipes, people = config.recipes(), config.people
        everybody = concatenate(list(progress(examples_of_people(recipes, cache), len(recipes))))
    else:
        store = open_store(Path(config.store))
        everybody, people = store.examples, range(len(store.people))
    split = split_people(people, config.seed)
    return Sides(
        split=split,
        train=everybody.of_people(split.train),
        validation=everybody.of_people(split.validation),
        test=everybody.of_people(split.test),
    )


def train_model(config: TrainConfig, sides: Sides, report: Report) -> Clmer:
    """Return a model whose extractors were trained by contrast, then all of it with labels, then calibrated."""
    torch.manual_seed(config.seed)
    model = Clmer(modality_specs(config.preprocess), len(config.labels), config.dims)
    x, mask = sides.train.tensors()
    fit_doors(model, x, mask, config.fit.views, config.seed)
    for encoder in model.modality_encoders():
        pretrain_encoder(encoder, x[encoder.name], mask[encoder.name], config.pretrain, report)
    fit(model, sides.train, sides.validation, config.fit, report)
    report({"stage": "calibrate", "temperature": fit_temperature(model, sides.validation)})
    return model


def _recipe(config: TrainConfig, sides: Sides) -> dict[str, Any]:
    """Return what decided the model, as plain JSON values."""
    simulated = {
        "first_person": config.first_person,
        "trials_per_person": config.n_trials,
        "every": config.every,
        "simulator_preset": config.sim_preset,
    }
    return {
        **(simulated if config.store is None else {"store": open_store(Path(config.store)).key}),
        "people": sides.n_people(),
        "test_people": list(sides.split.test),
        "windows": sides.n_windows(),
        "seed": config.seed,
        "pretrain": dataclasses.asdict(config.pretrain),
        "fit": dataclasses.asdict(config.fit),
    }
