"""Scores of a model: predictions by subset of modalities, calibration, metrics, intervals and a permutation test.

``evaluate`` takes a model. Below it stand the metrics, by scikit-learn and torchmetrics, the paper's Eq. 8-9, and the
statistics over people or trials, whose resamples are scored from their summed counts: a thousand resamples at once take
as long as one call of a metric of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from clmer_model.conformal import ConformalSets, measure_coverage
from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
EVALUATION_BATCH = 256


def evaluate(
    model: Clmer,
    examples: Examples,
    majority_class: int,
    subsets: Mapping[str, Sequence[str]] | None = None,
    sets: ConformalSets | None = None,
) -> dict[str, Any]:
    """Return the scores of each subset of modalities, as plain JSON values rounded to four digits.

    Windows in which a subset has nothing measured are not scored for it, and a subset without any is left out.
    ``interval`` is that of the accuracy, over people or trials as ``interval_over`` says. Without windows there are no
    scores.

    Args:
        model: Trained and calibrated.
        examples: Windows of the test set.
        majority_class: The most frequent class of the training set.
        subsets: Modalities that are not masked, by name; None: all subsets that are scored.
        sets: The model's prediction sets, whose coverage is measured; None: none.

    Example::

        scores = evaluate(model, test, majority_class=0)
        scores["all"]["accuracy"], scores["all"]["interval"], scores["eeg"]["accuracy"]
    """
    scores: dict[str, Any] = {}
    for subset, names in (subsets or scored_subsets(model)).items():
        known = np.any([examples.mask[name].any(1) for name in names], axis=0)
        if not known.any():
            continue
        part = examples.take(np.flatnonzero(known))
        probs = predict_logits(model, part, names).softmax(1).numpy().astype(np.float64)
        found = compute_scores(part.label, probs)
        over, unit = resampled_units(part.person, part.trial)
        interval = bootstrap_intervals(part.label, probs, unit)["accuracy"]
        scores[subset] = {
            **{name: round(found[name], 4) for name in PLAIN_SCORES},
            "interval": [round(edge, 4) for edge in interval],
            "interval_over": over,
            "majority": round(float((part.label == majority_class).mean()), 4),
            "mean_confidence": round(float(probs.max(1).mean()), 4),
            "n_windows": len(part),
            "n_people": len(np.unique(part.person)),
        }
        if sets is not None:
            scores[subset]["coverage"] = _coverage(sets, subset, part, probs)
    return scores


def _coverage(sets: ConformalSets, subset: str, part: Examples, probs: Floats) -> dict[str, Any]:
    """Return the coverage of the sets as plain JSON values, with its interval over people."""
    found = measure_coverage(probs, part.label, part.person, sets.thresholds[subset])
    drawn = bootstrap(np.array(list(found.by_person.values()))) / len(found.by_person)
    return {"nominal": sets.coverage, **found.to_dict(), "interval": [round(edge, 4) for edge in interval_of(drawn)]}


SUBSETS: Mapping[str, tuple[str, ...]] = {
    "all": ("eeg", "landmarks", "aus"),
    "eeg": ("eeg",),
    "face": ("landmarks", "aus"),
}
"""The subsets of modalities that are scored: both sources, the headset alone, the camera alone."""


def scored_subsets(model: Clmer) -> dict[str, tuple[str, ...]]:
    """Return the subsets that are scored for this model; its further series count to ``all``."""
    known = {name: subset for name, subset in SUBSETS.items() if set(subset) < set(model.names)}
    return {"all": tuple(model.names), **known}


def trained_subsets(model: Clmer, modality_dropout: float) -> dict[str, tuple[str, ...]]:
    """Return the subsets that the model was trained on: whole windows alone if no modality was ever dropped.

    The token of an absent modality is learnt from windows that lack it. Without such windows it keeps its random start,
    and a prediction without the modality means nothing.
    """
    known = scored_subsets(model)
    return known if modality_dropout else {"all": known["all"]}


def predict_logits(model: Clmer, examples: Examples, modalities: Sequence[str]) -> Tensor:
    """Return the model's logits (n, K) on the CPU, with every modality masked that is not named."""
    model.eval()
    x, mask = examples.tensors()
    mask = {name: known if name in modalities else torch.zeros_like(known) for name, known in mask.items()}
    rows, device = range(0, len(examples), EVALUATION_BATCH), model.temperature.device
    with torch.no_grad():
        parts = [model(_part(x, first, device), _part(mask, first, device)).cpu() for first in rows]
    return torch.cat(parts)


