"""What a training looks at, and what its seed decides."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from clmer_model.training.evaluate import fit_temperature
from clmer_model.training.examples import Examples
from clmer_model.training.fit import FitConfig
from clmer_model.training.pretrain import PretrainConfig
from clmer_model.training.sides import Sides
from clmer_model.training.splits import split_people
from clmer_model.training.train import TrainConfig, train_model
from clmer_streaming.errors import SettingsError
from model_windows import SMALL
from tiny_training import config_of_command, small_examples

SPLIT = split_people(range(5), seed=1)


@dataclass(frozen=True, eq=False)
class Watched(Examples):
    """Examples that note whose windows were asked for, in ``looked``."""

    looked: list[set[int]]

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the model's input, and note the people."""
        self.looked.append(set(self.person.tolist()))
        return super().tensors()


def config_of(weights: int = 1, contrast: int = 1, labels: int = 1) -> TrainConfig:
    """Return a short recipe with these seeds: of the first weights, of the contrastive stage, of that with labels."""
    pretrain = PretrainConfig(epochs=1, batch=16, seed=contrast)
    fit = FitConfig(epochs=2, batch=16, seed=labels, views=None)  # whose views the first seed would draw, for the doors
    return TrainConfig(dims=SMALL, seed=weights, pretrain=pretrain, fit=fit)


def sides_of(looked: list[set[int]]) -> Sides:
    """Return noise of five people, by side; three train, one validates, one tests."""
    everybody = dataclasses.replace(small_examples(20), person=np.arange(20) % 5)
    parts = [everybody.of_people(people) for people in (SPLIT.train, SPLIT.validation, SPLIT.test)]
    train, validation, test = (Watched(**vars(part), looked=looked) for part in parts)
    return Sides(SPLIT, train, validation, test)


def trained(*seeds: int) -> dict[str, torch.Tensor]:
    return train_model(config_of(*seeds), sides_of([]), lambda line: None).state_dict()


def test_the_temperature_is_fitted_on_the_validation_people_and_on_nobody_else() -> None:
    """Between the last epoch and the calibrated model only their windows are looked at; the test's never are."""
    looked, at_epoch = list[set[int]](), list[int]()
    sides = sides_of(looked)

    def report(line: dict[str, Any]) -> None:
        if line["stage"] == "fit":
            at_epoch.append(len(looked))

    model = train_model(config_of(), sides, report)
    calibration = looked[at_epoch[-1] :]
    assert calibration
    assert all(people == set(SPLIT.validation) for people in calibration)
    assert not any(people & set(SPLIT.test) for people in looked)
    found = model.temperature.item()
    assert fit_temperature(model, sides.validation) == pytest.approx(found)


def test_one_seed_gives_one_network_and_another_seed_another() -> None:
    """The same seeds: the same bits. Another one of any stage: other weights in every part that learns."""
    first, same = trained(1, 1, 1), trained(1, 1, 1)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    for seeds in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        other = trained(*seeds)
        parts = {name.split(".")[0] for name, value in first.items() if not torch.equal(value, other[name])}
        assert parts >= {"encoders", "unifiers", "targets", "classifier"}, seeds


def test_the_option_seeds_every_stage() -> None:
    """``--seed 7`` is the seed of people, split and weights, of the contrastive stage and of the one with labels."""
    config = config_of_command(["train", "--out", "run", "--seed", "7"])
    assert (config.seed, config.pretrain.seed, config.fit.seed) == (7, 7, 7)
    assert {recipe.simulation.seed for recipe in config.recipes()} == {7}


@pytest.mark.parametrize(("epochs", "stop_after"), [(0, None), (5, 0)])
def test_a_training_without_an_epoch_is_refused(epochs: int, stop_after: int | None) -> None:
    """It would leave the network as chance made it, and say nothing."""
    with pytest.raises(SettingsError, match="an epoch or more"):
        FitConfig(epochs=epochs, stop_after=stop_after)
