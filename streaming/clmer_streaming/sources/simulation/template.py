"""A neutral face of 68 points in centimetres, of our own measure, and how people differ from it.

Axes: x to the subject's left, y up, z to the camera; the origin is landmark 27, at the bridge between the
eyes; the outer eye corners (36, 45) lie 8.9 cm apart. iBUG order. Heights and widths follow the means of
adult faces that the neutral table of this project's face extractor uses (mouth 5.0 cm wide, 6.8 cm below the
eyes; chin 11.6 cm below the bridge); depths are those of an average head.
"""

from __future__ import annotations

import numpy as np

from clmer_streaming.face.layout import N_LANDMARKS
from clmer_streaming.types import FloatArray

EYE_DISTANCE_CM = 8.9  # between the outer eye corners; the unit "d" of facial measures

MIRRORED: dict[int, int] = {
    **{k: 16 - k for k in range(8)},  # jaw
    **{k: 43 - k for k in range(17, 22)},  # brows
    31: 35, 32: 34,  # nostrils
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,  # eyes
    48: 54, 49: 53, 50: 52, 59: 55, 58: 56,  # outer lips
    60: 64, 61: 63, 67: 65,  # inner lips
}  # fmt: skip
"""Landmarks of the subject's right side, and their partners on the left."""

_HALF_CM: dict[int, tuple[float, float, float]] = {
    0: (-7.3, -0.6, -7.6), 1: (-7.2, -2.7, -7.3), 2: (-6.9, -4.7, -6.8), 3: (-6.5, -6.6, -6.1), 4: (-5.8, -8.4, -5.0),
    5: (-4.8, -9.8, -3.7), 6: (-3.4, -10.8, -2.5), 7: (-1.8, -11.4, -1.6), 8: (0.0, -11.65, -1.2),
    17: (-5.6, 1.0, -2.9), 18: (-4.8, 1.75, -1.9), 19: (-3.6, 2.0, -1.1), 20: (-2.4, 1.85, -0.5), 21: (-1.4, 1.5, -0.1),
    27: (0.0, 0.0, 0.0), 28: (0.0, -1.3, 0.6), 29: (0.0, -2.6, 1.3), 30: (0.0, -3.8, 2.0),
    31: (-1.5, -4.7, 0.1), 32: (-0.75, -4.95, 0.6), 33: (0.0, -5.1, 0.9),
    36: (-4.45, -0.35, -2.6), 37: (-3.5, 0.2, -1.9), 38: (-2.5, 0.15, -1.7), 39: (-1.6, -0.5, -1.8),
    40: (-2.5, -0.8, -1.8), 41: (-3.5, -0.75, -2.0),
    48: (-2.48, -7.25, -1.1), 49: (-1.55, -6.65, -0.2), 50: (-0.6, -6.3, 0.35), 51: (0.0, -6.4, 0.4),
    57: (0.0, -8.4, 0.1), 58: (-0.75, -8.3, 0.0), 59: (-1.6, -7.9, -0.4),
    60: (-2.2, -7.25, -0.9), 61: (-0.75, -7.15, 0.05), 62: (0.0, -7.15, 0.2),
    66: (0.0, -7.4, 0.15), 67: (-0.75, -7.38, 0.0),
}  # fmt: skip
"""Landmarks of the right half and the midline."""

_UPPER_LIP = (49, 50, 51, 61, 62)
_MOUTH = (48, 49, 50, 51, 57, 58, 59, 60, 61, 62, 66, 67)
_JAW = tuple(range(9))
_SHAPE_MODES: tuple[tuple[tuple[int, ...], tuple[float, float, float]], ...] = (
    ((17, 18, 19, 20, 21), (0.0, 0.28, 0.0)),  # height of the brows
    ((20, 21), (-0.07, 0.08, 0.0)),  # gap between the brows
    ((17, 18), (-0.1, 0.12, -0.1)),  # arch of the brows
    ((37, 38), (0.0, 0.08, 0.0)),  # openness of the eyes
    ((40, 41), (0.0, 0.035, 0.0)),  # height of the lower lids
    ((28, 29, 30, 31, 32, 33), (0.0, 0.22, 0.1)),  # length of the nose
    ((31, 32), (-0.12, 0.0, 0.0)),  # width of the nose
    (_MOUTH, (0.0, 0.3, 0.0)),  # height of the mouth
    ((48, 49, 59, 60), (-0.17, 0.0, -0.03)),  # width of the mouth
    ((48, 60), (0.0, 0.1, 0.0)),  # set of the mouth's corners
    (_UPPER_LIP[:3], (0.0, 0.09, 0.0)),  # upper lip
    ((57, 58, 59), (0.0, -0.09, 0.0)),  # lower lip
    ((5, 6, 7, 8), (0.0, 0.28, 0.0)),  # length of the chin
    (_JAW[:8], (-0.3, 0.0, -0.15)),  # width of the face
)
"""What varies between people: landmarks of the right half, and their shift (cm) at one SD, mirrored on the left."""

ASYMMETRY_SD_CM = 0.04  # of every coordinate, what no mode explains


def mirrored(half: dict[int, tuple[float, float, float]]) -> FloatArray:
    """Return points or shifts (68, 3) from those of the right half and the midline; 0 where none is given."""
    full = np.zeros((N_LANDMARKS, 3))
    for index, xyz in half.items():
        full[index] = xyz
        if index in MIRRORED:
            full[MIRRORED[index]] = (-xyz[0], xyz[1], xyz[2])
    return full


def neutral_template() -> FloatArray:
    """Return the average neutral face, (68, 3) cm."""
    return mirrored(_HALF_CM)


def individual_neutral(rng: np.random.Generator) -> FloatArray:
    """Return one person's neutral face, (68, 3) cm, with the origin at landmark 27."""
    face = neutral_template()
    for landmarks, shift in _SHAPE_MODES:
        face += rng.normal() * mirrored(dict.fromkeys(landmarks, shift))
    face += rng.normal(0.0, ASYMMETRY_SD_CM, face.shape)
    centred: FloatArray = face - face[27]
    return centred
