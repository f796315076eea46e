"""Whether the face that was found again is still the same person's, from the proportions of its bones.

A mesh knows little of a person: on sample videos these proportions differ between two people by 2 to 3.5 of the
units below (median), and by 1.1 within one person. A change of person is noticed more often than not, and one
return of the same person in twenty is taken for a change. Nobody can be recognised by these numbers.
"""

from __future__ import annotations

import math

import numpy as np

from clmer_streaming.types import FloatArray

_FROM = [168, 168, 10, 21]  # bridge to the nose's tip, to its base; forehead to bridge; temple to temple
_TO = [4, 2, 168, 251]
_EYES = (33, 263)
_SHAPE_SD = np.array([0.019, 0.019, 0.018, 0.033])  # of each ratio within a person who talks and turns

SAME_PERSON = 2.0
"""Proportions that differ by more than this belong to two people."""

N_TRIAL = 8
"""Frames that are looked at before a face that was found again is judged."""


def face_shape(points: FloatArray) -> FloatArray:
    """Return four lengths of an aligned mesh (478, 3), over the distance between the outer eye corners, (4,)."""
    lengths = np.linalg.norm(points[_FROM] - points[_TO], axis=1)
    shape: FloatArray = lengths / math.dist(points[_EYES[0]], points[_EYES[1]])
    return shape


def shape_distance(a: FloatArray, b: FloatArray) -> float:
    """Return how far two shapes (4,) lie apart: root mean square of the differences, in SDs within a person."""
    return float(np.sqrt(np.mean(((a - b) / _SHAPE_SD) ** 2)))


class PersonWatch:
    """Tells, some frames after a face was found again, whether the person has changed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        self._known = np.zeros(_SHAPE_SD.size)  # sum of the shapes of n_known frames
        self._n_known = 0
        self._trial: list[FloatArray] | None = None  # shapes since the face was found; None: judged

    @property
    def on_trial(self) -> bool:
        """Whether it is not yet known who this is."""
        return self._trial is not None

    @property
    def shape(self) -> FloatArray:
        """The mean shape (4,) of the present person; zeros before anyone was judged."""
        return self._known / max(self._n_known, 1)

    def push(self, shape: FloatArray, found_again: bool) -> bool:
        """Take the next frame's shape (4,); return True if this frame settles that the person has changed."""
        if found_again:
            self._trial = []
        if self._trial is None:
            self._known += shape
            self._n_known += 1
            return False
        self._trial.append(shape)
        return len(self._trial) >= N_TRIAL and self._judge(self._trial)

    def _judge(self, trial: list[FloatArray]) -> bool:
        seen = np.sum(trial, axis=0)
        changed = self._n_known > 0 and shape_distance(seen / len(trial), self.shape) > SAME_PERSON
        if changed:
            self._known, self._n_known = np.zeros_like(seen), 0
        self._known = self._known + seen
        self._n_known += len(trial)
        self._trial = None
        return changed
