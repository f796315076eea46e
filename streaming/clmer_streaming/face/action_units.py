"""The 17 action units: features of the face, the change that raises each unit, and how well it can be observed.

Numbers, names and muscles are those of the Facial Action Coding System (FACS): Ekman, Friesen and Hager (2002),
"Facial Action Coding System: The Manual". The measures and their full scales are this project's own and not fitted to
coded data. An intensity is ``5 * change / full_scale``, limited to 0 to 5; all lengths are in units of the distance of
the outer eye corners. AU04 is measured on the skin as well.

``face_features`` measures a face, ``intensities`` compares it with a neutral face; ``CausalMean`` smooths the features
and ``Presence`` turns intensities into on and off.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from clmer_streaming.face.geometry import averaging_matrix
from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.types import FloatArray

MIRROR_VERTICES: dict[int, int] = {
    107: 336, 55: 285, 66: 296, 65: 295, 70: 300, 46: 276, 63: 293, 53: 283, 105: 334, 52: 282,  # brows
    159: 386, 158: 385, 160: 387, 145: 374, 153: 380, 144: 373, 33: 263, 133: 362,  # eyes
    117: 346, 118: 347, 101: 330, 50: 280, 205: 425,  # cheeks
    129: 358, 64: 294, 98: 327,  # nostrils
    61: 291,  # mouth's corners
}  # fmt: skip
"""Vertex of the subject's right side -> the corresponding vertex of the left side."""

_RIGHT: dict[str, tuple[int, ...]] = {
    "brow_inner": (107, 55, 66, 65), "brow_outer": (70, 46, 63, 53), "brow_mid": (105, 52), "brow_end": (107, 55),
    "eye": (133, 33), "eye_outer": (33,), "eye_inner": (133,),
    "lid_upper": (159, 158, 160), "lid_lower": (145, 153, 144),
    "lid_159": (159,), "lid_158": (158,), "lid_160": (160,), "lid_145": (145,), "lid_153": (153,), "lid_144": (144,),
    "cheek": (117, 118, 101, 50, 205), "nostril": (129, 64, 98), "corner": (61,),
}  # fmt: skip
"""Spot of the right side -> vertices whose mean it is."""

_MIDLINE: dict[str, tuple[int, ...]] = {
    "upper_lip": (0, 37, 267, 39, 269), "lip_top": (0,), "lip_bottom": (17,), "nose_base": (2, 97, 326),
    "inner_upper": (13, 82, 312), "inner_lower": (14, 87, 317), "lip_line": (13, 14), "lip_13": (13,), "lip_14": (14,),
    "chin": (152, 148, 377, 175), "chin_tip": (152,), "bridge": (168, 6),
}  # fmt: skip

_SPOTS: dict[str, tuple[int, ...]] = {
    **{f"{name}_right": vertices for name, vertices in _RIGHT.items()},
    **{f"{name}_left": tuple(MIRROR_VERTICES[vertex] for vertex in vertices) for name, vertices in _RIGHT.items()},
    **_MIDLINE,
}
_TO_SPOTS = averaging_matrix(tuple(_SPOTS.values()))

Point = list[float]
"""Coordinates x, y, z of a spot."""


