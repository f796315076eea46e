"""One optimization step, and what an interrupted training needs to resume.

``OptimizerStep`` holds optimizer, learning rate schedule and gradient clipping. ``ResumeState`` is the state of a
training after an epoch, ``ResumeFile`` its file. Names of tensors and JSON keys are those of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clmer_model.training.distributed import average_gradients
from clmer_streaming.errors import SettingsError

if TYPE_CHECKING:
    from clmer_model.training.config import FitConfig


class OptimizerStep:
    """Updates parameters from a loss: AdamW, clipped gradients, and a learning rate schedule.

    Args:
        groups: Parameters and their learning rates, as torch takes them.
        config: Settings of the supervised stage.
        steps_per_epoch: Number of steps in an epoch, for the cosine schedule.
    """

    def __init__(self, groups: list[dict[str, Any]], config: FitConfig, steps_per_epoch: int) -> None:
        steps = config.epochs * steps_per_epoch
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._max_gradient = config.max_gradient
        self._is_cosine = config.schedule == "cosine"
        self._optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self._cosine = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: _cosine_factor(step / steps, config.warm_up) if self._is_cosine else 1.0
        )
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimizer, factor=config.plateau_factor, patience=config.plateau_patience
        )

    def step(self, loss: Tensor) -> None:
        """Update the parameters with the gradient of the loss."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        average_gradients(self._parameters)
        torch.nn.utils.clip_grad_norm_(self._parameters, self._max_gradient)
        self._optimizer.step()
        if self._is_cosine:
            self._cosine.step()

    def epoch_done(self, validation_loss: float) -> None:
        """Lower the learning rate if the schedule is ``plateau`` and the validation loss is on one."""
        if not self._is_cosine:
            self._plateau.step(validation_loss)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors, their names prefixed with ``optimiser.``, and plain JSON values."""
        tensors, groups = optimizer_state(self._optimizer)
        schedules = [_plain(schedule.state_dict()) for schedule in (self._cosine, self._plateau)]
        return tensors, {"groups": groups, "schedules": schedules}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Set the state that ``state`` returned, the tensors named without their prefix."""
        restore_optimizer(self._optimizer, tensors, values["groups"])
        for schedule, plain in zip((self._cosine, self._plateau), values["schedules"], strict=True):
            schedule.load_state_dict({**schedule.state_dict(), **plain})


def _cosine_factor(progress: float, warm_up: float) -> float:
    """Return the factor on the learning rate: a linear rise, then half a cosine down to 0."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warm_up) / (1.0 - warm_up)))


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a schedule's state that are numbers or lists of numbers."""
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, int | float) or (isinstance(value, list) and all(isinstance(v, float) for v in value))
    }


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return an optimizer's tensors, their names prefixed with ``optimiser.``, and its groups as plain JSON values."""
    plain = optimizer.state_dict()
    tensors = {
        f"optimiser.{index}.{name}": value for index, state in plain["state"].items() for name, value in state.items()
    }
    return tensors, plain["param_groups"]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Set the state that ``optimizer_state`` returned, the tensors named without their prefix."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state(rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return the states of a training's own generator and of torch's, their names prefixed with ``random.``."""
    states = {"random.views": rng.get_state(), "random.torch": torch.get_rng_state()}
    return {**states, "random.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_random_state(rng: torch.Generator, device: torch.device, states: dict[str, Tensor]) -> None:
    """Set the states that ``random_state`` returned, named without their prefix."""
    rng.set_state(states["views"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


RESUME_NAME = "unfinished.safetensors"
_HEADER = "clmer"


@dataclass(frozen=True)
class ResumeState:
    """State of a training after an epoch."""

    stage: str  # "pretrain" or "fit"
    tensors: dict[str, Tensor]
    values: dict[str, Any] = field(default_factory=dict)  # plain JSON values

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names have this prefix, named without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class ResumePoint:
    """The state from which a training resumes, and a callback that saves the state of each epoch."""

    start: ResumeState | None = None
    save: Callable[[ResumeState], None] = lambda state: None


class ResumeFile:
    """The file ``unfinished.safetensors`` of a run, from which it resumes; reading it cannot run code.

    Args:
        folder: The run's folder.
        settings: Plain JSON values of all settings that decide the run; a file of other settings is refused.
        examples: Key of the run's windows; a file of other windows is refused.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], examples: str) -> None:
        self.path = folder / RESUME_NAME
        self._settings = json.loads(json.dumps(settings))
        self._examples = examples

    def write(self, state: ResumeState, n_lines: int) -> None:
        """Replace the file by this state, saved when the log had ``n_lines`` lines."""
        header = {
            "settings": self._settings,
            "examples": self._examples,
            "stage": state.stage,
            "values": state.values,
            "n_lines": n_lines,
        }
        unfinished = self.path.with_suffix(".new")
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, unfinished, metadata={_HEADER: json.dumps(header)})
        unfinished.replace(self.path)

    def read(self) -> tuple[ResumeState, int]:
        """Return the state and the number of lines that the log had.

        Raises:
            SettingsError: There is no file, or it belongs to a run with other settings or windows.
        """
        try:
            with safe_open(self.path, framework="pt") as stored:
                header = json.loads(stored.metadata()[_HEADER])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            found = f"{self.path}: {str(error).splitlines()[0]}"
            raise SettingsError("an unfinished training to resume", found, "train without --resume") from error
        self._check(header["settings"], header.get("examples"))
        return ResumeState(header["stage"], tensors, header["values"]), header["n_lines"]

    def remove(self) -> None:
        """Remove the file of a training that is finished."""
        self.path.unlink(missing_ok=True)

    def _check(self, settings: dict[str, Any], examples: str | None) -> None:
        differ = sorted(name for name in settings | self._settings if settings.get(name) != self._settings.get(name))
        if differ:
            raise SettingsError(
                "the settings that the training began with",
                f"other values of {', '.join(differ)}",
                "give the same options, or train without --resume",
            )
        if examples != self._examples:
            raise SettingsError(
                "the windows that the training began with",
                "others: clmer prepare, or another version of clmer, has made them anew",
                "train without --resume",
            )


def examples_of_resume_file(path: Path) -> str:
    """Return the key of the windows of an interrupted training; ``""`` where the file is not a resume file."""
    try:
        with safe_open(path, framework="pt") as stored:
            return str(json.loads(stored.metadata()[_HEADER])["examples"])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError):
        return ""
