"""Conformal prediction sets: the classes that an answer does not exclude, at a stated coverage. No torch here.

A set holds every class whose probability is at least ``1 - threshold``, and always the most probable one (Sadinle, Lei
and Wasserman 2019, least ambiguous sets). The threshold is a quantile of ``1 - p(true class)`` over windows that the
model was not trained on. Windows of a person are not independent: people are the exchangeable unit, and every person
counts alike (Lee, Barber and Willett 2023, hierarchical conformal prediction). A window of a further person like them
then has its true class in the set with at least the stated probability. That is no promise for any one person, nor for
people of another kind. Temperature and epoch are chosen on the same windows, which makes the sets a little too small.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import ArtifactError

COVERAGE = 0.9
"""Share of windows whose true class is to be in the set."""

Unit = Literal["people", "trials"]

_FACE = frozenset({"landmarks", "aus"})


@dataclass(frozen=True)
class ConformalSets:
    """Thresholds of the sets, by subset of modalities."""

    coverage: float  # above 0 and below 1
    unit: Unit  # what is exchangeable: people, or trials of people whom the model was trained on
    n_units: int  # that the thresholds are from
    thresholds: Mapping[str, float]  # by subset: ``all``, ``eeg``, ``face``; 1: no class is ever excluded

    def prediction_set(
        self, probs: Mapping[str, float], used: Collection[str], modalities: Collection[str]
    ) -> tuple[str, ...]:
        """Return the classes that are not excluded, the most probable one first.

        Args:
            probs: Probabilities by class.
            used: Modalities that the window had.
            modalities: Those of the model.
        """
        threshold = self.thresholds.get(_subset(used, modalities), max(self.thresholds.values(), default=1.0))
        ordered = sorted(probs, key=lambda label: -probs[label])
        return tuple(label for k, label in enumerate(ordered) if k == 0 or 1.0 - probs[label] <= threshold)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "coverage": self.coverage,
            "unit": self.unit,
            "n_units": self.n_units,
            "thresholds": dict(self.thresholds),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ConformalSets:
        """Return what ``to_dict`` wrote.

        Raises:
            ArtifactError: A field is missing or out of range.
        """
        try:
            sets = cls(
                coverage=float(plain["coverage"]),
                unit=plain["unit"],
                n_units=int(plain["n_units"]),
                thresholds={str(name): float(value) for name, value in plain["thresholds"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError("conformal sets", repr(error), "export the model again") from error
        inside = all(0.0 <= value <= 1.0 for value in sets.thresholds.values())
        if not (0.0 < sets.coverage < 1.0 and sets.unit in ("people", "trials") and sets.thresholds and inside):
            raise ArtifactError("conformal sets with thresholds of 0 to 1", f"{plain}", "export the model again")
        return sets


def _subset(used: Collection[str], modalities: Collection[str]) -> str:
    if set(used) == set(modalities):
        return "all"
    return "eeg" if set(used) == {"eeg"} else "face" if set(used) == _FACE else "another"


def pooled_threshold(scores: npt.NDArray[np.float64], unit: npt.NDArray[np.int64], coverage: float) -> float:
    """Return the threshold for which a window of a further unit is covered with at least this probability.

    The scores of m units are weighted so that each unit has 1 / (m + 1) in all, and the unit to come has the rest, at
    infinity: the threshold is the quantile of that distribution. With fewer than ``coverage / (1 - coverage)`` units it
    is 1, and nothing is excluded.

    Args:
        scores: One minus the probability of the true class, (n,), of windows that the model was not trained on.
        unit: Person or trial of each window (n,).
        coverage: Above 0 and below 1.

    Example::

        pooled_threshold(np.array([0.1, 0.5, 0.9]), np.arange(3), 0.75)  # 0.9
    """
    _, number, counts = np.unique(unit, return_inverse=True, return_counts=True)
    weight = 1.0 / (counts[number] * (len(counts) + 1.0))
    order = np.argsort(scores, kind="stable")
    reached = np.flatnonzero(np.cumsum(weight[order]) >= coverage - _ROUNDING)
    return min(1.0, float(scores[order[reached[0]]])) if len(reached) else 1.0


_ROUNDING = 1e-9  # of a sum of weights


@dataclass(frozen=True)
class Coverage:
    """How often the true class was in the set."""

    share: float  # of the windows, each person counting alike
    mean_size: float  # number of classes in a set
    by_person: Mapping[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the least covered person."""
        return {
            "share": round(self.share, 4),
            "mean_size": round(self.mean_size, 4),
            "least_of_a_person": round(min(self.by_person.values(), default=math.nan), 4),
            "by_person": {str(person): round(share, 4) for person, share in self.by_person.items()},
        }


def measure_coverage(
    probs: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], person: npt.NDArray[np.int64], threshold: float
) -> Coverage:
    """Return the coverage of windows (n, K) with these true classes (n,) and people (n,)."""
    rows = np.arange(len(truth))
    inside = 1.0 - probs <= threshold
    inside[rows, probs.argmax(1)] = True
    covered = inside[rows, truth]
    by_person = {int(who): float(covered[person == who].mean()) for who in np.unique(person)}
    return Coverage(float(np.mean(list(by_person.values()))), float(inside.sum(1).mean()), by_person)
