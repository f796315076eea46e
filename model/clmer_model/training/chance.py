"""Whether answers are better than chance, by a permutation test that fits the split."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clmer_model.training.comparison import Answers
from clmer_model.training.metrics import permutation_p
from clmer_model.training.protocols import Protocol, groups_of
from clmer_model.training.store import WindowStore


def p_of_chance(store: WindowStore, protocol: Protocol, shuffles: Iterable[Answers]) -> float:
    """Return how probable so many right answers are if labels had nothing to do with the signals.

    Whole trials change labels, within each person. Where stimuli are unseen, whole stimuli change labels: their
    windows may be alike for another reason than emotion.
    """
    dealt = []
    for one in shuffles:
        unit = groups_of(store, "stimuli" if protocol == "stimuli" else "trial")[one.rows]
        block = np.zeros_like(one.person) if protocol == "stimuli" else one.person
        dealt.append((one.truth, one.answer, unit, block))
    return permutation_p(dealt)