class FaceFeatures(NamedTuple):
    """Measures of a face, the mean of both sides, in units of the distance of the outer eye corners.

    ``eye_open`` is a ratio and ``brow_furrow`` a contrast. Heights are along the head's vertical axis. The class holds
    a face, a neutral face, or their difference.
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
    brow_furrow: float  # depth of the folds between the brows; see ``image.brow_furrow``


N_FEATURES = len(FaceFeatures._fields)


def face_features(points: FloatArray, brow_furrow: float) -> FaceFeatures:
    """Return the features of a face.

    Args:
        points: The aligned mesh (478, 3) in any unit.
        brow_furrow: Depth of the folds between its brows.
    """
    spots = dict(zip(_SPOTS, (_TO_SPOTS @ points).tolist(), strict=True))
    eye_distance = math.dist(spots["eye_outer_right"], spots["eye_outer_left"])
    sides = [_side(spots, side) for side in ("right", "left")]
    means = {name: (sides[0][name] + sides[1][name]) / 2 for name in sides[0]}
    eye_open = means.pop("eye_open")
    lengths = {name: value / eye_distance for name, value in (means | _middle(spots)).items()}
    return FaceFeatures(eye_open=eye_open, brow_furrow=brow_furrow, **lengths)


def _side(spots: dict[str, Point], side: str) -> dict[str, float]:
    """Return the measures of one side of the face, in the points' unit."""
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
    """Return the measures without sides, in the points' unit."""
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
    """Return the height of a point above the line from an eye's inner to its outer corner, seen from the front."""
    along_x, along_y = outer[0] - inner[0], outer[1] - inner[1]
    across = along_x * (point[1] - inner[1]) - along_y * (point[0] - inner[0])
    return math.copysign(1.0, along_x) * across / math.hypot(along_x, along_y)


MAX_INTENSITY = 5.0
"""Largest intensity: FACS' five degrees, A to E, on a scale that begins at 0."""

Observability: TypeAlias = Literal["very good", "good", "fair", "weak", "not observable"]
"""How well an action unit can be observed in a mesh and the folds between the brows."""


@dataclass(frozen=True, slots=True)
class Change:
    """The difference of a face from its neutral face, and the gates that several action units share."""

    now: FaceFeatures
    neutral: FaceFeatures
    by: FaceFeatures  # now - neutral
    closing: float  # share by which the eyes are less open than usual
    no_blink: float  # 1 with open eyes, 0 with eyes at least 60 % closed
    lips_closed: float  # 1 with closed lips, 0 once they have parted by 3 %

    @classmethod
    def of(cls, now: FaceFeatures, neutral: FaceFeatures) -> Change:
        """Return the change of a face from a neutral face."""
        closing = 1.0 - now.eye_open / neutral.eye_open
        return cls(
            now=now,
            neutral=neutral,
            by=FaceFeatures(*(a - b for a, b in zip(now, neutral, strict=True))),
            closing=closing,
            no_blink=1.0 - _clip((closing - 0.35) / 0.25),
            lips_closed=_clip(1.0 - _lips_parted(now, neutral) / 0.03),
        )

    def corners_not_up(self, most: float) -> float:
        """Return 1 where the mouth's corners have not risen, falling to 0 where they have by ``most``."""
        return _clip(1.0 - _pos(max(self.by.corner_up, self.by.corner_over_lips)) / most)

    def corners_not_out(self, most: float) -> float:
        """Return 1 where the mouth has not widened, falling to 0 where each corner moved out by ``most``."""
        return _clip(1.0 - _pos(self.by.corner_out) / most)


def _pos(x: float) -> float:
    return x if x > 0.0 else 0.0  # never -0.0, whose bits differ


def _clip(x: float) -> float:
    return min(max(x, 0.0), 1.0)


def _lips_parted(now: FaceFeatures, neutral: FaceFeatures) -> float:
    """Return the gap between the lips beyond the neutral one; a neutral mouth that hangs open counts as .06."""
    return _pos(now.lip_gap - min(neutral.lip_gap, 0.06) - 0.012)


def inner_brow_raiser(c: Change) -> float:
    """AU01, frontalis (medial): the inner brows rise. Full scale .085. Good with calibration."""
    return _pos(c.by.brow_inner)


def outer_brow_raiser(c: Change) -> float:
    """AU02, frontalis (lateral): the outer brows rise. Full scale .085. Good with calibration, but leans on pose."""
    return _pos(c.by.brow_outer)


