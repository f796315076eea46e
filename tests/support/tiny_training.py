"""Trainings so small that they take a second: few people, few epochs, small layers."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clmer_model.data.examples import Examples
from clmer_model.network.encoder import ModalityEncoder
from clmer_model.training.config import PretrainConfig, Report, TrainConfig, recipe
from clmer_model.training.contrastive import Pretraining
from clmer_model.training.train import Run
from clmer_server.commands.train import add_arguments, config_from
from tests.support.model_windows import random_input


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


def run_in(out: Path, cache: Path, show: Any = lambda line: None, resume: bool = False) -> Run:
    return Run(out, cache, show, lambda made, _: made, resume)


def pretrain_encoder(encoder: ModalityEncoder, x: Tensor, mask: Tensor, config: PretrainConfig, report: Report) -> None:
    """Train one encoder in place through all epochs."""
    stage = Pretraining(encoder, x, mask, config)
    while not stage.finished:
        report(stage.run_epoch())


def small_examples(n: int = 24) -> Examples:
    """Noise with labels in turn."""
    x, mask = random_input(n)
    who = np.arange(n)
    return Examples({k: v.numpy() for k, v in x.items()}, {k: v.numpy() for k, v in mask.items()}, who % 4, who, who)


def config_of_command(command: Sequence[str]) -> TrainConfig:
    """Return the recipe of a ``clmer train``."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return config_from(parser.parse_args(command[1:]))