def _part(tensors: Mapping[str, Tensor], first: int, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor[first : first + EVALUATION_BATCH].to(device) for name, tensor in tensors.items()}


PLAIN_SCORES = ("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "kappa", "calibration_error")
"""Scores by which a model is judged: all but the paper's Eq. 8-9, which are reported for comparison with it alone.
``weighted_f1`` is the paper's Eq. 10-13.
"""


def compute_scores(truth: Labels, probs: Floats) -> dict[str, float]:
    """Return every score of probabilities (n, K) against the true classes (n,): ``PLAIN_SCORES`` and Eq. 8-9.

    F1 is over the classes that occur. Kappa is 0 where chance alone would always agree.

    Example::

        compute_scores(np.array([0, 1]), np.array([[0.9, 0.1], [0.4, 0.6]]))["accuracy"]  # 1.0
    """
    predicted = probs.argmax(1)
    occurring = np.unique(truth)
    matrix = confusion(truth, predicted, probs.shape[1])
    alone = len(np.union1d(truth, predicted)) == 1
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": balanced_accuracy_of(truth, predicted),
        "weighted_f1": float(f1_score(truth, predicted, labels=occurring, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(truth, predicted, labels=occurring, average="macro", zero_division=0)),
        "kappa": 0.0 if alone else float(cohen_kappa_score(truth, predicted)),
        "eq8_as_printed": eq8_as_printed(matrix),
        "eq8_over_all": eq8_over_all(matrix),
        "calibration_error": calibration_error(truth, probs),
    }


def balanced_accuracy_of(truth: Labels, predicted: Labels) -> float:
    """Return the mean recall over the classes that occur."""
    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def confusion(truth: Labels, predicted: Labels, n_classes: int) -> Floats:
    """Return the confusion matrix (K, K): how many windows of each class (row) were given each prediction (column)."""
    matrix: Floats = confusion_matrix(truth, predicted, labels=np.arange(n_classes)).astype(np.float64)
    return matrix


CLASS_SCORES = ("precision", "recall", "f1")
"""Scores of single classes (paper, Eq. 10-12)."""


def class_scores(truth: Labels, predicted: Labels, n_classes: int) -> dict[str, Floats]:
    """Return precision, recall and F1 of each class (K,); 0 where they are not defined."""
    found = precision_recall_fscore_support(truth, predicted, labels=np.arange(n_classes), zero_division=0)
    return dict(zip(CLASS_SCORES, found, strict=False))


CALIBRATION_BINS = 10


def calibration_error(truth: Labels, probs: Floats) -> float:
    """Return the expected calibration error (Guo et al. 2017) of probabilities (n, K) over ten equal bins."""
    given, label = torch.from_numpy(np.clip(probs, 0.0, 1.0)), torch.from_numpy(truth)
    return float(multiclass_calibration_error(given, label, probs.shape[1], CALIBRATION_BINS))


def eq8_as_printed(matrix: Floats) -> float:
    """Return the paper's accuracy, Eq. 8-9: the mean of (TP_i + TN_i) / samples_i over the classes that occur.

    The text defines ``samples_i`` as the samples within each category, while TN_i counts those of all others: as
    printed, the value rises above 1. It cannot be what was computed.
    """
    n = matrix.sum(1)
    return float(np.mean(_true_positives_and_negatives(matrix)[n > 0] / n[n > 0]))


def eq8_over_all(matrix: Floats) -> float:
    """Return Eq. 8-9 with all samples in the denominator: the mean accuracy of one class against the rest.

    It stays below 1, and above the share of right predictions: with K classes, chance is 1 - 2 (K - 1) / K**2.
    """
    n = matrix.sum(1)
    return float(np.mean(_true_positives_and_negatives(matrix)[n > 0] / matrix.sum()))


def _true_positives_and_negatives(matrix: Floats) -> Floats:
    """Return TP + TN of each class (K,)."""
    counts: Floats = matrix.sum() - matrix.sum(0) - matrix.sum(1) + 2 * np.diag(matrix)
    return counts


def accuracy(matrix: Floats) -> Floats:
    """Return the share of right predictions (...) of confusion matrices (..., K, K)."""
    share: Floats = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))
    return share