def brow_lowerer(c: Change) -> float:
    """AU04, corrugator and depressor supercilii: the brows sink and draw together. Full scale .060. Weak.

    A mesh hardly shows the squeeze, and together with AU01 the inner brow rises: the shape counts half, and folds
    between the brows of depth .025 make a full scale. Hair and fingers look like folds; dim or small pictures and
    smooth skin show none.
    """
    shape = _pos(-0.6 * c.by.brow_inner - 0.3 * c.by.brow_mid) + _pos(-0.5 * c.by.brow_gap)
    return 0.5 * shape + 2.4 * _pos(c.by.brow_furrow)


def upper_lid_raiser(c: Change) -> float:
    """AU05, levator palpebrae superioris: the upper lids rise. Full scale .035. Fair."""
    return _pos(c.by.lid_upper)


def cheek_raiser(c: Change) -> float:
    """AU06, orbicularis oculi (orbital): cheeks and lower lids rise. Full scale .050. Fair.

    The mesh's cheek follows the mouth's corners, so this is not independent of AU12.
    """
    return 0.5 * _pos(c.by.cheek) + 0.5 * _pos(c.by.lid_lower) * c.no_blink


def lid_tightener(c: Change) -> float:
    """AU07, orbicularis oculi (palpebral): the lower lids rise. Full scale .025. Weak: looks like AU06."""
    return _pos(c.by.lid_lower) * c.no_blink


def nose_wrinkler(c: Change) -> float:
    """AU09, levator labii superioris alaeque nasi: nostrils up, brows down. Full scale .045. Not observable.

    A nodding head and weeping do the same to the mesh; wrinkles are not looked at.
    """
    return _pos(c.by.nostril) + 0.25 * _pos(-c.by.brow_inner)


def upper_lip_raiser(c: Change) -> float:
    """AU10, levator labii superioris: the upper lip nears the nose. Full scale .055. Fair: AU12 does it a little."""
    return _pos(c.by.upper_lip)


def lip_corner_puller(c: Change) -> float:
    """AU12, zygomaticus major: the mouth's corners go up and out. Full scale .150. Very good.

    "Up" is over the line of the lips: over the eyes, the whole mouth rises with a bowed head and with weeping. A
    dropping jaw takes the line of the lips down, so the corners must not sink by as much as .04 themselves.
    """
    up = min(c.by.corner_over_lips, c.by.corner_up + 0.04)
    return _pos(0.75 * up + 0.65 * c.by.corner_out)


def dimpler(c: Change) -> float:
    """AU14, buccinator: the corners go back without rising. Full scale .06. Not observable."""
    return (_pos(-c.by.corner_forward) + 0.3 * _pos(c.by.corner_out)) * c.corners_not_up(0.05)


def lip_corner_depressor(c: Change) -> float:
    """AU15, depressor anguli oris: the corners sink below the line of the lips. Full scale .070. Fair."""
    return _pos(-c.by.corner_over_lips)


def chin_raiser(c: Change) -> float:
    """AU17, mentalis: the lower lip is pushed up, away from the chin. Full scale .070. Weak."""
    return 0.6 * _pos(c.by.lower_lip) + 0.4 * _pos(c.by.lip_to_chin) * c.lips_closed


def lip_stretcher(c: Change) -> float:
    """AU20, risorius: the corners go out without rising. Full scale .10. Weak."""
    return _pos(c.by.corner_out) * c.corners_not_up(0.03)


def lip_tightener(c: Change) -> float:
    """AU23, orbicularis oris: the closed lips become thin. Full scale .05. Not observable."""
    return _pos(-c.by.lip_thickness) * c.lips_closed * c.corners_not_out(0.03)


def lips_part(c: Change) -> float:
    """AU25, depressor labii inferioris: the lips part. Full scale .22. Very good."""
    return _lips_parted(c.now, c.neutral)


def jaw_drop(c: Change) -> float:
    """AU26, masseter relaxed: the chin sinks. Full scale .22. Good."""
    return _pos(-c.by.chin)


def blink(c: Change) -> float:
    """AU45, levator palpebrae relaxed: the eyes close. Full scale .65. Very good; poor with glasses or laughter."""
    return _pos(c.closing - 0.15)


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """An action unit and its measure."""

    name: str
    change: Callable[[Change], float]  # size of the change, at least 0
    full_scale: float  # change of intensity 5
    observability: Observability


