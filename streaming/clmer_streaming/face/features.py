"""What action units change on a face: lengths in units of the distance between the outer eye corners, and a fold."""

from __future__ import annotations

import math
from typing import NamedTuple

from clmer_streaming.face.landmarks import averaging_matrix
from clmer_streaming.types import FloatArray

PARTNERS: dict[int, int] = {
    107: 336, 55: 285, 66: 296, 65: 295, 70: 300, 46: 276, 63: 293, 53: 283, 105: 334, 52: 282,  # brows
    159: 386, 158: 385, 160: 387, 145: 374, 153: 380, 144: 373, 33: 263, 133: 362,  # eyes
    117: 346, 118: 347, 101: 330, 50: 280, 205: 425,  # cheeks
    129: 358, 64: 294, 98: 327,  # nostrils
    61: 291,  # mouth's corners
}  # fmt: skip
"""Vertices of the subject's right side, and their partners on the left."""

_RIGHT: dict[str, tuple[int, ...]] = {
    "brow_inner": (107, 55, 66, 65), "brow_outer": (70, 46, 63, 53), "brow_mid": (105, 52), "brow_end": (107, 55),
    "eye": (133, 33), "eye_outer": (33,), "eye_inner": (133,),
    "lid_upper": (159, 158, 160), "lid_lower": (145, 153, 144),
    "lid_159": (159,), "lid_158": (158,), "lid_160": (160,), "lid_145": (145,), "lid_153": (153,), "lid_144": (144,),
    "cheek": (117, 118, 101, 50, 205), "nostril": (129, 64, 98), "corner": (61,),
}  # fmt: skip
"""Spot of the right side -> the vertices whose mean it is."""

_MIDLINE: dict[str, tuple[int, ...]] = {
    "upper_lip": (0, 37, 267, 39, 269), "lip_top": (0,), "lip_bottom": (17,), "nose_base": (2, 97, 326),
    "inner_upper": (13, 82, 312), "inner_lower": (14, 87, 317), "lip_line": (13, 14), "lip_13": (13,), "lip_14": (14,),
    "chin": (152, 148, 377, 175), "chin_tip": (152,), "bridge": (168, 6),
}  # fmt: skip

_SPOTS: dict[str, tuple[int, ...]] = {
    **{f"{name}_right": vertices for name, vertices in _RIGHT.items()},
    **{f"{name}_left": tuple(PARTNERS[vertex] for vertex in vertices) for name, vertices in _RIGHT.items()},
    **_MIDLINE,
}
_TO_SPOTS = averaging_matrix(tuple(_SPOTS.values()))

Point = list[float]
"""x, y, z of a spot."""


class FaceFeatures(NamedTuple):
    """Lengths in units of the distance between the outer eye corners, both sides' mean, and two of another kind.

    ``eye_open`` is a ratio, ``brow_furrow`` a contrast. Heights are along the head's vertical axis. Used for a face,
    for a neutral face, and for their difference.
    """

    brow_inner: float  # height of the brow's inner end over the eye corners
    brow_outer: float  # height of its outer end
    brow_mid: float  # height of its middle
    brow_gap: float  # distance between the brows
    lid_upper: float  # height of the upper lid over the line between the eye's corners
    lid_lower: float  # height of the lower lid over it (negative)
    eye_open: float  # eye aspect ratio: opening over width (Soukupova and Cech 2016)
    cheek: float  # height of the cheek over the eye corners
    nostril: float  # height of the nostril's wing over the eye corners
    upper_lip: float  # height of the upper lip over the nose's base
    corner_up: float  # height of the mouth's corners over the eye corners
    corner_out: float  # half the width of the mouth
    corner_forward: float  # depth of the mouth's corners, to the camera, from the eye corners
    corner_over_lips: float  # height of the mouth's corners over the line where the lips meet
    lip_thickness: float  # of both lips together
    chin: float  # height of the chin over the nose's bridge
    lower_lip: float  # height of the lower lip's edge over the nose's bridge
    lip_to_chin: float  # height of the lower lip's edge over the chin's tip
    lip_gap: float  # between the lips
    brow_furrow: float  # depth of the folds between the brows; see appearance.py


N_FEATURES = len(FaceFeatures._fields)


def face_features(points: FloatArray, brow_furrow: float) -> FaceFeatures:
    """Return the features of an aligned mesh (478, 3), and of the skin between its brows."""
    spots = dict(zip(_SPOTS, (_TO_SPOTS @ points).tolist(), strict=True))
    eye_distance = math.dist(spots["eye_outer_right"], spots["eye_outer_left"])
    sides = [_side(spots, side) for side in ("right", "left")]
    means = {name: (sides[0][name] + sides[1][name]) / 2 for name in sides[0]}
    eye_open = means.pop("eye_open")
    lengths = {name: value / eye_distance for name, value in (means | _middle(spots)).items()}
    return FaceFeatures(eye_open=eye_open, brow_furrow=brow_furrow, **lengths)


def _side(spots: dict[str, Point], side: str) -> dict[str, float]:
    """Return what is measured on each side of the face, in the points' unit."""
    at = {name: spots[f"{name}_{side}"] for name in _RIGHT}
    eye_y, eye_z = at["eye"][1], at["eye"][2]
    opening = math.dist(at["lid_159"], at["lid_145"])
    opening += math.dist(at["lid_158"], at["lid_153"]) + math.dist(at["lid_160"], at["lid_144"])
    return {
        "brow_inner": at["brow_inner"][1] - eye_y,
        "brow_outer": at["brow_outer"][1] - eye_y,
        "brow_mid": at["brow_mid"][1] - eye_y,
        "lid_upper": _height_over(at["lid_upper"], at["eye_inner"], at["eye_outer"]),
        "lid_lower": _height_over(at["lid_lower"], at["eye_inner"], at["eye_outer"]),
        "eye_open": opening / 3 / math.dist(at["eye_outer"], at["eye_inner"]),
        "cheek": at["cheek"][1] - eye_y,
        "nostril": at["nostril"][1] - eye_y,
        "corner_up": at["corner"][1] - eye_y,
        "corner_forward": at["corner"][2] - eye_z,
        "corner_over_lips": at["corner"][1] - spots["lip_line"][1],
    }


def _middle(spots: dict[str, Point]) -> dict[str, float]:
    """Return what is measured once, in the points' unit."""
    return {
        "brow_gap": math.dist(spots["brow_end_right"], spots["brow_end_left"]),
        "upper_lip": spots["upper_lip"][1] - spots["nose_base"][1],
        "corner_out": (spots["corner_left"][0] - spots["corner_right"][0]) / 2,
        "lip_thickness": math.dist(spots["lip_top"], spots["lip_13"]) + math.dist(spots["lip_14"], spots["lip_bottom"]),
        "chin": spots["chin"][1] - spots["bridge"][1],
        "lower_lip": spots["lip_bottom"][1] - spots["bridge"][1],
        "lip_to_chin": spots["lip_bottom"][1] - spots["chin_tip"][1],
        "lip_gap": math.dist(spots["inner_upper"], spots["inner_lower"]),
    }


def _height_over(point: Point, inner: Point, outer: Point) -> float:
    """Return how far a point lies above the line from an eye's inner to its outer corner, seen from the front."""
    along_x, along_y = outer[0] - inner[0], outer[1] - inner[1]
    across = along_x * (point[1] - inner[1]) - along_y * (point[0] - inner[0])
    return math.copysign(1.0, along_x) * across / math.hypot(along_x, along_y)
