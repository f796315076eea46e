"""Scores of a model: predictions by subset of modalities, calibration, metrics, intervals and a permutation test.

``evaluate`` and ``fit_temperature`` take a model; below them stand the metrics of a confusion matrix (the paper's Eq.
8-13 among them), the calibration error, and the statistics over people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
EVALUATION_BATCH = 256
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 4.0


def evaluate(
    model: Clmer, examples: Examples, majority_class: int, subsets: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return the scores of each subset of modalities, as plain JSON values rounded to four digits.

    Windows in which a subset has nothing measured are not scored for it, and a subset without any is left out.
    ``interval`` is that of the accuracy.

    Args:
        model: Trained and calibrated.
        examples: Windows of the test set.
        majority_class: The most frequent class of the training set.
        subsets: Modalities that are not masked, by name; None: all subsets that are scored.

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
        interval = bootstrap_intervals(part.label, probs, part.person)["accuracy"]
        scores[subset] = {
            **{name: round(found[name], 4) for name in PLAIN_SCORES},
            "interval": [round(edge, 4) for edge in interval],
            "majority": round(float((part.label == majority_class).mean()), 4),
            "mean_confidence": round(float(probs.max(1).mean()), 4),
            "n_windows": len(part),
            "n_people": len(np.unique(part.person)),
        }
    return scores


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


def fit_temperature(model: Clmer, examples: Examples, subsets: Mapping[str, Sequence[str]] | None = None) -> float:
    """Set the model's temperature to the one of least cross-entropy on these examples, and return it.

    The subsets of modalities have equal weights, because one temperature serves them all.

    Args:
        model: Trained; its temperature is replaced.
        examples: Windows of the validation set.
        subsets: Modalities that are not masked, by name; None: all subsets that are scored.
    """
    model.temperature.fill_(1.0)
    truth = torch.from_numpy(examples.label)
    logits = [predict_logits(model, examples, names) for names in (subsets or scored_subsets(model)).values()]
    grid = torch.logspace(np.log10(MIN_TEMPERATURE), np.log10(MAX_TEMPERATURE), 121)
    losses = [sum(F.cross_entropy(part / t, truth).item() for part in logits) for t in grid]
    best = float(grid[int(np.argmin(losses))])
    model.temperature.fill_(best)
    return best


def confusion(truth: Labels, predicted: Labels, n_classes: int) -> Floats:
    """Return the confusion matrix (K, K): how many windows of each class (row) were given each prediction (column)."""
    matrix = np.zeros((n_classes, n_classes))
    np.add.at(matrix, (truth, predicted), 1.0)
    return matrix


def accuracy(matrix: Floats) -> float:
    """Return the share of right predictions."""
    return float(np.trace(matrix) / matrix.sum())


def balanced_accuracy(matrix: Floats) -> float:
    """Return the mean recall over the classes that occur."""
    n = matrix.sum(1)
    return float(np.mean(np.diag(matrix)[n > 0] / n[n > 0]))


def class_precision(matrix: Floats) -> Floats:
    """Return the precision of each class (K,) (paper, Eq. 11); 0 where it is never predicted."""
    return _share(np.diag(matrix), matrix.sum(0))


def class_recall(matrix: Floats) -> Floats:
    """Return the recall of each class (K,) (paper, Eq. 12); 0 where it does not occur."""
    return _share(np.diag(matrix), matrix.sum(1))


def class_f1(matrix: Floats) -> Floats:
    """Return the F1 of each class (K,), 2PR / (P + R) (paper, Eq. 10); 0 where it has no right prediction."""
    return _share(2 * np.diag(matrix), matrix.sum(0) + matrix.sum(1))


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return share


CLASS_SCORES: Mapping[str, Callable[[Floats], Floats]] = {
    "precision": class_precision,
    "recall": class_recall,
    "f1": class_f1,
}
"""Scores (K,) of single classes, each computed from a confusion matrix."""


def macro_f1(matrix: Floats) -> float:
    """Return the mean F1 over the classes that occur."""
    return float(np.mean(class_f1(matrix)[matrix.sum(1) > 0]))


def weighted_f1(matrix: Floats) -> float:
    """Return the mean F1 weighted by the number of windows of each class (paper, Eq. 13)."""
    n = matrix.sum(1)
    return float(np.sum(class_f1(matrix) * n) / n.sum())


def kappa(matrix: Floats) -> float:
    """Return Cohen's kappa, the agreement beyond chance; 0 where chance alone would always agree."""
    total = matrix.sum()
    chance = float(np.sum(matrix.sum(0) * matrix.sum(1)) / total**2)
    return 0.0 if chance == 1.0 else (accuracy(matrix) - chance) / (1.0 - chance)


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


