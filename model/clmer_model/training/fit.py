"""The supervised stage: fusion, classifier and pre-trained encoders trained together with labels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer
from clmer_model.training.augment import Augmentation, augmentation_of, drop_modalities
from clmer_model.training.config import FitConfig, LogCallback
from clmer_model.training.contrastive import batches
from clmer_model.training.distributed import rank_generator, rank_rows, synchronize
from clmer_model.training.evaluate import predict_logits, scored_subsets
from clmer_model.training.optimizer import OptimizerStep, ResumeState, random_state, set_random_state


def fit(model: Clmer, train: Examples, validation: Examples, config: FitConfig, report: LogCallback) -> float:
    """Train the model in place and return the least validation loss, whose weights the model keeps.

    Without validation windows the last weights are kept, and the result is infinite.

    Args:
        model: With fitted normalizers and pre-trained encoders.
        train: Windows of the training set.
        validation: Windows of the validation set, none of them in ``train``; they choose the epoch. They are of other
            people where the split is one by people, as in ``clmer train``; other splits may share people. May be none.
        config: Settings.
        report: Called with the losses of each epoch.
    """
    fitting = SupervisedStage(model, train, validation, config)
    while not fitting.finished:
        report(fitting.run_epoch())
    return fitting.finish()


class SupervisedStage:
    """The supervised stage, epoch by epoch; its state can be saved and restored between epochs.

    Frozen encoders stay in evaluation mode: neither dropout nor the statistics of a batch change their features.

    Args:
        model: Trained in place.
        train: Windows of the training set.
        validation: Windows of the validation set.
        config: Settings.

    Example::

        stage = SupervisedStage(model, train, validation, FitConfig(epochs=6))
        while not stage.finished:
            print(stage.run_epoch())  # {"stage": "fit", "epoch": 0, "loss": ..., "validation": ...}
        best_loss = stage.finish()
    """

    def __init__(self, model: Clmer, train: Examples, validation: Examples, config: FitConfig) -> None:
        torch.manual_seed(config.seed)
        self._rng = torch.Generator().manual_seed(config.seed)
        self._model, self._validation, self._config = model, validation, config
        self._x, self._mask = train.tensors()
        self._truth = torch.from_numpy(train.label)
        self._optimizer_step = OptimizerStep(
            _parameter_groups(model, config), config, math.ceil(len(train) / config.batch)
        )
        self._epoch, self._best, self._best_epoch = 0, math.inf, 0
        self._best_state = _copy_state(model)
        self._augmentation_rng = rank_generator(config.seed, self._rng)
        self._augmentations = {
            encoder.name: augmentation_of(encoder.name, encoder.is_signal) for encoder in model.modality_encoders()
        }

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has not fallen for ``stop_after`` epochs."""
        config = self._config
        stale = config.stop_after is not None and self._epoch - self._best_epoch >= config.stop_after
        return self._epoch >= config.epochs or stale

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch and return its line of the log: losses on training and validation set."""
        self._model.train()
        if self._config.freeze_encoders:
            self._model.encoders.eval()
        parts = rank_rows(batches(len(self._truth), self._config.batch, self._rng))
        total = sum(self._step(rows) * len(rows) for rows in parts)
        n = max(1, sum(len(rows) for rows in parts))
        synchronize(self._model)
        line: dict[str, Any] = {"stage": "fit", "epoch": self._epoch, "loss": total / n}
        selection = math.inf
        if len(self._validation):
            losses = validation_losses(self._model, self._validation)
            selection = _selection_loss(losses, self._config)
            line |= {"validation": selection, **losses}
        self._epoch += 1
        self._optimizer_step.epoch_done(selection)
        if selection < self._best or not len(self._validation):
            self._best, self._best_epoch, self._best_state = selection, self._epoch, _copy_state(self._model)
        return line

    def finish(self) -> float:
        """Set the weights of the best epoch and return its validation loss."""
        self._model.load_state_dict(self._best_state)
        self._model.eval()
        return self._best

    def resume_state(self) -> ResumeState:
        """Return everything that decides how the training continues."""
        optimizer, values = self._optimizer_step.state()
        tensors = {
            **{f"model.{name}": value for name, value in self._model.state_dict().items()},
            **{f"best.{name}": value for name, value in self._best_state.items()},
            **optimizer,
            **random_state(self._rng, _device(self._model)),
        }
        values = {**values, "epoch": self._epoch, "best": self._best, "best_epoch": self._best_epoch}
        return ResumeState("fit", tensors, values)

    def restore(self, state: ResumeState) -> None:
        """Restore the state that ``resume_state`` returned; training continues as without the interruption."""
        self._model.load_state_dict(state.part("model."))
        self._best_state = state.part("best.")
        self._optimizer_step.restore(state.part("optimiser."), state.values)
        set_random_state(self._rng, _device(self._model), state.part("random."))
        self._epoch, self._best = state.values["epoch"], state.values["best"]
        self._best_epoch = state.values["best_epoch"]

    def _step(self, rows: Tensor) -> float:
        config, device = self._config, _device(self._model)
        x, mask = _augment(self._augmentations, (self._x, self._mask), rows, config, self._augmentation_rng)
        x, mask = ({name: t.to(device) for name, t in part.items()} for part in (x, mask))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision):
            truth = self._truth[rows].to(device)
            loss = F.cross_entropy(self._model(x, mask), truth, label_smoothing=config.label_smoothing)
        self._optimizer_step.step(loss)
        return loss.item()


def validation_losses(model: Clmer, examples: Examples) -> dict[str, float]:
    """Return the cross-entropy on the examples for each subset of modalities."""
    truth = torch.from_numpy(examples.label)
    return {
        name: F.cross_entropy(predict_logits(model, examples, subset), truth).item()
        for name, subset in scored_subsets(model).items()
    }


def _selection_loss(losses: dict[str, float], config: FitConfig) -> float:
    """Return the loss that chooses the epoch: the mean over subsets, or ``all`` if no others were trained."""
    return sum(losses.values()) / len(losses) if config.modality_dropout else losses["all"]


def _parameter_groups(model: Clmer, config: FitConfig) -> list[dict[str, Any]]:
    encoders = list(model.encoders.parameters())
    for parameter in encoders:
        parameter.requires_grad_(not config.freeze_encoders)
    own = {id(parameter) for parameter in encoders}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in own]
    groups = [{"params": rest, "lr": config.learning_rate}]
    return groups if config.freeze_encoders else [*groups, {"params": encoders, "lr": config.encoder_learning_rate}]


def _augment(
    augmentations: dict[str, Augmentation],
    examples: tuple[dict[str, Tensor], dict[str, Tensor]],
    rows: Tensor,
    config: FitConfig,
    rng: torch.Generator,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return series and mask of these rows, augmented, with whole modalities dropped at random."""
    x, mask = ({name: values[rows] for name, values in part.items()} for part in examples)
    if config.views is not None:
        for name in x:
            x[name], mask[name] = augmentations[name](x[name], mask[name], config.views, rng)
    return x, drop_modalities(mask, config.modality_dropout, rng)


def _copy_state(model: Clmer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _device(model: Clmer) -> torch.device:
    return model.temperature.device
