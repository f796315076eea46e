"""Where the eyes look, from the irises of a refined face mesh."""

from __future__ import annotations

import math

import numpy as np

from clmer_streaming.types import FloatArray

EYE_CORNERS = ((33, 133), (362, 263))  # of the subject's right eye, then the left
IRIS_CENTRES = (468, 473)

EYEBALL_RADIUS_CM = 1.2
"""Half the length of an adult eyeball of 24 mm (Bekerman et al. 2014, J. Ophthalmology 503645)."""

IRIS_ABOVE_CORNERS_CM = 0.13
"""Height of the iris over the middle between the eye's corners when the eyes look straight ahead (two people)."""

_MAX_SINE = 0.94  # of 70 degrees: no eye turns farther

_OF_IRIS = [IRIS_CENTRES[0], IRIS_CENTRES[1]]
_OF_CORNERS = [[EYE_CORNERS[0][0], EYE_CORNERS[1][0]], [EYE_CORNERS[0][1], EYE_CORNERS[1][1]]]


def gaze_angles(points: FloatArray, rotation: FloatArray) -> FloatArray:
    """Return the gaze against the camera's optical axis in rad, (2,): to the subject's left, and up.

    An iris that is off the middle of its eye by an eyeball's radius times the sine of an angle has turned by that
    angle; the head's turn is added. Both eyes are averaged: the mesh sets each iris a little outwards, which the
    other eye cancels.

    Args:
        points: The aligned mesh (478, 3) in cm.
        rotation: Of the head (3, 3), straightened.
    """
    outer, inner = points[_OF_CORNERS]
    right, left = points[_OF_IRIS] - (outer + inner) / 2
    off_x, off_y, _ = (right + left) / 2
    aim = np.array([off_x, off_y - IRIS_ABOVE_CORNERS_CM]) / EYEBALL_RADIUS_CM
    length = math.hypot(aim[0], aim[1])
    aim *= min(1.0, _MAX_SINE / length) if length else 1.0
    return _angles(rotation @ np.array([*aim, math.sqrt(1.0 - float(aim @ aim))]))


def straight_ahead(rotation: FloatArray) -> FloatArray:
    """Return the gaze (2,) rad of eyes that look where the head (3, 3) points."""
    return _angles(rotation[:, 2])


def _angles(aim: FloatArray) -> FloatArray:
    """Return how far a unit vector (left, up, ahead) points to the left and up, rad."""
    left, up, ahead = aim
    return np.array([math.atan2(left, ahead), math.atan2(up, math.hypot(left, ahead))])
