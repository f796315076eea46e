"""What a model is worth: calibration on the validation people, scores on the test people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clmer_model.clmer import Clmer
from clmer_model.training.examples import Examples
from clmer_model.training.metrics import calibration_error, score

EVALUATION_BATCH = 256
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 4.0

SUBSETS: Mapping[str, tuple[str, ...]] = {
    "all": ("eeg", "landmarks", "aus"),
    "eeg": ("eeg",),
    "face": ("landmarks", "aus"),
}
"""The subsets of modalities that are scored: both sources, the headset alone, the camera alone."""


def subsets_of(model: Clmer) -> dict[str, tuple[str, ...]]:
    """Return the subsets that are scored for this model, whose further series count to ``all``."""
    known = {name: subset for name, subset in SUBSETS.items() if set(subset) < set(model.names)}
    return {"all": tuple(model.names), **known}


def logits_of(model: Clmer, examples: Examples, modalities: Sequence[str]) -> Tensor:
    """Return the model's logits (n, K) with every modality masked that is not named."""
    model.eval()
    x, mask = examples.tensors()
    mask = {name: known if name in modalities else torch.zeros_like(known) for name, known in mask.items()}
    rows, device = range(0, len(examples), EVALUATION_BATCH), model.temperature.device
    with torch.no_grad():
        parts = [model(_part(x, first, device), _part(mask, first, device)).cpu() for first in rows]
    return torch.cat(parts)


def _part(tensors: Mapping[str, Tensor], first: int, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[first : first + EVALUATION_BATCH].to(device) for name, tensor in tensors.items()}


def fit_temperature(model: Clmer, examples: Examples, subsets: Mapping[str, Sequence[str]] | None = None) -> float:
    """Set the model's temperature to the one of least cross-entropy on these examples, and return it.

    The subsets of modalities count alike, because one temperature serves them all; None: all that are scored.
    """
    model.temperature.fill_(1.0)
    truth = torch.from_numpy(examples.label)
    logits = [logits_of(model, examples, names) for names in (subsets or subsets_of(model)).values()]
    grid = torch.logspace(np.log10(MIN_TEMPERATURE), np.log10(MAX_TEMPERATURE), 121)
    losses = [sum(F.cross_entropy(part / t, truth).item() for part in logits) for t in grid]
    best = float(grid[int(np.argmin(losses))])
    model.temperature.fill_(best)
    return best


def evaluate(model: Clmer, examples: Examples, majority_class: int) -> dict[str, Any]:
    """Return the scores of each subset of modalities, as plain JSON values.

    Windows in which a subset has nothing measured are not scored for it.
    """
    scores: dict[str, Any] = {}
    for subset, names in subsets_of(model).items():
        known = np.any([examples.mask[name].any(1) for name in names], axis=0)
        part = examples.take(np.flatnonzero(known))
        probs = logits_of(model, part, names).softmax(1).numpy()
        answer = probs.argmax(1).astype(np.int64)
        scores[subset] = {
            **score(part.label, answer, part.person, majority_class).to_dict(),
            "calibration_error": round(calibration_error(probs.max(1), answer == part.label), 4),
            "mean_confidence": round(float(probs.max(1).mean()), 4),
        }
    return scores
