"""Calibration of a trained model: its temperature, and how much its network adds to the linear path.

The network starts at the linear path and may make it worse where data are few. Its share is therefore chosen on windows
that it was not trained on: those of the validation set, or, where there is none, of folds of the training set, for each
of which another network is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from torch.nn import functional as F

from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer
from clmer_model.training.evaluate import predict_logits

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the network's logits that are tried, beside a linear path; without one the share is 1."""

N_FOLDS = 3
MIN_TEMPERATURE, MAX_TEMPERATURE, N_TEMPERATURES = 0.25, 4.0, 121


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Logits of windows that a model was not trained on, before any temperature."""

    linear: Tensor  # (n, K) of the linear path alone; zero without one
    network: Tensor  # (n, K) what the network adds
    truth: Tensor  # (n,) classes


def held_out_logits(model: Clmer, examples: Examples, modalities: Sequence[str]) -> HeldOut:
    """Return the logits of windows that the model was not trained on.

    Args:
        model: Trained; its temperature becomes 1.
        examples: The windows.
        modalities: Those that are not masked.
    """
    model.temperature.fill_(1.0)
    total = predict_logits(model, examples, modalities)
    out = model.classifier.out
    kept = out.weight.detach().clone(), out.bias.detach().clone()
    _set_output(model, torch.zeros_like(kept[0]), torch.zeros_like(kept[1]))
    linear = predict_logits(model, examples, modalities)
    _set_output(model, *kept)
    return HeldOut(linear, total - linear, torch.from_numpy(examples.label))


def calibrate(model: Clmer, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """Set temperature and share of the least cross-entropy, and return them as plain JSON values.

    Args:
        model: Its temperature is replaced, and the last layer of its network scaled by the share.
        held_out: By subset of modalities; all have equal weights, because one temperature serves them all.
    """
    temperatures = torch.logspace(np.log10(MIN_TEMPERATURE), np.log10(MAX_TEMPERATURE), N_TEMPERATURES)
    shares = SHARES if len(model.linear) else (1.0,)
    losses = np.array([[_loss(held_out, share, float(t)) for t in temperatures] for share in shares])
    best = np.unravel_index(int(losses.argmin()), losses.shape)
    share, temperature = shares[best[0]], float(temperatures[best[1]])
    _set_output(model, model.classifier.out.weight * share, model.classifier.out.bias * share)
    model.temperature.fill_(temperature)
    return {"temperature": temperature, "network_share": share, "at_end_of_grid": best[1] in (0, N_TEMPERATURES - 1)}


def _loss(held_out: Sequence[HeldOut], share: float, temperature: float) -> float:
    parts = [F.cross_entropy((one.linear + share * one.network) / temperature, one.truth) for one in held_out]
    return float(sum(parts))


def _set_output(model: Clmer, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        model.classifier.out.weight.copy_(weight)
        model.classifier.out.bias.copy_(bias)


def cross_fit(
    train: Examples, subsets: Mapping[str, Sequence[str]], fit: Callable[[Examples], Clmer], seed: int
) -> list[HeldOut]:
    """Return held-out logits of the training windows by subset, from folds that share no trial.

    Args:
        train: All windows of the training set.
        subsets: Modalities that are not masked, by name.
        fit: Returns a model that was trained on these windows.
        seed: Of the folds.

    Returns:
        By subset; empty where there are too few trials for folds.
    """
    n_trials = len(np.unique(train.trial))
    n_folds = min(N_FOLDS, n_trials)
    if n_folds < 2:
        return []
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    parts: dict[str, list[HeldOut]] = {name: [] for name in subsets}
    for inner, outer in folds.split(train.label, train.label, train.trial):
        if not len(inner) or not len(outer):
            continue
        model = fit(train.take(inner))
        for name, modalities in subsets.items():
            parts[name].append(held_out_logits(model, train.take(outer), modalities))
    return [_joined(of_subset) for of_subset in parts.values()]


def _joined(parts: Sequence[HeldOut]) -> HeldOut:
    fields = [field.name for field in dataclasses.fields(HeldOut)]
    return HeldOut(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))
