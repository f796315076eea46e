"""Comparison of estimators over the folds of four kinds of split, as in ``clmer evaluate``.

``compare`` trains every estimator on every fold, with controls, ``summary`` scores the predictions and tells whether
the network beats the baselines, ``make_report`` and ``read_split_scores`` write the report and read it for an export.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import butter, sosfiltfilt

from clmer_model.checkpoint import Checkpoint
from clmer_model.data.examples import Examples
from clmer_model.data.store import WindowStore, check_classes
from clmer_model.training.config import TrainConfig, recipe_of
from clmer_model.training.estimators import BASELINES, Estimator
from clmer_model.training.evaluate import (
    PLAIN_SCORES,
    Floats,
    Labels,
    balanced_accuracy,
    balanced_accuracy_of,
    bootstrap,
    bootstrap_intervals,
    by_trial,
    class_scores,
    compute_scores,
    confusion,
    confusion_by_unit,
    interval_of,
    resampled_units,
)
from clmer_model.training.splits import (
    PROTOCOLS,
    Split,
    SplitKind,
    check_disjoint,
    reason_uncomputable,
    remarks,
)
from clmer_streaming.errors import DatasetError

NETWORK = "network"
"""The estimator that ``summary`` sets against all others, which are baselines."""


ROWS: Mapping[str, str] = {
    "all": "all modalities",
    "eeg": "EEG alone",
    "all_below_20_hz": "all, EEG above 20 Hz removed",
    "eeg_below_20_hz": "EEG alone, above 20 Hz removed",
}
"""Titles of what is scored: all that was measured, and controls. Muscle activity reflects the face: what EEG loses
without it did not come from the brain.
"""


Watch = Callable[[str, float], None]
"""Called with the name of an estimator and the share of all its work that it has done since the last call."""


def compare(
    store: WindowStore,
    splits: Mapping[SplitKind, Sequence[Split]],
    estimators: Mapping[str, Estimator],
    watch: Watch = lambda name, share: None,
    controls: bool = True,
) -> Predictions:
    """Return the predictions for each fold, by kind of split, estimator and row of ``ROWS``.

    An estimator is trained anew for each, and with ``controls`` once more on EEG without the range above 20 Hz.

    Args:
        store: The windows.
        splits: The folds of each kind of split.
        estimators: What is trained, by name.
        watch: Called as the work proceeds.
        controls: Whether to train without the range of muscle activity, too.

    Raises:
        DatasetError: Two sets of a split share a group that must be unseen, or there are no two classes.

    Example::

        store = open_store(Path("build/store"))
        splits = {"people": draw_folds(store, "people", seed=1)}
        lda = BaselineEstimator("lda", store.preprocess, len(store.labels))
        predictions = compare(store, splits, {"lda": lda})
        summary(store, predictions)["people"]["baselines"]["lda"]["all"]["mean"]["accuracy"]
    """
    check_classes(store)
    variants = [("", store.examples)]
    if controls and "eeg" in store.examples.series:
        variants.append(("_below_20_hz", without_muscle(store.examples, store.preprocess.signal.sfreq)))
    folds = [split for of_kind in splits.values() for split in of_kind]
    work = {name: [one.work(len(f.train), len(f.validation)) for f in folds] for name, one in estimators.items()}
    predictions: Predictions = {protocol: {name: {} for name in estimators} for protocol in splits}
    for number, split in enumerate(folds):
        check_disjoint(split, store)
        for suffix, examples in variants:
            for name, estimator in estimators.items():
                share = work[name][number] / sum(work[name]) / len(variants)
                advance = functools.partial(_advance, watch, name, share)
                found = _predict_fold(examples, split, estimator, len(store.labels), advance)
                for row, prediction in found.items():
                    predictions[split.protocol][name].setdefault(row + suffix, []).append(prediction)
    return predictions


def _advance(watch: Watch, name: str, share: float, part: float) -> None:
    watch(name, share * part)


def _predict_fold(
    examples: Examples, split: Split, estimator: Estimator, n_classes: int, advance: Callable[[float], None]
) -> dict[str, SplitPredictions]:
    train, validation, test = (examples.take(rows) for rows in split.by_set.values())
    everything = tuple(examples.series)
    subsets: dict[str, tuple[str, ...]] = {"all": everything}
    if "eeg" in everything and len(everything) > 1:
        subsets["eeg"] = ("eeg",)
    probabilities = estimator.fit_predict(train, validation, test, subsets, advance)
    shares = np.bincount(train.label, minlength=n_classes) / len(train)
    predictions = {}
    for name, probs in probabilities.items():
        known = np.any([test.mask[modality].any(1) for modality in subsets[name]], axis=0)
        if known.any():
            truth = test.label[known]
            predictions[name] = SplitPredictions(
                truth=truth,
                probs=probs[known],
                person=test.person[known],
                trial=test.trial[known],
                rows=split.test[known],
                majority=float((truth == shares.argmax()).mean()),
                prior=float(shares[truth].mean()),
            )
    return predictions


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """Predictions for the test windows of one fold, or of several joined."""

    truth: Labels  # (n,)
    probs: Floats  # (n, K)
    person: Labels  # (n,)
    trial: Labels  # (n,)
    rows: Labels  # (n,) of the store
    majority: float  # accuracy of always predicting the most frequent class of the training set
    prior: float  # accuracy of drawing from the class shares of the training set

    @property
    def predicted(self) -> Labels:
        """The most probable class of each window (n,)."""
        chosen: Labels = self.probs.argmax(1)
        return chosen

    def scores(self) -> dict[str, float]:
        """Return the scores of single windows, and those of the two guesses."""
        return {**compute_scores(self.truth, self.probs), "majority": self.majority, "prior": self.prior}


Predictions = dict[SplitKind, dict[str, dict[str, list[SplitPredictions]]]]
"""Predictions for each fold, by kind of split, estimator and row of ``ROWS``."""


def joined(folds: Sequence[SplitPredictions]) -> SplitPredictions:
    """Return the predictions of several folds as one."""
    n = [len(fold.truth) for fold in folds]
    return SplitPredictions(
        truth=np.concatenate([fold.truth for fold in folds]),
        probs=np.concatenate([fold.probs for fold in folds]),
        person=np.concatenate([fold.person for fold in folds]),
        trial=np.concatenate([fold.trial for fold in folds]),
        rows=np.concatenate([fold.rows for fold in folds]),
        majority=float(np.average([fold.majority for fold in folds], weights=n)),
        prior=float(np.average([fold.prior for fold in folds], weights=n)),
    )


def partitions(folds: Sequence[SplitPredictions]) -> list[SplitPredictions]:
    """Return the folds joined so that none of the results has a window twice: one for each repeated partition."""
    groups: list[list[SplitPredictions]] = []
    for fold in folds:
        if not groups or any(np.isin(fold.rows, other.rows).any() for other in groups[-1]):
            groups.append([])
        groups[-1].append(fold)
    return [joined(group) for group in groups]


MUSCLE_FREE_HZ = 20.0
"""Hz; above it lies most of what muscles of face and scalp give to EEG, as for ``muscle_share`` of a channel."""


def without_muscle(examples: Examples, sfreq: float) -> Examples:
    """Return the examples with EEG above 20 Hz removed (Butterworth filter of order 8, forward and backward)."""
    eeg = examples.series["eeg"]
    sos = butter(8, MUSCLE_FREE_HZ, output="sos", fs=sfreq)
    slow = np.concatenate([sosfiltfilt(sos, eeg[i : i + 256], axis=2) for i in range(0, len(eeg), 256)])
    slow = np.where(examples.mask["eeg"][..., None], slow, 0.0).astype(np.float32)
    return dataclasses.replace(examples, series={**examples.series, "eeg": slow})


def summary(store: WindowStore, predictions: Predictions, seed: int = 0) -> dict[str, Any]:
    """Return the scores of every row by kind of split, or why it cannot be computed, as plain JSON values.

    All four kinds are in the result, whatever was asked for: the score of random windows is never reported alone.

    Args:
        store: The windows.
        predictions: As ``compare`` returned them. ``rows`` of the result are those of ``NETWORK``, ``baselines`` those
            of all other estimators, ``verdicts`` the difference of the two.
        seed: Of the bootstrap.
    """
    plain: dict[str, Any] = {}
    for protocol, title in PROTOCOLS.items():
        found = predictions.get(protocol, {})
        reason = reason_uncomputable(store, protocol) or ("" if any(found.values()) else "not computed")
        plain[protocol] = {"title": title, "reason": reason}
        if reason:
            continue
        scored = {
            name: {row: _row(folds, store.labels, seed) for row, folds in rows.items()} for name, rows in found.items()
        }
        plain[protocol] |= {
            "remarks": remarks(store, protocol),
            "rows": scored.pop(NETWORK, {}),
            "baselines": scored,
            "verdicts": _verdicts(found, title, seed),
        }
    return plain


def _row(folds: Sequence[SplitPredictions], labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the scores of a partition's windows, SD over the folds, intervals over people or trials, and by trial.

    Every window of a partition is predicted once, so that its windows are scored together; over repeated partitions the
    scores are means.
    """
    whole, every = partitions(folds), joined(folds)
    of_folds = _by_score([fold.scores() for fold in folds])
    over, unit = resampled_units(every.person, every.trial)
    matrix = confusion(every.truth, every.predicted, len(labels))
    return {
        "mean": _means([one.scores() for one in whole]),
        "sd": {name: round(float(np.std(parts)), 4) for name, parts in of_folds.items()},
        "folds": {name: [round(part, 4) for part in parts] for name, parts in of_folds.items()},
        "interval": _rounded(bootstrap_intervals(every.truth, every.probs, unit, seed)),
        "interval_over": over,
        "by_trial": _trial_row(whole, seed),
        "classes": _classes(every, labels),
        "confusion": matrix.astype(int).tolist(),
        "n_windows": [len(fold.truth) for fold in folds],
        "n_people": len(np.unique(every.person)),
    }


