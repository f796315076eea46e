"""Training of the whole model with labels: fusion, classifier and pre-trained encoders together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from clmer_model.clmer import Clmer
from clmer_model.training.evaluate import logits_of, subsets_of
from clmer_model.training.examples import Examples
from clmer_model.training.pretrain import Report, batches
from clmer_model.training.views import ViewConfig, drop_modalities, view_of

GENTLE_VIEWS = ViewConfig(eeg_gain=(0.9, 1.1), eeg_jitter=0.1, eeg_shift=16, eeg_blank=16, channel_dropout=0.1)
"""Views for training with labels. Channel power carries the emotion, so strong gains would hide it (measured)."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of the supervised stage."""

    epochs: int = 7  # the validation loss has stopped falling by then
    batch: int = 128
    learning_rate: float = 7e-4  # of fusion and classifier
    encoder_learning_rate: float = 5e-4  # of the pre-trained encoders
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of all steps in which the learning rate rises
    label_smoothing: float = 0.1  # keeps probabilities modest
    max_gradient: float = 1.0  # norm
    seed: int = 1  # of batches, views and dropout
    modality_dropout: float = 0.5  # share of samples from which whole modalities are taken
    views: ViewConfig = GENTLE_VIEWS


def fit(model: Clmer, train: Examples, validation: Examples, config: FitConfig, report: Report) -> float:
    """Train the model in place; return the least validation loss, whose weights the model keeps.

    Args:
        model: With fitted doors and pre-trained encoders.
        train: Windows of the training people.
        validation: Windows of other people; they choose the epoch.
        config: Settings.
        report: Is told the losses of each epoch.
    """
    torch.manual_seed(config.seed)
    rng = torch.Generator().manual_seed(config.seed)
    x, mask = train.tensors()
    truth = torch.from_numpy(train.label)
    stepper = _Stepper(model, config, steps=config.epochs * math.ceil(len(train) / config.batch))
    best, best_state = math.inf, _copy_state(model)
    for epoch in range(config.epochs):
        model.train()
        total = 0.0
        for rows in batches(len(train), config.batch, rng):
            seen, known = _views(x, mask, rows, config, rng)
            loss = F.cross_entropy(model(seen, known), truth[rows], label_smoothing=config.label_smoothing)
            stepper.step(loss)
            total += loss.item() * len(rows)
        losses = validation_losses(model, validation)
        mean = sum(losses.values()) / len(losses)
        report({"stage": "fit", "epoch": epoch, "loss": total / len(train), "validation": mean, **losses})
        if mean < best:
            best, best_state = mean, _copy_state(model)
    model.load_state_dict(best_state)
    model.eval()
    return best


class _Stepper:
    """Optimiser, learning rate schedule and gradient clipping: what follows from a loss."""

    def __init__(self, model: Clmer, config: FitConfig, steps: int) -> None:
        encoders = list(model.encoders.parameters())
        own = {id(parameter) for parameter in encoders}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in own]
        groups = [
            {"params": rest, "lr": config.learning_rate},
            {"params": encoders, "lr": config.encoder_learning_rate},
        ]
        self._parameters = [*rest, *encoders]
        self._max_gradient = config.max_gradient
        self._optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: _rate(step / steps, config.warm_up)
        )

    def step(self, loss: Tensor) -> None:
        """Move the parameters against the gradient of the loss."""
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        torch.nn.utils.clip_grad_norm_(self._parameters, self._max_gradient)
        self._optimiser.step()
        self._schedule.step()


def validation_losses(model: Clmer, examples: Examples) -> dict[str, float]:
    """Return the cross-entropy on the examples with each subset of modalities."""
    truth = torch.from_numpy(examples.label)
    return {
        name: F.cross_entropy(logits_of(model, examples, subset), truth).item()
        for name, subset in subsets_of(model).items()
    }


def _views(
    x: dict[str, Tensor], mask: dict[str, Tensor], rows: Tensor, config: FitConfig, rng: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    for name in x:
        seen[name], known[name] = view_of(name)(x[name][rows], mask[name][rows], config.views, rng)
    return seen, drop_modalities(known, config.modality_dropout, rng)


def _copy_state(model: Clmer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _rate(progress: float, warm_up: float) -> float:
    """Return the factor on the learning rate: a line up, then half a cosine down."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warm_up) / (1.0 - warm_up)))
