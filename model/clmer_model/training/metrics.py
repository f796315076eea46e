"""Scores of a classifier, with intervals over people: windows of one person are not independent."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

N_BOOTSTRAP = 1000
INTERVAL = (2.5, 97.5)  # percentiles: 95 %


@dataclass(frozen=True)
class Scores:
    """How often a model was right. Every value is 0-1."""

    accuracy: float
    balanced_accuracy: float  # mean over the classes that occur of their recall
    macro_f1: float  # mean over the classes that occur of their F1
    interval: tuple[float, float]  # 95 %, of the accuracy, bootstrap over people
    majority: float  # accuracy of always naming the most frequent class of the training people
    n_windows: int
    n_people: int

    def to_dict(self) -> dict[str, float | int | list[float]]:
        """Return plain JSON values, rounded to four digits."""
        plain = {name: round(value, 4) for name, value in asdict(self).items() if name != "interval"}
        return {**plain, "interval": [round(value, 4) for value in self.interval]}


def score(truth: Labels, answer: Labels, person: Labels, majority_class: int, seed: int = 0) -> Scores:
    """Return the scores of answers (n,) against the truth (n,), windows of ``person`` (n,)."""
    right = truth == answer
    return Scores(
        accuracy=float(right.mean()),
        balanced_accuracy=balanced_accuracy(truth, answer),
        macro_f1=macro_f1(truth, answer),
        interval=people_interval(right, person, seed),
        majority=float((truth == majority_class).mean()),
        n_windows=len(truth),
        n_people=len(np.unique(person)),
    )


def balanced_accuracy(truth: Labels, answer: Labels) -> float:
    """Return the mean recall over the classes that occur."""
    return float(np.mean([(answer[truth == k] == k).mean() for k in np.unique(truth)]))


def macro_f1(truth: Labels, answer: Labels) -> float:
    """Return the mean over the classes that occur of 2PR / (P + R)."""
    values = []
    for k in np.unique(truth):
        hits = int(((truth == k) & (answer == k)).sum())
        values.append(2 * hits / int((truth == k).sum() + (answer == k).sum()))
    return float(np.mean(values))


def people_interval(right: npt.NDArray[np.bool_], person: Labels, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy when people are drawn again with replacement."""
    numbers = np.unique(person)
    hits = np.array([right[person == number].sum() for number in numbers])
    counts = np.array([(person == number).sum() for number in numbers])
    drawn = np.random.default_rng(seed).integers(len(numbers), size=(N_BOOTSTRAP, len(numbers)))
    low, high = np.percentile(hits[drawn].sum(1) / counts[drawn].sum(1), INTERVAL)
    return float(low), float(high)
