"""The expressions that simulated people have, as data: which action units they join, and how strongly.

Action units of the emotions follow the prototypes of FACS (Ekman, Friesen and Hager 2002, Investigator's Guide)
and of EMFACS (Friesen and Ekman 1983). Laughter is the Duchenne display with an open mouth and narrowed lids
(Ruch and Ekman 2001). Weeping has the lids pressed together, the nose wrinkled, the chin raised and the mouth
stretched (the cry face of Messinger et al. 2012 for infants, with the raised chin of adults).
Gains are our own: points of drive per unit, so that the leading units of an expression reach about 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.types import FloatArray

DRIVES = ("pleasant", "unpleasant", "alert")
"""What emotion moves: valence up, valence down, arousal up."""

CONCENTRATION = 4.0  # of the Dirichlet distribution of habits: lower makes people differ more


@dataclass(frozen=True)
class Expression:
    """Action units that move together, and what moves them."""

    name: str
    drive: str  # one of DRIVES
    share: float  # mean over people of how often the drive takes this expression
    gains: Mapping[str, float]  # action unit -> intensity per unit of drive


REPERTOIRE = (
    Expression("smile", "pleasant", 0.6, {"AU06": 0.75, "AU12": 1.0}),
    Expression("laughter", "pleasant", 0.4, {"AU06": 0.9, "AU07": 0.5, "AU12": 1.1, "AU25": 0.7, "AU26": 0.4}),
    Expression("sadness", "unpleasant", 0.45, {"AU01": 0.6, "AU04": 0.8, "AU15": 0.9, "AU17": 0.6}),
    Expression(
        "weeping",
        "unpleasant",
        0.25,
        {
            "AU04": 0.8, "AU06": 0.6, "AU07": 0.7, "AU09": 1.1, "AU10": 0.9, "AU12": 0.3, "AU15": 0.4,
            "AU17": 1.1, "AU20": 0.5, "AU45": 1.4,
        },
    ),
    Expression("disgust", "unpleasant", 0.15, {"AU04": 0.5, "AU09": 1.0, "AU10": 0.9, "AU15": 0.4, "AU17": 0.6}),
    Expression("anger", "unpleasant", 0.15, {"AU04": 1.0, "AU07": 0.7, "AU17": 0.3, "AU23": 0.8}),
    Expression("surprise", "alert", 1.0, {"AU01": 0.6, "AU02": 0.6, "AU05": 0.8, "AU25": 0.9, "AU26": 0.45}),
)  # fmt: skip
"""All expressions that follow emotion."""

IDLE_GAINS: Mapping[str, float] = {
    "AU01": 0.35, "AU02": 0.35, "AU07": 0.35, "AU09": 0.15, "AU10": 0.25,
    "AU14": 0.3, "AU17": 0.35, "AU20": 0.2, "AU23": 0.25,
}  # fmt: skip
"""Action units that also come and go by themselves, with their gain."""

SPEECH_OPEN: Mapping[str, float] = {"AU25": 2.2, "AU26": 1.0, "AU10": 0.4}
SPEECH_CLOSED: Mapping[str, float] = {"AU17": 0.6}
"""Points of intensity while speech opens the mouth and while it closes it; speech follows no emotion."""


def draw_habits(rng: np.random.Generator) -> FloatArray:
    """Return how often one person's drives take each expression, (len(REPERTOIRE),), summing to 1 for each drive."""
    habits = np.zeros(len(REPERTOIRE))
    for drive in DRIVES:
        members = [k for k, expression in enumerate(REPERTOIRE) if expression.drive == drive]
        habits[members] = rng.dirichlet(CONCENTRATION * np.asarray([REPERTOIRE[k].share for k in members]))
    return habits


def choose(rng: np.random.Generator, habits: FloatArray, drive: str, n: int) -> FloatArray:
    """Return the gains (17, n) of ``n`` expressions, taken at random by a person's habits for one drive."""
    members = [k for k, expression in enumerate(REPERTOIRE) if expression.drive == drive]
    table = np.stack([gain_row(REPERTOIRE[k].gains) for k in members], axis=1)
    return table[:, rng.choice(len(members), size=n, p=habits[members])]


def gain_row(gains: Mapping[str, float]) -> FloatArray:
    """Return values by action unit as an array (17,) in the order of AU_NAMES, 0 where none is given."""
    return np.asarray([gains.get(au, 0.0) for au in AU_NAMES])
