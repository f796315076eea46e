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
from clmer_model.training.metrics import PLAIN_SCORES, intervals_of, scores_of

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


def trained_subsets(model: Clmer, modality_dropout: float) -> dict[str, tuple[str, ...]]:
    """Return the subsets that the model has learnt to answer from: whole windows alone if nothing was ever missing.

    What stands for an absent modality is learnt from windows that lack it. Without them it is what it was at the
    start, and an answer means nothing.
    """
    known = subsets_of(model)
    return known if modality_dropout else {"all": known["all"]}


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


def evaluate(
    model: Clmer, examples: Examples, majority_class: int, subsets: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return the scores of each subset of modalities, as plain JSON values rounded to four digits.

    Windows in which a subset has nothing measured are not scored for it, and a subset that has none is left out.
    ``interval`` is that of the accuracy.

    Args:
        model: Trained and calibrated.
        examples: Windows of the test people.
        majority_class: The most frequent class of the training people.
        subsets: By name the modalities that are not masked; None: all that are scored.
    """
    scores: dict[str, Any] = {}
    for subset, names in (subsets or subsets_of(model)).items():
        known = np.any([examples.mask[name].any(1) for name in names], axis=0)
        if not known.any():
            continue
        part = examples.take(np.flatnonzero(known))
        probs = logits_of(model, part, names).softmax(1).numpy().astype(np.float64)
        found = scores_of(part.label, probs)
        interval = intervals_of(part.label, probs, part.person)["accuracy"]
        scores[subset] = {
            **{name: round(found[name], 4) for name in PLAIN_SCORES},
            "interval": [round(edge, 4) for edge in interval],
            "majority": round(float((part.label == majority_class).mean()), 4),
            "mean_confidence": round(float(probs.max(1).mean()), 4),
            "n_windows": len(part),
            "n_people": len(np.unique(part.person)),
        }
    return scores
