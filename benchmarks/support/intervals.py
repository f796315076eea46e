"""Scores with bootstrap intervals over people, or over blocks of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clmer_model.training.evaluate import INTERVAL, Floats

N_DRAWS = 5000


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval when people are resampled with replacement."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference(Figure):
    """A difference of two values between 0 and 1; printed in percentage points."""

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def figure(score: Callable[[Floats], Floats], matrices: Floats) -> Figure:
    """Return the score of confusion matrices (people, K, K)."""
    return Figure(*_bootstrap(lambda people: float(score(matrices[people].sum(0))), len(matrices)))


def paired(score: Callable[[Floats], Floats], ours: Floats, theirs: Floats) -> Difference:
    """Return the difference of a score between two sets of matrices of the same people in the same order."""

    def difference(people: Any) -> float:
        return float(score(ours[people].sum(0)) - score(theirs[people].sum(0)))

    return Difference(*_bootstrap(difference, len(ours)))


def _bootstrap(value: Callable[[Any], float], n: int) -> tuple[float, float, float]:
    """Return the value of all n, and its 95 % interval."""
    drawn = np.random.default_rng(0).integers(n, size=(N_DRAWS, n))
    low, high = np.percentile([value(people) for people in drawn], INTERVAL)
    return value(np.arange(n)), float(low), float(high)
