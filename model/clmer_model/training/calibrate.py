"""Calibration of a trained model: its temperature, how much its network adds to the linear path, and its sets.

The network starts at the linear path and may make it worse where data are few. Its share is therefore chosen on windows
that it was not trained on: those of the validation set, or, where there is none, of folds of the training set, for each
of which another network is trained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from torch.nn import functional as F

from clmer_model.conformal import COVERAGE, ConformalSets, Unit, pooled_threshold
from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer
from clmer_model.training.evaluate import SEVERAL_PEOPLE, predict_logits

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
    person: Tensor  # (n,)
    trial: Tensor  # (n,)
    measured: Tensor  # (n,) bool, whether the window had any of the modalities


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
    measured = np.any([examples.mask[name].any(1) for name in modalities], axis=0)
    numbers = (examples.label, examples.person, examples.trial, measured)
    return HeldOut(linear, total - linear, *(torch.from_numpy(values) for values in numbers))


def calibrate(model: Clmer, held_out: Mapping[str, HeldOut]) -> tuple[dict[str, Any], ConformalSets]:
    """Set temperature and share of the network, and find the thresholds of the prediction sets.

    Each share has the temperature of its least cross-entropy. The share is the smallest one whose loss is above the
    least by no more than the standard error of that difference (Breiman et al. 1984, the rule of one standard error),
    over people, or trials where people are few: a network that is not shown to help is left out.

    Args:
        model: Its temperature is replaced, and the last layer of its network scaled by the share.
        held_out: By subset of modalities; all have equal weights, because one temperature serves them all.

    Returns:
        Temperature and share as plain JSON values, and the sets, of the same windows.
    """
    temperatures = torch.logspace(math.log10(MIN_TEMPERATURE), math.log10(MAX_TEMPERATURE), N_TEMPERATURES).tolist()
    shares = SHARES if len(model.linear) else (1.0,)
    kind, unit = _units(held_out)
    best = [
        min(((t, _losses(held_out, share, t)) for t in temperatures), key=lambda found: float(found[1].mean()))
        for share in shares
    ]
    chosen = _smallest_within_one_error([_by_unit(losses.numpy(), unit) for _, losses in best])
    share, temperature = shares[chosen], best[chosen][0]
    _set_output(model, model.classifier.out.weight * share, model.classifier.out.bias * share)
    model.temperature.fill_(temperature)
    ends = (temperatures[0], temperatures[-1])
    found = {"temperature": temperature, "network_share": share, "at_end_of_grid": temperature in ends}
    return found, _sets(held_out, share, temperature, kind)


def _units(held_out: Mapping[str, HeldOut]) -> tuple[Unit, npt.NDArray[np.int64]]:
    """Return over what differences are judged, people or trials, and the number of each window."""
    first = next(iter(held_out.values()))
    several = len(np.unique(first.person.numpy())) >= SEVERAL_PEOPLE
    return ("people", first.person.numpy()) if several else ("trials", first.trial.numpy())


def _losses(held_out: Mapping[str, HeldOut], share: float, temperature: float) -> Tensor:
    """Return the cross-entropy of each window, summed over the subsets."""
    parts = [
        F.cross_entropy((one.linear + share * one.network) / temperature, one.truth, reduction="none")
        for one in held_out.values()
    ]
    return torch.stack(parts).sum(0)


def _by_unit(losses: npt.NDArray[np.float64], unit: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the mean loss of each person or trial."""
    _, number = np.unique(unit, return_inverse=True)
    mean: npt.NDArray[np.float64] = np.bincount(number, losses) / np.bincount(number)
    return mean


def _smallest_within_one_error(losses: Sequence[npt.NDArray[np.float64]]) -> int:
    """Return the first of the losses by unit that is within one standard error of the least."""
    least = min(losses, key=lambda values: float(values.mean()))
    for k, values in enumerate(losses):
        more = values - least
        if more.mean() <= more.std() / math.sqrt(max(1, len(more) - 1)):
            return k
    return len(losses) - 1


def _sets(held_out: Mapping[str, HeldOut], share: float, temperature: float, unit: Unit) -> ConformalSets:
    """Return the thresholds by subset of modalities."""
    thresholds, n_units = {}, []
    for name, part in held_out.items():
        probs = ((part.linear + share * part.network) / temperature).double().softmax(1)
        scores = 1.0 - probs.gather(1, part.truth.unsqueeze(1)).squeeze(1)
        of_unit = (part.person if unit == "people" else part.trial)[part.measured].numpy()
        thresholds[name] = pooled_threshold(scores[part.measured].numpy(), of_unit, COVERAGE)
        n_units.append(len(np.unique(of_unit)))
    return ConformalSets(COVERAGE, unit, min(n_units), thresholds)


def _set_output(model: Clmer, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        model.classifier.out.weight.copy_(weight)
        model.classifier.out.bias.copy_(bias)


def cross_fit(
    train: Examples, subsets: Mapping[str, Sequence[str]], fit: Callable[[Examples], Clmer], seed: int
) -> dict[str, HeldOut]:
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
        return {}
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    parts: dict[str, list[HeldOut]] = {name: [] for name in subsets}
    for inner, outer in folds.split(train.label, train.label, train.trial):
        if not len(inner) or not len(outer):
            continue
        model = fit(train.take(inner))
        for name, modalities in subsets.items():
            parts[name].append(held_out_logits(model, train.take(outer), modalities))
    return {name: _joined(of_subset) for name, of_subset in parts.items()}


def _joined(parts: Sequence[HeldOut]) -> HeldOut:
    fields = [field.name for field in dataclasses.fields(HeldOut)]
    return HeldOut(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))
