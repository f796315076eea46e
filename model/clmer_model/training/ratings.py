"""From ratings of valence and arousal, 1 to 9, to the class labels of ``clmer_model.labels``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from clmer_model.labels import LABELS_VA4

LOWEST, HIGHEST = 1.0, 9.0
HIGH_ABOVE = 5.0  # of two levels: the middle of the scale is low (DEAP's authors cut there, too)
MEDIUM_FROM, HIGH_FROM = 3.0, 6.0  # of three levels: [1, 3) low, [3, 6) medium, [6, 9] high (paper, section on DEAP)

LABELS_VA9 = tuple(f"{v}V{a}A" for v in "LMH" for a in "LMH")
"""The paper's nine classes of DEAP; the index is ``3 * V + A``."""

_KNOWN_ORDERS = (LABELS_VA4, LABELS_VA9, ("LV", "HV"), ("LA", "HA"))


def _two(rating: float) -> str:
    return "H" if rating > HIGH_ABOVE else "L"


def _three(rating: float) -> str:
    if rating < MEDIUM_FROM:
        return "L"
    return "H" if rating >= HIGH_FROM else "M"


SCHEMES: dict[str, Callable[[float, float], str]] = {
    "va4": lambda valence, arousal: f"{_two(valence)}V{_two(arousal)}A",
    "va9": lambda valence, arousal: f"{_three(valence)}V{_three(arousal)}A",
    "v2": lambda valence, arousal: f"{_two(valence)}V",
    "a2": lambda valence, arousal: f"{_two(arousal)}A",
}
"""How a pair of ratings becomes a label: valence first."""


def ordered_labels(found: Iterable[str]) -> tuple[str, ...]:
    """Return the class order of the labels that occur: quadrants and levels as the model has them, others by name."""
    labels = set(found)
    return next((known for known in _KNOWN_ORDERS if labels <= set(known)), tuple(sorted(labels)))