def balanced_accuracy(matrix: Floats) -> Floats:
    """Return the mean recall over the classes that occur (...) of confusion matrices (..., K, K)."""
    n = matrix.sum(-1)
    return _mean_over(n, _ratio(_diagonal(matrix), n))


def macro_f1(matrix: Floats) -> Floats:
    """Return the mean F1 over the classes that occur (...) of confusion matrices (..., K, K)."""
    return _mean_over(matrix.sum(-1), _class_f1(matrix))


def _weighted_f1(matrix: Floats) -> Floats:
    n = matrix.sum(-1)
    mean: Floats = (_class_f1(matrix) * n).sum(-1) / n.sum(-1)
    return mean


def _kappa(matrix: Floats) -> Floats:
    chance = (matrix.sum(-1) * matrix.sum(-2)).sum(-1) / matrix.sum((-2, -1)) ** 2
    return _ratio(accuracy(matrix) - chance, 1.0 - chance)


def _class_f1(matrix: Floats) -> Floats:
    return _ratio(2 * _diagonal(matrix), matrix.sum(-2) + matrix.sum(-1))


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return the ratio, 0 where the denominator is."""
    ratio: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
    return ratio


def _mean_over(n: Floats, value: Floats) -> Floats:
    mean: Floats = np.where(n > 0, value, 0.0).sum(-1) / (n > 0).sum(-1)
    return mean


SCORES_OF_COUNTS: Mapping[str, Callable[[Floats], Floats]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "weighted_f1": _weighted_f1,
    "macro_f1": macro_f1,
    "kappa": _kappa,
}
"""Scores (...) of confusion matrices (..., K, K), equal to those of ``compute_scores``."""


def calibration_bins(confidence: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> Floats:
    """Return for each bin the sums of confidences, right predictions and predictions, (3, CALIBRATION_BINS)."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    weights = (confidence, right, np.ones_like(confidence))
    return np.stack([np.bincount(bins, weight, CALIBRATION_BINS) for weight in weights])


def calibration_error_of_bins(bins: Floats) -> Floats:
    """Return the calibration error (...) of results of ``calibration_bins`` (..., 3, bins), or of sums of them."""
    error: Floats = np.abs(bins[..., 0, :] - bins[..., 1, :]).sum(-1) / bins[..., 2, :].sum(-1)
    return error


N_BOOTSTRAP = 1000
INTERVAL = (2.5, 97.5)  # percentiles: 95 %
SEVERAL_PEOPLE = 5  # with fewer the resamples of people are too few to say how people differ


def resampled_units(person: Labels, trial: Labels) -> tuple[str, Labels]:
    """Return over what intervals are, ``"people"`` or ``"trials"``, and the unit of each window (n,).

    Windows of one person are not independent, so that units are people where there are several. With fewer they are
    trials: such an interval holds for further trials of these people.
    """
    return ("people", person) if len(np.unique(person)) >= SEVERAL_PEOPLE else ("trials", trial)