MATRIX_SCORES: Mapping[str, Callable[[Floats], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "weighted_f1": weighted_f1,
    "macro_f1": macro_f1,
    "kappa": kappa,
    "eq8_as_printed": eq8_as_printed,
    "eq8_over_all": eq8_over_all,
}
"""Scores computed from a confusion matrix. ``weighted_f1`` is the paper's Eq. 10-13."""


PLAIN_SCORES = ("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "kappa", "calibration_error")
"""Scores by which a model is judged: all but the paper's Eq. 8-9, which are reported for comparison with it alone."""


def compute_scores(truth: Labels, probs: Floats) -> dict[str, float]:
    """Return every score of probabilities (n, K) against the true classes (n,): matrix scores and calibration error.

    Example::

        compute_scores(np.array([0, 1]), np.array([[0.9, 0.1], [0.4, 0.6]]))["accuracy"]  # 1.0
    """
    predicted = probs.argmax(1)
    matrix = confusion(truth, predicted, probs.shape[1])
    found = {name: value(matrix) for name, value in MATRIX_SCORES.items()}
    return {**found, "calibration_error": calibration_error(probs.max(1), predicted == truth)}


CALIBRATION_BINS = 10


def calibration_error(confidence: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error (Guo et al. 2017) of confidences (n,) over ten equal bins.

    Args:
        confidence: Probabilities of the predicted classes (n,).
        right: Whether each prediction is right (n,).
    """
    return calibration_error_of_bins(calibration_bins(confidence, right))


def calibration_bins(confidence: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> Floats:
    """Return for each bin the sums of confidences, right predictions and predictions, (3, CALIBRATION_BINS)."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    weights = (confidence, right, np.ones_like(confidence))
    return np.stack([np.bincount(bins, weight, CALIBRATION_BINS) for weight in weights])


def calibration_error_of_bins(bins: Floats) -> float:
    """Return the expected calibration error of the result of ``calibration_bins``, or of a sum of several."""
    return float(np.abs(bins[0] - bins[1]).sum() / bins[2].sum())


N_BOOTSTRAP = 1000
INTERVAL = (2.5, 97.5)  # percentiles: 95 %


def bootstrap_intervals(truth: Labels, probs: Floats, person: Labels, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval over people of each score in ``PLAIN_SCORES``, all from the same resamples.

    Args:
        truth: True classes (n,).
        probs: Probabilities (n, K).
        person: Person of each window (n,).
        seed: Of the resampling.
    """
    predicted, confidence = probs.argmax(1), probs.max(1)
    matrices = bootstrap(confusion_by_person(truth, predicted, person, probs.shape[1]), seed)
    of_people = [calibration_bins(confidence[mine], (predicted == truth)[mine]) for mine in _rows_by_person(person)]
    bins = bootstrap(np.stack(of_people), seed)
    known = [name for name in PLAIN_SCORES if name in MATRIX_SCORES]
    found = {name: _interval(MATRIX_SCORES[name], matrices) for name in known}
    return {**found, "calibration_error": _interval(calibration_error_of_bins, bins)}


def confusion_by_person(truth: Labels, predicted: Labels, person: Labels, n_classes: int) -> Floats:
    """Return the confusion matrix of each person, (people, K, K)."""
    return np.stack([confusion(truth[mine], predicted[mine], n_classes) for mine in _rows_by_person(person)])


def _rows_by_person(person: Labels) -> list[npt.NDArray[np.bool_]]:
    return [person == p for p in np.unique(person)]


def bootstrap(of_people: Floats, seed: int = 0) -> Floats:
    """Return counts resampled over people with replacement, summed for each resample, (N_BOOTSTRAP, ...).

    Seed and number of people decide who is drawn: different counts of the same people have the same resamples.

    Args:
        of_people: Counts of each person, (people, ...).
        seed: Of the resampling.
    """
    n = len(of_people)
    drawn = np.random.default_rng(seed).integers(n, size=(N_BOOTSTRAP, n))
    times = np.stack([np.bincount(people, minlength=n) for people in drawn])
    return np.tensordot(times, of_people, axes=1)


def _interval(value: Callable[[Floats], float], draws: Floats) -> tuple[float, float]:
    low, high = np.percentile([value(counts) for counts in draws], INTERVAL)
    return float(low), float(high)


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
