"""Optimiser, learning rate schedule and gradient clipping: what follows from a loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clmer_model.training.ranks import average_gradients

if TYPE_CHECKING:
    from clmer_model.training.fit import FitConfig


class Stepper:
    """Moves parameters against gradients, at the rate that the schedule gives.

    Args:
        groups: Parameters and their learning rates, as torch takes them.
        config: Settings of the supervised stage.
        steps_per_epoch: Steps of an epoch; they place the cosine.
    """

    def __init__(self, groups: list[dict[str, Any]], config: FitConfig, steps_per_epoch: int) -> None:
        steps = config.epochs * steps_per_epoch
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._max_gradient = config.max_gradient
        self._by_step = config.schedule == "cosine"
        self._optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self._cosine = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: _rate(step / steps, config.warm_up) if self._by_step else 1.0
        )
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimiser, factor=config.plateau_factor, patience=config.plateau_patience
        )

    def step(self, loss: Tensor) -> None:
        """Move the parameters against the gradient of the loss."""
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        average_gradients(self._parameters)
        torch.nn.utils.clip_grad_norm_(self._parameters, self._max_gradient)
        self._optimiser.step()
        if self._by_step:
            self._cosine.step()

    def epoch_done(self, validation_loss: float) -> None:
        """Lower the learning rate if the schedule waits for a plateau and this is one."""
        if not self._by_step:
            self._plateau.step(validation_loss)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors, named from ``optimiser.`` on, and plain JSON values."""
        tensors, groups = optimiser_state(self._optimiser)
        schedules = [_plain(schedule.state_dict()) for schedule in (self._cosine, self._plateau)]
        return tensors, {"groups": groups, "schedules": schedules}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take up what ``state`` returned, the tensors named without ``optimiser.``."""
        restore_optimiser(self._optimiser, tensors, values["groups"])
        for schedule, plain in zip((self._cosine, self._plateau), values["schedules"], strict=True):
            schedule.load_state_dict({**schedule.state_dict(), **plain})


def optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return an optimiser's tensors, named from ``optimiser.`` on, and its groups as plain JSON values."""
    plain = optimiser.state_dict()
    tensors = {
        f"optimiser.{index}.{name}": value for index, state in plain["state"].items() for name, value in state.items()
    }
    return tensors, plain["param_groups"]


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Take up what ``optimiser_state`` returned, the tensors named without ``optimiser.``."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a schedule's state that are numbers or lists of numbers."""
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, int | float) or (isinstance(value, list) and all(isinstance(v, float) for v in value))
    }


def _rate(progress: float, warm_up: float) -> float:
    """Return the factor on the learning rate: a line up, then half a cosine down."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warm_up) / (1.0 - warm_up)))
