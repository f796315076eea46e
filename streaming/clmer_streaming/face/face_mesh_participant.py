"""Which of the faces in view is the participant's: pure rules on boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from clmer_streaming.face.face_mesh_image import extent
from clmer_streaming.types import FloatArray

PATIENCE_FRAMES = 60
"""Frames (2 s at 30 fps) for which the place of a participant out of sight is kept from others."""

_HOME_WEIGHT = 1 / 90  # of the newest frame in the participant's usual place: it follows within about 3 s
_NEAR = 1.0  # box widths between two centres that may be one face
_SAME_SIZE = 2.0  # ratio of widths that may be one face, at one place
_ALIKE_SIZE = 1.5  # ratio of widths that may be one face which moved fast
_RIVAL_SIZE = 0.4  # share of the participant's width from which another face counts as a second person


@dataclass(frozen=True)
class Box:
    """A face in the image, in pixels."""

    x: float  # of the centre
    y: float  # of the centre
    width: float

    @classmethod
    def around(cls, points: FloatArray) -> Self:
        """Return the box around points (n, 2+) in pixels."""
        x0, y0, x1, y1 = extent(points)
        return cls((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0)

    def is_near(self, other: Box) -> bool:
        """Tell whether both may be one face between two looks."""
        near = math.hypot(self.x - other.x, self.y - other.y) <= _NEAR * min(self.width, other.width)
        return near and self.ratio(other) <= _SAME_SIZE

    def ratio(self, other: Box) -> float:
        """Return how much larger the larger one is."""
        return max(self.width, other.width) / max(min(self.width, other.width), 1e-6)


class Participant:
    """Remembers where the participant is, and ranks faces by how likely they are the participant's.

    The first one is the largest central face. From then on the place decides, so that nobody who walks
    through takes over; after ``PATIENCE_FRAMES`` without the participant the choice is open again.
    """

    def __init__(self) -> None:
        self._home: Box | None = None  # the usual place
        self._n_missed = 0

    def acquire(self, box: Box) -> None:
        """Take note that the participant was found here."""
        self._home, self._n_missed = box, 0

    def follow(self, box: Box) -> None:
        """Take note that the participant's face, which is being followed, is here now."""
        home, w = self._home or box, _HOME_WEIGHT
        self._home = Box(
            home.x + w * (box.x - home.x), home.y + w * (box.y - home.y), home.width + w * (box.width - home.width)
        )

    def miss(self) -> None:
        """Take note that the participant was not found in this frame."""
        self._n_missed += 1
        if self._n_missed > PATIENCE_FRAMES:
            self._home = None

    def rank(self, boxes: Sequence[Box], width: int, height: int) -> list[int]:
        """Return the indices of the faces that may be the participant's, best first.

        Args:
            boxes: Faces that a detector sees.
            width: Of the image, pixels.
            height: Of the image, pixels.
        """
        order = sorted(range(len(boxes)), key=lambda i: -_size_and_centrality(boxes[i], width, height))
        home = self._home
        if home is None:
            return order
        near = [i for i in order if boxes[i].is_near(home)]
        if near:
            return sorted(near, key=lambda i: math.hypot(boxes[i].x - home.x, boxes[i].y - home.y))
        return order if len(boxes) == 1 and boxes[0].ratio(home) <= _ALIKE_SIZE else []

    def was_left_behind(self, box: Box, boxes: Sequence[Box]) -> bool:
        """Tell whether ``box``, which is being followed, went off with somebody who walked through.

        That is so when it has left the participant's usual place while a face is still there.
        """
        home = self._home
        if home is None or _overlaps(box, home):
            return False
        return any(_overlaps(other, home) and not _overlaps(other, box) for other in boxes)


def count_rivals(boxes: Sequence[Box], participant: Box) -> int:
    """Return how many faces beside the participant's are large enough to matter."""
    others = (box for box in boxes if not _overlaps(box, participant))
    return sum(box.width >= _RIVAL_SIZE * participant.width for box in others)


def _overlaps(a: Box, b: Box) -> bool:
    return math.hypot(a.x - b.x, a.y - b.y) < 0.6 * max(a.width, b.width)


def _size_and_centrality(box: Box, width: int, height: int) -> float:
    """Return the width of a face, less the further it is from the centre (in a corner: half)."""
    off = math.hypot(box.x - width / 2, box.y - height / 2) / math.hypot(width / 2, height / 2)
    return box.width * (1 - 0.5 * min(off, 1.0))
