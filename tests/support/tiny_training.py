"""Trainings so small that they take a second: few people, few epochs, small layers."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from clmer_model.config import ModalitySpec
from clmer_model.data.examples import Examples
from clmer_model.network.encoder import ModalityEncoder
from clmer_model.training.config import LogCallback, PretrainConfig, TrainConfig, recipe
from clmer_model.training.contrastive import ContrastiveStage
from clmer_model.training.train import Run
from clmer_server.commands.train import add_arguments, config_from
from tests.support.model_windows import SPECS, random_input

T = TypeVar("T")


def tiny(preset: str, **changes: Any) -> TrainConfig:
    """Return a preset's recipe for a few people and one or two epochs, with both losses and small layers."""
    usual = recipe(preset)
    sizes = dataclasses.replace(usual.dims, conv_widths=(4, 8, 16), cross_layers=1, self_layers=1)
    return dataclasses.replace(
        usual,
        n_people=5,
        n_trials=2,
        sim_preset="easy",
        dims=sizes,
        pretrain=dataclasses.replace(usual.pretrain, epochs=1, batch=16, lambda_sample=0.7, lambda_temporal=1.0),
        fit=dataclasses.replace(usual.fit, epochs=3, batch=16, **changes),
    )


def unwatched(made: Iterable[T], total: int = 0) -> Iterable[T]:
    """Return what is made as it is: progress that nobody looks at."""
    return made


def run_in(out: Path, cache: Path, show: Any = lambda line: None, resume: bool = False) -> Run:
    """Return a run without a display of its progress."""
    return Run(out, cache, show, unwatched, resume)


def pretrain_encoder(
    encoder: ModalityEncoder, x: Tensor, mask: Tensor, config: PretrainConfig, report: LogCallback
) -> None:
    """Train one encoder in place through all epochs."""
    stage = ContrastiveStage(encoder, x, mask, config)
    while not stage.finished:
        report(stage.run_epoch())


def small_examples(n: int = 24, specs: Sequence[ModalitySpec] = SPECS) -> Examples:
    """Return noise with labels in turn, each window of its own person and trial."""
    x, mask = random_input(n, specs=specs)
    who = np.arange(n)
    return Examples({k: v.numpy() for k, v in x.items()}, {k: v.numpy() for k, v in mask.items()}, who % 4, who, who)


def config_of_command(command: Sequence[str]) -> TrainConfig:
    """Return the recipe of a ``clmer train``."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return config_from(parser.parse_args(command[1:]))
