"""A face mesh that acts: the reference mesh, moved as muscles would, and seen by a camera from anywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from clmer_streaming.face.action_units import FaceFeatures, face_features
from clmer_streaming.face.geometry import (
    EYE_CORNERS,
    IMAGE_TO_HEAD,
    IRIS_ABOVE_CORNERS_CM,
    MeshFrame,
    focal_length_px,
    reference_mesh,
)
from clmer_streaming.face.neutral import PRIOR_MEAN
from clmer_streaming.types import FloatArray

MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Move:
    """Vertices of the subject's right side (or the midline) that move; skin around them follows, the left mirrors."""

    vertices: tuple[int, ...]
    shift: tuple[float, float, float]  # cm; x to the subject's left, y up, z to the camera
    reach: float = 0.0  # cm, over which the skin around follows; 0: these vertices alone


_UPPER_LID, _LOWER_LID = (159, 158, 160, 157, 161), (145, 153, 144, 154, 163)
_LOWER_LIP = (17, 14, 84, 87, 85, 86, 15, 16, 181, 178, 180, 179)
_UPPER_LIP = (0, 37, 39, 13, 82, 11, 12, 72, 38)

ACTS: dict[str, tuple[Move, ...]] = {
    "AU01": (Move((107, 55, 66, 65), (0, 0.6, 0)),),
    "AU02": (Move((70, 46, 63, 53), (0, 0.6, 0)),),
    "AU04": (Move((107, 55, 66, 65, 105, 52), (0.2, -0.4, 0)),),
    "AU05": (Move(_UPPER_LID, (0, 0.25, 0)),),
    "AU06": (Move((117, 118, 101, 50, 205), (0, 0.5, 0)), Move(_LOWER_LID, (0, 0.1, 0))),
    "AU07": (Move(_LOWER_LID, (0, 0.18, 0)),),
    "AU09": (Move((129, 64, 98), (0, 0.35, 0)), Move((107, 55), (0, -0.2, 0))),
    "AU10": (Move(_UPPER_LIP, (0, 0.4, 0)),),
    "AU12": (Move((61, 78, 146, 185), (-0.7, 0.7, -0.3)),),
    "AU14": (Move((61, 78, 146, 185), (-0.15, 0, -0.5)),),
    "AU15": (Move((61, 78, 146, 185), (0, -0.5, 0)),),
    "AU17": (Move(_LOWER_LIP, (0, 0.5, 0)),),
    "AU20": (Move((61, 78, 146, 185), (-0.6, 0, 0.2)),),
    "AU23": (Move((0, 37, 39), (0, -0.2, 0)), Move((17, 84, 181), (0, 0.2, 0))),
    "AU25": (Move(_LOWER_LIP, (0, -1.2, 0)), Move((152, 148, 175), (0, -0.2, 0))),
    "AU26": (Move((152, 148, 175), (0, -1.6, 0)), Move(_LOWER_LIP, (0, -0.6, 0))),
    "AU45": (Move(_UPPER_LID, (0, -0.75, 0)),),
}
"""What each action unit does to the face at about intensity 4."""


def features_of(face: FloatArray, brow_furrow: float = PRIOR_MEAN.brow_furrow) -> FaceFeatures:
    """Return the features of an aligned face (478, 3) cm, its skin between the brows as smooth as people's at rest."""
    return face_features(face, brow_furrow)


def still_face() -> FloatArray:
    """Return the reference mesh with irises in the middle of its eyes and its lips closed, (478, 3) cm."""
    mesh = reference_mesh()
    irises = [(mesh[a] + mesh[b]) / 2 + [0.0, IRIS_ABOVE_CORNERS_CM, 0.0] for a, b in EYE_CORNERS]
    face: FloatArray = np.concatenate([mesh, np.repeat(irises, 5, axis=0)])
    for upper, lower in ((13, 14), (82, 87), (312, 317)):
        face[[upper, lower]] = (face[upper] + face[lower]) / 2 + np.array([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
    return face


def acted(face: FloatArray, moves: tuple[Move, ...], share: float = 1.0) -> FloatArray:
    """Return the face (478, 3) after a share of the moves, on both sides."""
    moved: FloatArray = face.copy()
    for move in moves:
        for side in (np.ones(3), MIRROR):
            moved += share * _weights(face, move, side)[:, None] * (np.array(move.shift) * side)
    return moved


def _weights(face: FloatArray, move: Move, side: FloatArray) -> FloatArray:
    """Return how far each vertex follows a move, (478,), 0-1; a vertex of the midline takes half from each side."""
    anchors = face[list(move.vertices)] * side
    near = np.min(np.linalg.norm(face[:, None] - anchors[None], axis=2), axis=1)
    weights = np.exp(-0.5 * (near / max(move.reach, 1e-9)) ** 2) if move.reach else (near < 0.02).astype(np.float64)
    midline = np.abs(face[:, 0]) < 0.02
    halved: FloatArray = np.where(midline, 0.5, 1.0) * weights
    return halved


def rotation(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0) -> FloatArray:
    """Return the rotation (3, 3) of a head in rad: nose down, nose to the subject's left, roll."""
    (cp, cy, cr), (sp, sy, sr) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    product: FloatArray = about_z @ about_y @ about_x
    return product


GOOD = MeshFrame(
    points=np.zeros((478, 3)),
    width=640,
    height=480,
    presence=1.0,
    reset=False,
    n_faces=1,
    luma=120.0,
    sharpness=200.0,
    brow_furrow=PRIOR_MEAN.brow_furrow,
)
"""A frame as a good webcam gives it, but for its points."""


def flat_view(
    face: FloatArray, turn: FloatArray, centre: tuple[float, float] = (320.0, 240.0), scale: float = 9.0
) -> MeshFrame:
    """Return the face turned, scaled to ``scale`` px/cm and put at ``centre`` px, as a mesh sees it: no perspective."""
    seen = face @ turn.T * scale * IMAGE_TO_HEAD
    return replace(GOOD, points=seen + np.array([*centre, 0.0]))


def seated_view(face: FloatArray, turn: FloatArray, place: tuple[float, float, float]) -> MeshFrame:
    """Return the face turned and put at ``place`` cm (right, down, away) from the camera, as a mesh sees it.

    A mesh follows what shows, and a face beside the optical axis shows its side: it is seen turned by the angle under
    which it stands there.
    """
    x, y, z = place
    focal = focal_length_px(GOOD.width)
    beside = rotation(yaw=np.arctan2(x, z)) @ rotation(pitch=np.arctan2(y, np.hypot(x, z)))
    return flat_view(face, beside @ turn, (320 + focal * x / z, 240 + focal * y / z), focal / z)
