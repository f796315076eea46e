"""Training of the whole model with labels: fusion, classifier and pre-trained encoders together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer
from clmer_model.training.augment import View, drop_modalities, view_of
from clmer_model.training.config import FitConfig, Report
from clmer_model.training.contrastive import batches
from clmer_model.training.distributed import agree, own_generator, shares
from clmer_model.training.evaluate import logits_of, subsets_of
from clmer_model.training.optimizer import OptimizerStep, ResumeState, random_state, set_random_state


def fit(model: Clmer, train: Examples, validation: Examples, config: FitConfig, report: Report) -> float:
    """Train the model in place; return the least validation loss, whose weights the model keeps.

    Args:
        model: With fitted doors and pre-trained encoders.
        train: Windows of the training side.
        validation: Windows of the validation side, none of them in ``train``; they choose the epoch. They are of other
            people where the split is one by people, as in ``clmer train``; other splits may share people.
        config: Settings.
        report: Is told the losses of each epoch.
    """
    fitting = Fitting(model, train, validation, config)
    while not fitting.finished:
        report(fitting.run_epoch())
    return fitting.finish()


class Fitting:
    """The supervised stage, epoch by epoch; what it has reached can be kept and taken up again.

    Frozen encoders stay in evaluation mode: neither dropout nor the statistics of a batch touch their features.
    """

    def __init__(self, model: Clmer, train: Examples, validation: Examples, config: FitConfig) -> None:
        torch.manual_seed(config.seed)
        self._rng = torch.Generator().manual_seed(config.seed)
        self._model, self._validation, self._config = model, validation, config
        self._x, self._mask = train.tensors()
        self._truth = torch.from_numpy(train.label)
        self._stepper = OptimizerStep(_parameter_groups(model, config), config, math.ceil(len(train) / config.batch))
        self._epoch, self._best, self._best_epoch = 0, math.inf, 0
        self._best_state = _copy_state(model)
        self._view_rng = own_generator(config.seed, self._rng)
        self._view_of = {
            encoder.name: view_of(encoder.name, encoder.is_signal) for encoder in model.modality_encoders()
        }

    @property
    def finished(self) -> bool:
        """Whether no further epoch is due."""
        config = self._config
        stale = config.stop_after is not None and self._epoch - self._best_epoch >= config.stop_after
        return self._epoch >= config.epochs or stale

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch, and return its line of the log: losses on both sides."""
        self._model.train()
        if self._config.freeze_encoders:
            self._model.encoders.eval()
        parts = shares(batches(len(self._truth), self._config.batch, self._rng))
        total = sum(self._step(rows) * len(rows) for rows in parts)
        n = max(1, sum(len(rows) for rows in parts))
        agree(self._model)
        losses = validation_losses(self._model, self._validation)
        chosen = _chosen(losses, self._config)
        line = {"stage": "fit", "epoch": self._epoch, "loss": total / n, "validation": chosen, **losses}
        self._epoch += 1
        self._stepper.epoch_done(chosen)
        if chosen < self._best:
            self._best, self._best_epoch, self._best_state = chosen, self._epoch, _copy_state(self._model)
        return line

    def finish(self) -> float:
        """Give the model the weights of the best epoch, and return its validation loss."""
        self._model.load_state_dict(self._best_state)
        self._model.eval()
        return self._best

    def snapshot(self) -> ResumeState:
        """Return all that decides how the training goes on."""
        optimiser, values = self._stepper.state()
        tensors = {
            **{f"model.{name}": value for name, value in self._model.state_dict().items()},
            **{f"best.{name}": value for name, value in self._best_state.items()},
            **optimiser,
            **random_state(self._rng, _device(self._model)),
        }
        values = {**values, "epoch": self._epoch, "best": self._best, "best_epoch": self._best_epoch}
        return ResumeState("fit", tensors, values)

    def restore(self, snapshot: ResumeState) -> None:
        """Go on where a snapshot was taken; what follows is the same as without the interruption."""
        self._model.load_state_dict(snapshot.part("model."))
        self._best_state = snapshot.part("best.")
        self._stepper.restore(snapshot.part("optimiser."), snapshot.values)
        set_random_state(self._rng, _device(self._model), snapshot.part("random."))
        self._epoch, self._best = snapshot.values["epoch"], snapshot.values["best"]
        self._best_epoch = snapshot.values["best_epoch"]

    def _step(self, rows: Tensor) -> float:
        config, device = self._config, _device(self._model)
        seen, known = _views(self._view_of, (self._x, self._mask), rows, config, self._view_rng)
        seen, known = ({name: t.to(device) for name, t in part.items()} for part in (seen, known))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision):
            truth = self._truth[rows].to(device)
            loss = F.cross_entropy(self._model(seen, known), truth, label_smoothing=config.label_smoothing)
        self._stepper.step(loss)
        return loss.item()


def validation_losses(model: Clmer, examples: Examples) -> dict[str, float]:
    """Return the cross-entropy on the examples with each subset of modalities."""
    truth = torch.from_numpy(examples.label)
    return {
        name: F.cross_entropy(logits_of(model, examples, subset), truth).item()
        for name, subset in subsets_of(model).items()
    }


def _chosen(losses: dict[str, float], config: FitConfig) -> float:
    """Return the loss that chooses the epoch: of all subsets alike, or of whole windows if no other were trained."""
    return sum(losses.values()) / len(losses) if config.modality_dropout else losses["all"]


def _parameter_groups(model: Clmer, config: FitConfig) -> list[dict[str, Any]]:
    encoders = list(model.encoders.parameters())
    for parameter in encoders:
        parameter.requires_grad_(not config.freeze_encoders)
    own = {id(parameter) for parameter in encoders}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in own]
    groups = [{"params": rest, "lr": config.learning_rate}]
    return groups if config.freeze_encoders else [*groups, {"params": encoders, "lr": config.encoder_learning_rate}]


def _views(
    views: dict[str, View],
    examples: tuple[dict[str, Tensor], dict[str, Tensor]],
    rows: Tensor,
    config: FitConfig,
    rng: torch.Generator,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    seen, known = ({name: values[rows] for name, values in part.items()} for part in examples)
    if config.views is not None:
        for name in seen:
            seen[name], known[name] = views[name](seen[name], known[name], config.views, rng)
    return seen, drop_modalities(known, config.modality_dropout, rng)


def _copy_state(model: Clmer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _device(model: Clmer) -> torch.device:
    return model.temperature.device
