"""Class labels, and what class probabilities say about valence and arousal.

A label of the two-dimensional scheme spells its levels: ``LVHA`` is low valence and high arousal, ``HV`` is
high valence, ``MVLA`` medium valence and low arousal. Other labels carry no valence or arousal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LABELS_VA4 = ("LVLA", "LVHA", "HVLA", "HVHA")
"""Quadrants; the index is ``2 * V + A`` with V, A in 0 (low), 1 (high)."""

BIN_CENTRES = {"L": 2.0, "M": 4.5, "H": 7.5}
"""Centres of the rating bins [1, 3), [3, 6), [6, 9] of the nine-class scheme (paper, section on DEAP)."""

_LABEL = re.compile(r"(?:(?P<V>[LMH])V)?(?:(?P<A>[LMH])A)?")


@dataclass(frozen=True, slots=True)
class Affect:
    """Valence and arousal; None where the labels do not speak of it."""

    valence: float | None
    arousal: float | None


def affect(labels: Sequence[str], probs: Sequence[float]) -> Affect:
    """Return valence and arousal of a distribution over classes.

    With two levels (low, high) the value is P(high), 0-1; with three it is the expected bin centre on the
    rating scale, 1-9.

    Args:
        labels: Class names in the model's order.
        probs: Their probabilities, which sum to one.
    """
    return Affect(valence=_dimension(labels, probs, "V"), arousal=_dimension(labels, probs, "A"))


def _dimension(labels: Sequence[str], probs: Sequence[float], name: str) -> float | None:
    matches = [_LABEL.fullmatch(label) for label in labels]
    levels = [match.group(name) if match else None for match in matches]
    if not levels or None in levels:
        return None
    weighted = list(zip([str(level) for level in levels], probs, strict=True))
    if "M" in levels:
        return sum(BIN_CENTRES[level] * p for level, p in weighted)
    return sum(p for level, p in weighted if level == "H")
