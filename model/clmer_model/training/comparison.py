"""One model, four splits, side by side: what it scores where it may recognise the trial, the person, the stimulus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clmer_model.training.examples import Examples
from clmer_model.training.learners import Learner, without_muscle
from clmer_model.training.metrics import CLASS_SCORES, Floats, Labels, confusion, intervals_of, scores_of
from clmer_model.training.protocols import PROTOCOLS, Protocol, Split, guard, why_not
from clmer_model.training.store import WindowStore

ROWS: Mapping[str, str] = {
    "all": "all modalities",
    "eeg": "EEG alone",
    "all_below_20_hz": "all, EEG above 20 Hz removed",
    "eeg_below_20_hz": "EEG alone, above 20 Hz removed",
}
"""What is scored: the model, and controls. Muscle reads the face: what EEG loses without it was not the brain's."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What was answered for the test windows of one shuffle."""

    truth: Labels  # (n,)
    probs: Floats  # (n, K)
    person: Labels  # (n,)
    rows: Labels  # (n,) of the store
    majority: float  # accuracy of always naming the most frequent class of the training side
    prior: float  # accuracy of drawing from the training side's shares of the classes

    @property
    def answer(self) -> Labels:
        """The most probable class of each window (n,)."""
        chosen: Labels = self.probs.argmax(1)
        return chosen


Asked = Callable[[Iterable[Split]], Iterable[Split]]
"""Wraps the splits, to show how far it is."""


def compare(
    store: WindowStore,
    splits: Mapping[Protocol, Sequence[Split]],
    learner: Learner,
    progress: Asked,
    controls: bool = True,
) -> dict[Protocol, dict[str, list[Answers]]]:
    """Return by protocol and row the answers of each shuffle.

    A model is trained anew for each, and with ``controls`` once more on EEG without what lies above 20 Hz.

    Args:
        store: The windows.
        splits: By protocol the shuffles of it.
        learner: What is trained.
        progress: Wraps all splits.
        controls: Whether to train without what muscles give to EEG, too.
    """
    answers: dict[Protocol, dict[str, list[Answers]]] = {protocol: {} for protocol in splits}
    slowed = controls and "eeg" in store.examples.series
    slow = without_muscle(store.examples, store.preprocess.signal.sfreq) if slowed else None
    for split in progress([split for shuffles in splits.values() for split in shuffles]):
        guard(split, store)
        for suffix, examples in (("", store.examples), ("_below_20_hz", slow)):
            if examples is not None:
                for row, answer in _ask(examples, split, learner, len(store.labels)).items():
                    answers[split.protocol].setdefault(row + suffix, []).append(answer)
    return answers


def _ask(examples: Examples, split: Split, learner: Learner, n_classes: int) -> dict[str, Answers]:
    train, validation, test = (examples.take(rows) for rows in split.sides.values())
    everything = tuple(examples.series)
    subsets = {"all": everything, **({"eeg": ("eeg",)} if "eeg" in everything else {})}
    given = learner.answer(train, validation, test, subsets)
    shares = np.bincount(train.label, minlength=n_classes) / len(train)
    answers = {}
    for name, probs in given.items():
        known = np.any([test.mask[modality].any(1) for modality in subsets[name]], axis=0)
        if known.any():
            truth = test.label[known]
            answers[name] = Answers(
                truth=truth,
                probs=probs[known],
                person=test.person[known],
                rows=split.test[known],
                majority=float((truth == shares.argmax()).mean()),
                prior=float(shares[truth].mean()),
            )
    return answers


def summary(
    store: WindowStore, answers: Mapping[Protocol, Mapping[str, Sequence[Answers]]], seed: int = 0
) -> dict[str, Any]:
    """Return by protocol what every row scored, or why it cannot be computed, as plain JSON values.

    All four protocols stand in it, whatever was asked for: the score of random windows is never there alone.
    """
    plain: dict[str, Any] = {}
    for protocol, title in PROTOCOLS.items():
        rows = answers.get(protocol, {})
        reason = why_not(store, protocol) or ("" if rows else "not computed")
        plain[protocol] = {"title": title, "reason": reason} | (
            {} if reason else {"rows": {name: _row(shuffles, store.labels, seed) for name, shuffles in rows.items()}}
        )
    return plain


def _row(shuffles: Sequence[Answers], labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Return mean and SD over the shuffles of every score, and intervals over the people of all of them.

    Calibration errors shrink where windows are put together: their mean may lie above the interval.
    """
    found = [{**scores_of(one.truth, one.probs), "majority": one.majority, "prior": one.prior} for one in shuffles]
    values = {name: [scores[name] for scores in found] for name in found[0]}
    truth, probs, person = (
        np.concatenate(parts) for parts in zip(*((one.truth, one.probs, one.person) for one in shuffles), strict=True)
    )
    n_people = len(np.unique(person))
    intervals = intervals_of(truth, probs, person, seed) if n_people > 1 else {}  # one person alone has none
    matrix = confusion(truth, probs.argmax(1), len(labels))
    return {
        "mean": {name: round(float(np.mean(parts)), 4) for name, parts in values.items()},
        "sd": {name: round(float(np.std(parts)), 4) for name, parts in values.items()},
        "shuffles": {name: [round(part, 4) for part in parts] for name, parts in values.items()},
        "interval": {name: [round(edge, 4) for edge in edges] for name, edges in intervals.items()},
        "classes": _classes(matrix, labels),
        "confusion": matrix.astype(int).tolist(),
        "n_windows": [len(one.truth) for one in shuffles],
        "n_people": n_people,
    }


def _classes(matrix: Floats, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 of each class over all shuffles together."""
    values = {name: value(matrix) for name, value in CLASS_SCORES.items()}
    return {label: {name: round(float(of[k]), 4) for name, of in values.items()} for k, label in enumerate(labels)}