def _trial_row(whole: Sequence[SplitPredictions], seed: int) -> dict[str, Any]:
    """Return the scores of whole trials, each predicted from all its tested windows."""
    scores, trials = [], []
    for one in whole:
        truth, probs, first = by_trial(one.truth, one.probs, one.trial)
        found = compute_scores(truth, probs)
        scores.append({name: found[name] for name in PLAIN_SCORES})
        trials.append((truth, probs, one.person[first], one.trial[first]))
    truth, probs, person, trial = (np.concatenate(parts) for parts in zip(*trials, strict=True))
    over, unit = resampled_units(person, trial)
    return {
        "mean": _means(scores),
        "interval": _rounded(bootstrap_intervals(truth, probs, unit, seed)),
        "interval_over": over,
        "n_trials": len(trials[0][0]),
    }


def _by_score(found: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {name: [scores[name] for scores in found] for name in found[0]}


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean(parts)), 4) for name, parts in _by_score(found).items()}


def _rounded(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: [round(edge, 4) for edge in edges] for name, edges in intervals.items()}


def _classes(every: SplitPredictions, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 of each class over all folds together."""
    values = class_scores(every.truth, every.predicted, len(labels))
    return {label: {name: round(float(of[k]), 4) for name, of in values.items()} for k, label in enumerate(labels)}


def _verdicts(
    found: Mapping[str, Mapping[str, Sequence[SplitPredictions]]], title: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Return for all modalities and EEG alone whether the network beats the best baseline; nothing without either."""
    baselines = [name for name in found if name != NETWORK]
    rows = [row for row in ("all", "eeg") if row in found.get(NETWORK, {})]
    return {
        row: verdict({name: joined(found[name][row]) for name in found}, title, seed, row) for row in rows if baselines
    }


def verdict(whole: Mapping[str, SplitPredictions], title: str, seed: int = 0, row: str = "all") -> dict[str, Any]:
    """Return whether the network beats the best baseline, with a sentence, as plain JSON values.

    Both are compared by balanced accuracy on the same windows. The interval is that of the difference when people, or
    trials where there are few people, are drawn with replacement, the same for both. The best of several baselines is
    the best on these windows, so that the network has to beat more than any one of them.

    Args:
        whole: Predictions of the same windows by ``NETWORK`` and of each baseline.
        title: Of the split.
        seed: Of the bootstrap.
        row: Of ``ROWS``, for the sentence.
    """
    scores = {name: balanced_accuracy_of(one.truth, one.predicted) for name, one in whole.items()}
    best = max((name for name in whole if name != NETWORK), key=lambda name: scores[name])
    network, baseline = whole[NETWORK], whole[best]
    over, unit = resampled_units(network.person, network.trial)
    n_classes = network.probs.shape[1]
    ours, theirs = (
        balanced_accuracy(bootstrap(confusion_by_unit(one.truth, one.predicted, unit, n_classes), seed))
        for one in (network, baseline)
    )
    difference, (low, high) = scores[NETWORK] - scores[best], interval_of(ours - theirs)
    outcome = "beats" if low > 0 else "is worse than" if high < 0 else "does not differ from"
    sentence = (
        f"{title}, {ROWS[row]}: the network ({scores[NETWORK]:.3f}) {outcome} the best baseline, "
        f"{BASELINES.get(best, best)} ({scores[best]:.3f}): {difference:+.3f} of balanced accuracy, "
        f"95 % interval {low:+.3f} to {high:+.3f} over {len(np.unique(unit))} {over}"
    )
    return {
        "outcome": outcome,
        "baseline": best,
        "difference": round(difference, 4),
        "interval": [round(low, 4), round(high, 4)],
        "interval_over": over,
        "sentence": sentence,
    }


REPORT_NAME = "report.json"
"""What ``clmer evaluate`` writes; in the folder of a checkpoint, ``clmer export`` takes it up."""


BASELINE_PRESET = "baselines"
"""The preset of a report on the baselines alone."""


_KEPT = ("mean", "sd", "interval", "interval_over", "n_windows", "n_people")
_CHANCE = ("seed", "mixed_precision")  # what changes the figures, but not the recipe


def make_report(store: WindowStore, splits: Mapping[str, Any], config: TrainConfig | None, seed: int) -> dict[str, Any]:
    """Return a report as plain JSON values.

    Args:
        store: The windows.
        splits: As ``summary`` returned them.
        config: Settings of the network that was trained for every fold; None: the baselines alone.
        seed: Of the splits.
    """
    recipe = {} if config is None else {"recipe": {**recipe_of(config, store.key), "dims": config.dims.to_dict()}}
    return {
        "store": store.key,
        "trained_on": store.trained_on,
        "labels": list(store.labels),
        "preset": BASELINE_PRESET if config is None else config.preset,
        "seed": seed,
        **recipe,
        "splits": dict(splits),
    }


def read_split_scores(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the scores in a report that a model file keeps, as plain JSON values.

    Args:
        path: The report.
        checkpoint: The model, which must have been trained by the same recipe on the same data.

    Raises:
        DatasetError: There is no such report, or it belongs to another recipe or other data.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        stated = report["recipe"] if report["preset"] != BASELINE_PRESET else {"preset": BASELINE_PRESET}
        labels = tuple(report["labels"])
        splits = {protocol: _brief(split) for protocol, split in report["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"a report of clmer evaluate in {path}", str(error), "run clmer evaluate again") from error
    own = json.loads(json.dumps({**checkpoint.training, "dims": checkpoint.dims.to_dict()}))
    others = sorted(_differences(stated, {name: own.get(name) for name in stated}))
    if others or labels != checkpoint.labels:
        raise DatasetError(
            expected="a report of the recipe and the data that made the model",
            found=f"{path} with other {', '.join(others) or 'labels'}",
            mend="run clmer evaluate on the same store with the options of clmer train, or move the report away",
        )
    return splits


def _brief(split: Mapping[str, Any]) -> dict[str, Any]:
    rows = {name: {key: row[key] for key in _KEPT} for name, row in split.get("rows", {}).items()}
    verdicts = {name: verdict["sentence"] for name, verdict in split.get("verdicts", {}).items()}
    kept = {name: values for name, values in (("rows", rows), ("verdicts", verdicts)) if values}
    return {"title": split["title"], "reason": split["reason"], **kept}


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Yield the names of the differences between two trees of plain values, except those of ``_CHANCE``."""
    for name in one.keys() | other.keys():
        mine, theirs = one.get(name), other.get(name)
        if name in _CHANCE or mine == theirs:
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{place}{name}.")
        else:
            yield f"{place}{name}"