ACTION_UNITS: tuple[ActionUnit, ...] = (
    ActionUnit("AU01", inner_brow_raiser, 0.085, "good"),
    ActionUnit("AU02", outer_brow_raiser, 0.085, "good"),
    ActionUnit("AU04", brow_lowerer, 0.060, "weak"),
    ActionUnit("AU05", upper_lid_raiser, 0.035, "fair"),
    ActionUnit("AU06", cheek_raiser, 0.050, "fair"),
    ActionUnit("AU07", lid_tightener, 0.025, "weak"),
    ActionUnit("AU09", nose_wrinkler, 0.045, "not observable"),
    ActionUnit("AU10", upper_lip_raiser, 0.055, "fair"),
    ActionUnit("AU12", lip_corner_puller, 0.150, "very good"),
    ActionUnit("AU14", dimpler, 0.06, "not observable"),
    ActionUnit("AU15", lip_corner_depressor, 0.070, "fair"),
    ActionUnit("AU17", chin_raiser, 0.070, "weak"),
    ActionUnit("AU20", lip_stretcher, 0.10, "weak"),
    ActionUnit("AU23", lip_tightener, 0.05, "not observable"),
    ActionUnit("AU25", lips_part, 0.22, "very good"),
    ActionUnit("AU26", jaw_drop, 0.22, "good"),
    ActionUnit("AU45", blink, 0.65, "very good"),
)
"""The action units, in the order of AU_NAMES."""

OBSERVABILITY: dict[str, Observability] = {unit.name: unit.observability for unit in ACTION_UNITS}
"""Action unit -> observability; units that are good or better agree with OpenFace, weak ones do not."""

LOW_OBSERVABILITY: tuple[str, ...] = tuple(
    unit.name for unit in ACTION_UNITS if unit.observability in ("weak", "not observable")
)
"""Action units that are published but too weakly observed to support a conclusion by themselves."""


def intensities(now: FaceFeatures, neutral: FaceFeatures) -> FloatArray:
    """Return the intensities (17,), 0 to 5, of a face relative to a neutral face, in the order of AU_NAMES."""
    change = Change.of(now, neutral)
    raw = np.array([unit.change(change) / unit.full_scale for unit in ACTION_UNITS])
    return np.minimum(MAX_INTENSITY * raw, MAX_INTENSITY)


PRESENT_FROM = 1.0  # intensity in two consecutive frames from which a unit is present
ABSENT_BELOW = 0.7  # intensity below which it is absent


class Presence:
    """Decides with hysteresis which action units are present, from their intensities alone."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the previous frames."""
        self._on = np.zeros(len(AU_NAMES), dtype=np.bool_)
        self._was_high = np.zeros(len(AU_NAMES), dtype=np.bool_)

    def push(self, intensities: FloatArray) -> FloatArray:
        """Add the intensities (17,) of the next frame; return the presence (17,), 0 or 1."""
        high = intensities >= PRESENT_FROM
        self._on = (self._on & (intensities >= ABSENT_BELOW)) | (high & self._was_high)
        self._was_high = high
        return self._on.astype(np.float64)


N_FRAMES = 3  # most frames of a mean
SPAN_S = 0.15  # s, most time that they span; a camera of 5 frames a second is not smoothed


class CausalMean:
    """The mean of the features of this frame and of up to two recent ones before it."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, FaceFeatures]] = deque(maxlen=N_FRAMES)

    def reset(self) -> None:
        """Forget the previous frames, as after a lost face."""
        self._frames.clear()

    def push(self, t: float, features: FaceFeatures) -> FaceFeatures:
        """Add the frame of time ``t`` in seconds; return the mean."""
        self._frames.append((t, features))
        recent = [old for stamp, old in self._frames if t - SPAN_S <= stamp <= t]
        return FaceFeatures(*np.mean(recent, axis=0).tolist())
