"""What the runs show: scores with intervals over people, and differences that are paired by person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from clmer_model.training.evaluate import INTERVAL, Floats, accuracy, macro_f1

MARGIN = 0.02
"""Of accuracy: the most that a network may lose against another and count as no worse; set before any training."""

N_DRAWS = 5000
SUBSETS = {"all": "all modalities", "eeg": "EEG alone", "face": "face alone"}
Part = Literal["validation", "test"]


@dataclass(frozen=True)
class Figure:
    """A value and the 95 % interval of it when people are drawn again with replacement."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self) -> str:
        """Return it as a difference in percentage points."""
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def matrices_of(results: Sequence[Mapping[str, Any]], part: Part, subset: str) -> Floats:
    """Return the confusion matrix of each person, summed over the seeds, (people, K, K)."""
    _check_people(results, part)
    total: Floats = np.sum([np.array(one[part][subset]["matrices"], dtype=np.float64) for one in results], axis=0)
    return total


def _check_people(results: Sequence[Mapping[str, Any]], part: Part) -> None:
    for subset in SUBSETS:
        people = [result[part][subset]["people"] for result in results]
        if any(one != people[0] for one in people):
            raise ValueError(f"expected the same people in every result, got {people}")


def figure(score: Callable[[Floats], float], matrices: Floats) -> Figure:
    """Return a score of matrices (people, K, K)."""
    return _figure(lambda people: score(matrices[people].sum(0)), len(matrices))


def paired(score: Callable[[Floats], float], ours: Floats, theirs: Floats) -> Figure:
    """Return by how much a score of ours is higher than of theirs; both of the same people in the same order."""
    return _figure(lambda people: score(ours[people].sum(0)) - score(theirs[people].sum(0)), len(ours))


def _figure(value: Callable[[Any], float], n: int) -> Figure:
    drawn = np.random.default_rng(0).integers(n, size=(N_DRAWS, n))
    low, high = np.percentile([value(people) for people in drawn], INTERVAL)
    return Figure(value(np.arange(n)), float(low), float(high))


def verdict(difference: Figure) -> str:
    """Return in words what the difference shows against the margin."""
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse" if difference.high < -MARGIN else "worse, perhaps by less than the margin"
    if difference.low > -MARGIN:
        return "no worse, within the margin"
    return "not decided"


def score_table(results: Mapping[str, Sequence[Mapping[str, Any]]], part: Part) -> str:
    """Return a row of scores for each network, in Markdown."""
    rows = [
        ["network", "parameters", *(f"{words}: accuracy" for words in SUBSETS.values()), "each seed", "macro F1", "ECE"]
    ]
    for name, runs in results.items():
        matrices = {subset: matrices_of(runs, part, subset) for subset in SUBSETS}
        seeds = [f"{accuracy(matrices_of([run], part, 'all').sum(0)):.3f}" for run in runs]
        ece = np.mean([run[part]["all"]["calibration_error"] for run in runs])
        scores = [str(figure(accuracy, of_people)) for of_people in matrices.values()]
        f1 = macro_f1(matrices["all"].sum(0))
        rows.append([name, f"{runs[0]['parameters']:,}", *scores, ", ".join(seeds), f"{f1:.3f}", f"{ece:.3f}"])
    return markdown(rows)


def difference_table(results: Mapping[str, Sequence[Mapping[str, Any]]], ours: str, part: Part) -> str:
    """Return a row for each other network: our accuracy minus its, in percentage points, in Markdown."""
    rows = [[f"{ours} minus", *SUBSETS.values(), f"all modalities, margin {100 * MARGIN:g} points"]]
    for name, runs in results.items():
        if name != ours:
            _check_people([*results[ours], *runs], part)
            differences = [
                paired(accuracy, matrices_of(results[ours], part, subset), matrices_of(runs, part, subset))
                for subset in SUBSETS
            ]
            rows.append([name, *(difference.signed() for difference in differences), verdict(differences[0])])
    return markdown(rows)


def training_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return a row for each network of how it was trained, in Markdown."""
    rows = [["network", "learning rate", "best epoch of each seed", "validation loss of each seed", "CPU s of a run"]]
    for name, runs in results.items():
        best = ", ".join(str(run["best_epoch"]) for run in runs)
        loss = ", ".join(f"{run['validation_loss']:.3f}" for run in runs)
        spent = float(np.mean([run["cpu_s"] for run in runs]))
        rows.append([name, f"{runs[0]['run']['rate']:g}", best, loss, f"{spent:.0f}"])
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