def bootstrap_intervals(truth: Labels, probs: Floats, unit: Labels, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval over people or trials of each score in ``PLAIN_SCORES``, all from the same resamples.

    Args:
        truth: True classes (n,).
        probs: Probabilities (n, K).
        unit: Person or trial of each window (n,).
        seed: Of the resampling.
    """
    predicted, confidence = probs.argmax(1), probs.max(1)
    matrices = bootstrap(confusion_by_unit(truth, predicted, unit, probs.shape[1]), seed)
    of_units = [calibration_bins(confidence[mine], (predicted == truth)[mine]) for mine in _rows_by_unit(unit)]
    bins = bootstrap(np.stack(of_units), seed)
    found = {name: interval_of(score(matrices)) for name, score in SCORES_OF_COUNTS.items()}
    return {**found, "calibration_error": interval_of(calibration_error_of_bins(bins))}


def confusion_by_unit(truth: Labels, predicted: Labels, unit: Labels, n_classes: int) -> Floats:
    """Return the confusion matrix of each person or trial, in the order of their numbers, (units, K, K)."""
    _, number = np.unique(unit, return_inverse=True)
    matrices = np.zeros((int(number.max()) + 1, n_classes, n_classes))
    np.add.at(matrices, (number, truth, predicted), 1.0)
    return matrices


def _rows_by_unit(unit: Labels) -> list[npt.NDArray[np.int64]]:
    order = np.argsort(unit, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(unit[order])) + 1)


def bootstrap(of_units: Floats, seed: int = 0) -> Floats:
    """Return counts resampled over units with replacement, summed for each resample, (N_BOOTSTRAP, ...).

    Seed and number of units decide what is drawn: different counts of the same units have the same resamples.

    Args:
        of_units: Counts of each person or trial, (units, ...).
        seed: Of the resampling.
    """
    n = len(of_units)
    drawn = np.random.default_rng(seed).integers(n, size=(N_BOOTSTRAP, n))
    times = np.stack([np.bincount(units, minlength=n) for units in drawn])
    return np.tensordot(times, of_units, axes=1)


def interval_of(draws: Floats) -> tuple[float, float]:
    """Return the 95 % interval of resampled values (N_BOOTSTRAP,)."""
    low, high = np.percentile(draws, INTERVAL)
    return float(low), float(high)


def by_trial(truth: Labels, probs: Floats, trial: Labels) -> tuple[Labels, Floats, npt.NDArray[np.int64]]:
    """Return the predictions for whole trials: the mean of the log-probabilities over a trial's windows, normalized.

    A trial whose windows have several labels counts as one for each.

    Args:
        truth: True classes (n,).
        probs: Probabilities (n, K).
        trial: Trial of each window (n,).

    Returns:
        True classes (m,), probabilities (m, K), and the first window of each trial (m,).
    """
    _, first, number = np.unique(np.stack([trial, truth], axis=1), axis=0, return_index=True, return_inverse=True)
    total = np.zeros((len(first), probs.shape[1]))
    np.add.at(total, number.ravel(), np.log(np.maximum(probs, MIN_PROBABILITY)))
    mean = total / np.bincount(number.ravel())[:, None]
    likelihood = np.exp(mean - mean.max(1, keepdims=True))
    return truth[first], likelihood / likelihood.sum(1, keepdims=True), first


MIN_PROBABILITY = 1e-6  # of a class in a window; one window alone does not exclude a class for its trial


def permutation_p(
    shuffles: list[tuple[Labels, Labels, Labels, Labels]], n_permutations: int = 5000, seed: int = 0
) -> float:
    """Return the p value of the number of right predictions under random assignment of labels to units.

    Args:
        shuffles: For each shuffle of a split: truth, prediction, unit and block of its test windows, (n,) each. All
            windows of a unit (a trial, a stimulus) have one label and keep together; labels are permuted within a
            block only (a person, whose labels are balanced).
        n_permutations: Number of permutations.
        seed: Of the permutations.
    """
    rng = np.random.default_rng(seed)
    observed = sum(float((truth == predicted).mean()) for truth, predicted, _, _ in shuffles)
    permuted = np.zeros(n_permutations)
    for truth, predicted, unit, block in shuffles:
        _, first, inverse = np.unique(unit, return_index=True, return_inverse=True)
        label, block_of = truth[first], block[first]
        hits = np.zeros((len(first), int(max(truth.max(), predicted.max())) + 1))
        np.add.at(hits, (inverse, predicted), 1.0 / len(truth))
        for k in range(n_permutations):
            order = np.lexsort((rng.random(len(first)), block_of))
            permuted_label = np.empty_like(label)
            permuted_label[np.argsort(block_of, kind="stable")] = label[order]
            permuted[k] += hits[np.arange(len(first)), permuted_label].sum()
    return float((1 + np.sum(permuted >= observed - 1e-9)) / (1 + n_permutations))
