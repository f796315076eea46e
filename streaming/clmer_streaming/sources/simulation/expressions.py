"""How each action unit moves the 68 landmarks: the geometry by which the face extractor reads it, backwards.

Shifts are in units of the distance between the outer eye corners (8.9 cm) at intensity 5, for the right half
and the midline (x towards the subject's left, y up, z to the camera). Their sizes follow the full-scale values of
the extractor's table: at intensity 5 the inner brow has risen by .085, a smile's corners by about .075.
"""

from __future__ import annotations

import numpy as np

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.sources.simulation.template import EYE_DISTANCE_CM, mirrored
from clmer_streaming.types import FloatArray

MAX_INTENSITY = 5.0

_SHIFTS: dict[str, dict[int, tuple[float, float, float]]] = {
    "AU01": {21: (0, 0.085, 0), 20: (0, 0.065, 0), 19: (0, 0.03, 0)},
    "AU02": {17: (0, 0.08, 0), 18: (0, 0.085, 0), 19: (0, 0.06, 0), 20: (0, 0.02, 0)},
    "AU04": {21: (0.024, -0.045, 0.005), 20: (0.018, -0.042, 0), 19: (0.008, -0.03, 0), 18: (0, -0.015, 0)},
    "AU05": {37: (0, 0.035, 0), 38: (0, 0.035, 0)},
    "AU06": {40: (0, 0.028, 0), 41: (0, 0.03, 0), 36: (0.004, 0, 0)},
    "AU07": {40: (0, 0.024, 0), 41: (0, 0.025, 0), 37: (0, -0.008, 0), 38: (0, -0.008, 0)},
    "AU09": {31: (-0.008, 0.045, 0), 32: (-0.004, 0.035, 0), 33: (0, 0.02, 0), 21: (0.004, -0.012, 0)},
    "AU10": {49: (0, 0.04, 0), 50: (0, 0.055, 0.004), 51: (0, 0.055, 0.004), 61: (0, 0.045, 0), 62: (0, 0.045, 0)},
    "AU12": {
        48: (-0.07, 0.075, -0.055), 60: (-0.066, 0.072, -0.05), 49: (-0.045, 0.04, -0.035), 59: (-0.045, 0.035, -0.035),
        50: (-0.016, 0.012, -0.012), 61: (-0.02, 0.014, -0.014), 58: (-0.018, 0.008, -0.014), 67: (-0.02, 0.01, -0.014),
        31: (-0.012, 0.008, 0), 4: (-0.012, 0.006, 0), 5: (-0.008, 0.004, 0),
    },
    "AU14": {48: (-0.03, 0, -0.05), 60: (-0.028, 0, -0.048), 49: (-0.012, 0, -0.02), 59: (-0.012, 0, -0.02)},
    "AU15": {48: (0.004, -0.07, 0), 60: (0.004, -0.066, 0), 49: (0, -0.025, 0), 59: (0, -0.035, 0)},
    "AU17": {
        57: (0, 0.065, 0.01), 58: (0, 0.06, 0.01), 59: (0, 0.03, 0), 66: (0, 0.012, 0), 67: (0, 0.01, 0),
        8: (0, 0.012, 0.006), 7: (0, 0.01, 0.004),
    },
    "AU20": {
        48: (-0.095, -0.012, -0.03), 60: (-0.09, -0.012, -0.028), 49: (-0.05, 0, -0.015), 59: (-0.05, -0.008, -0.015),
    },
    "AU23": {50: (0.004, -0.022, -0.006), 51: (0, -0.022, -0.006), 57: (0, 0.024, -0.006), 58: (0.004, 0.022, -0.006)},
    "AU25": {
        49: (0, 0.015, 0), 50: (0, 0.035, 0), 51: (0, 0.035, 0), 61: (0, 0.04, 0), 62: (0, 0.045, 0),
        57: (0, -0.14, 0), 58: (0, -0.13, 0), 59: (0, -0.06, 0), 66: (0, -0.165, 0), 67: (0, -0.15, 0),
        8: (0, -0.03, 0), 7: (0, -0.03, 0), 6: (0, -0.02, 0),
    },
    "AU26": {
        8: (0, -0.22, -0.03), 7: (0, -0.21, -0.03), 6: (0.003, -0.185, -0.025), 5: (0.006, -0.14, -0.02),
        4: (0.006, -0.085, -0.01), 3: (0.004, -0.035, 0), 2: (0, -0.01, 0),
        57: (0, -0.14, -0.015), 58: (0, -0.13, -0.015), 59: (0, -0.08, -0.01), 66: (0, -0.13, -0.01),
        67: (0, -0.12, -0.01), 48: (0.01, -0.035, 0), 60: (0.01, -0.035, 0),
    },
    "AU45": {37: (0, -0.072, 0), 38: (0, -0.072, 0), 40: (0, 0.008, 0), 41: (0, 0.008, 0)},
}  # fmt: skip


def expression_shifts() -> FloatArray:
    """Return the shift of every landmark per point of intensity, (17, 68, 3) cm, in the order of AU_NAMES."""
    return np.stack([mirrored(_SHIFTS[au]) for au in AU_NAMES]) * (EYE_DISTANCE_CM / MAX_INTENSITY)


def express(neutral: FloatArray, intensities: FloatArray) -> FloatArray:
    """Return faces (n, 68, 3) cm: a neutral face (68, 3) cm with action units of intensities (17, n) at work."""
    shifts = expression_shifts()
    moved = intensities.T @ shifts.reshape(len(AU_NAMES), -1)
    faces: FloatArray = neutral + moved.reshape(-1, *neutral.shape)
    return faces
