"""The geometry of a face mesh: landmarks, alignment to the reference mesh, head pose and gaze.

``MeshFrame`` is the face mesh of one image, as a ``MeshReader`` finds it. ``align`` brings it into the axes of the
reference mesh; from there follow ``landmarks_68``, ``head_pose`` and ``gaze_angles``.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import FloatArray, IndexArray

N_VERTICES = 478
"""Vertices of a refined FaceMesh: 468 of the face, then five of each iris."""


@dataclass(frozen=True, eq=False)
class MeshFrame:
    """The face mesh of one image, and the measures of its quality."""

    points: FloatArray  # (478, 3) x, y in pixels of the full image (not clamped), z in pixels, negative toward camera
    width: int  # of the image, pixels
    height: int  # of the image, pixels
    presence: float | None  # presence score of the mesh, 0-1; None: its extractor does not report it
    reset: bool  # the face was found anew rather than tracked
    n_faces: int  # faces that the detector saw when it ran last
    luma: float  # mean luma of the face box, 0-255
    sharpness: float  # variance of the Laplacian inside the face box
    brow_furrow: float  # depth of the folds between the brows; see ``image.brow_furrow``


LANDMARK_VERTICES: tuple[tuple[int, ...], ...] = (
    # jaw, from the subject's right ear over the chin (8) to the left ear
    (127,), (234,), (93, 177), (58, 132), (172, 138), (136,), (149, 150), (148, 176), (152,),
    (377, 400), (378, 379), (365,), (397, 367), (288, 361), (323, 401), (454,), (356,),
    # upper edge of the brows, right then left
    (70,), (63,), (105,), (66,), (107,), (336,), (296,), (334,), (293,), (300,),
    # nose: its back downwards, then its base from right to left
    (168,), (197,), (195, 5), (4,), (75,), (97,), (2,), (326,), (305,),
    # eyes, right then left, from the corner at the image's left round over the upper lid
    (33,), (160, 159), (158,), (133,), (153,), (144,), (362,), (385,), (387, 386), (263,), (373,), (380,),
    # outer edge of the lips, from the right corner over the upper lip
    (61,), (39, 40), (37,), (0,), (267,), (269, 270), (291,), (321, 405), (314,), (17,), (84,), (91, 181),
    # inner edge of the lips
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,),
)  # fmt: skip
"""Landmark (iBUG order) -> vertices whose mean it is, chosen by their distance from OpenFace's points on five clips."""


def averaging_matrix(spots: tuple[tuple[int, ...], ...]) -> FloatArray:
    """Return the matrix (n, 478) whose product with a mesh (478, 3) is the mean vertex of each spot, (n, 3)."""
    matrix = np.zeros((len(spots), N_VERTICES))
    for row, vertices in enumerate(spots):
        matrix[row, list(vertices)] = 1 / len(vertices)
    return matrix


_TO_LANDMARKS = averaging_matrix(LANDMARK_VERTICES)


def image_points(frame: MeshFrame | None) -> FloatArray:
    """Return the 68 landmarks (68, 2) in pixels of the picture; NaN without a face."""
    return np.full((len(LANDMARK_VERTICES), 2), np.nan) if frame is None else landmarks_68(frame.points)[:, :2]


def landmarks_68(mesh: FloatArray) -> FloatArray:
    """Return the 68 landmarks (68, 3) of a mesh (478, 3), in the unit and axes of the mesh."""
    landmarks: FloatArray = _TO_LANDMARKS @ mesh
    return landmarks


EYE_DISTANCE_CM = 8.9
"""Distance of the outer eye corners (vertices 33 and 263) of the reference mesh; it defines the centimeter here."""

RIGID_VERTICES: IndexArray = np.array(
    [
        127, 356, 34, 264, 139, 368, 162, 389, 21, 251,  # temples
        33, 263, 133, 362, 130, 359, 243, 463,  # eye corners
        168, 6, 197, 195, 5, 122, 351, 196, 419, 193, 417,  # bridge and back of the nose
    ]
)  # fmt: skip
"""The 29 vertices that muscles hardly move; cheeks, nostrils and jaw move with expressions."""

IMAGE_TO_HEAD = np.array([1.0, -1.0, -1.0])
"""From the image's axes (x right, y down, z away) to the head's: x to the subject's left, y up, z to the camera."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """A similarity transform, ``target = scale * rotation @ source + shift``."""

    scale: float
    rotation: FloatArray  # (3, 3), determinant 1
    shift: FloatArray  # (3,) in the target's unit

    def undo(self, points: FloatArray) -> FloatArray:
        """Return points (n, 3) of the target's space in the source's space."""
        undone: FloatArray = (points - self.shift) @ self.rotation / self.scale
        return undone


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face mesh in the axes of the reference mesh, and the transform back into the image."""

    points: FloatArray  # (478, 3) cm; x to the subject's left, y up, z to the camera; origin at the nose's bridge
    head: Similarity  # from the aligned face (cm) into the image (px, y up, z to the camera)
    residual_cm: float  # root mean square distance from the reference over the rigid vertices


@functools.cache
def reference_mesh() -> FloatArray:
    """Return the reference mesh, (468, 3) cm; its file is made by ``scripts/make_reference_mesh.py``."""
    file = importlib.resources.files("clmer_streaming.face") / "reference_mesh.csv"
    mesh = np.loadtxt(file.read_text(encoding="utf-8").splitlines(), delimiter=",")
    mesh.setflags(write=False)
    return mesh


@functools.cache
def _rigid_reference() -> FloatArray:
    return reference_mesh()[RIGID_VERTICES]


@functools.cache
def _centred_reference() -> _Centred:
    return _centred(_rigid_reference())


def fit_similarity(source: FloatArray, target: FloatArray) -> Similarity:
    """Return the least-squares similarity from points (n, 3) to their targets (n, 3) (Umeyama 1991)."""
    return _fit(_centred(source), target)


@dataclass(frozen=True, eq=False)
class _Centred:
    """Centered points, and what every fit needs of them."""

    mean: FloatArray  # (3,)
    points: FloatArray  # (n, 3), less their mean
    size: float  # sum of their squares


def _centred(source: FloatArray) -> _Centred:
    mean = source.mean(axis=0)
    points = source - mean
    return _Centred(mean, points, float(np.sum(points**2)))


def _fit(source: _Centred, target: FloatArray) -> Similarity:
    target_mean = target.mean(axis=0)
    u, strengths, vt = np.linalg.svd(source.points.T @ (target - target_mean))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])  # a mirror image is no rotation
    rotation = (vt.T * signs) @ u.T
    scale = float(np.sum(strengths * signs) / source.size)
    return Similarity(scale=scale, rotation=rotation, shift=target_mean - scale * (rotation @ source.mean))


def align(frame: MeshFrame) -> AlignedFace | None:
    """Return the frame's mesh in the axes of the reference mesh; None if the points cannot be a face."""
    if not np.isfinite(frame.points).all() or np.ptp(frame.points[RIGID_VERTICES, 0]) < 1.0:
        return None
    seen = frame.points * IMAGE_TO_HEAD
    reference = _rigid_reference()
    head = _fit(_centred_reference(), seen[RIGID_VERTICES])
    if head.scale <= 0:
        return None
    points = head.undo(seen)
    off = points[RIGID_VERTICES] - reference
    return AlignedFace(points=points, head=head, residual_cm=float(np.sqrt(np.mean(np.sum(off**2, axis=1)))))


FOCAL_PX_AT_640 = 500.0
"""Focal length of an unknown webcam at 640 pixels width (65 degrees across), as OpenFace 2.2 assumes it."""


def focal_length_px(width: int) -> float:
    """Return the assumed focal length in pixels for an image of this width in pixels."""
    return FOCAL_PX_AT_640 * width / 640.0


def viewing_ray(frame: MeshFrame) -> FloatArray:
    """Return the unit vector (3,) from the middle of the face to the camera; x right, y up, z to the camera."""
    x, y = frame.points[:, :2].mean(axis=0)
    focal = focal_length_px(frame.width)
    ray = np.array([-(x - frame.width / 2) / focal, (y - frame.height / 2) / focal, 1.0])
    return ray / math.sqrt(float(ray @ ray))


def straightened(rotation: FloatArray, ray: FloatArray) -> FloatArray:
    """Return a rotation (3, 3) seen along a viewing ray (3,) as it would be seen in the middle of the image.

    A face that looks along the optical axis but is beside it shows its side, and the mesh follows the image. The
    smallest rotation from the optical axis to the ray (Rodrigues' formula for two unit vectors) corrects this.
    """
    x, y, z = ray
    tilt = np.array([[0.0, 0.0, x], [0.0, 0.0, y], [-x, -y, 0.0]])  # the cross product with (axis x ray)
    turn = np.eye(3) + tilt + tilt @ tilt / (1.0 + z)
    corrected: FloatArray = turn @ rotation
    return corrected


def euler_angles(rotation: FloatArray) -> tuple[float, float, float]:
    """Return pitch (nose down positive), yaw (nose to the image's right, the subject's left) and roll in rad.

    ``rotation = Rz(roll) Ry(yaw) Rx(pitch)`` in axes x right, y up, z to the camera.
    """
    pitch = math.atan2(rotation[2, 1], rotation[2, 2])
    yaw = math.asin(min(1.0, max(-1.0, -rotation[2, 0])))
    roll = math.atan2(rotation[1, 0], rotation[0, 0])
    return pitch, yaw, roll


def head_pose(face: AlignedFace, frame: MeshFrame, rotation: FloatArray) -> FloatArray:
    """Return the position of the nose's bridge in cm (right, down, away from the camera), and pitch, yaw, roll in rad.

    The distance follows from the mesh's scale in the reference mesh's centimeters: a head that is larger than the
    reference by some share appears nearer by that share.

    Args:
        face: The aligned mesh.
        frame: The frame it came from.
        rotation: Rotation of the head (3, 3) from ``straightened``.

    Returns:
        (6,) x, y, z, pitch, yaw, roll.
    """
    focal = focal_length_px(frame.width)
    z = focal / face.head.scale
    x = (face.head.shift[0] - frame.width / 2) * z / focal
    y = (-face.head.shift[1] - frame.height / 2) * z / focal
    return np.array([x, y, z, *euler_angles(rotation)])


EYE_CORNERS = ((33, 133), (362, 263))  # of the subject's right eye, then the left
IRIS_CENTRES = (468, 473)

EYEBALL_RADIUS_CM = 1.2
"""Half the length of an adult eyeball of 24 mm (Bekerman et al. 2014, J. Ophthalmology 503645)."""

IRIS_ABOVE_CORNERS_CM = 0.13
"""Height of the iris above the middle of the eye's corners when the eyes look straight ahead (two people)."""

_MAX_SINE = 0.94  # sine of 70 degrees, the farthest that an eye turns

_OF_IRIS = [IRIS_CENTRES[0], IRIS_CENTRES[1]]
_OF_CORNERS = [[EYE_CORNERS[0][0], EYE_CORNERS[1][0]], [EYE_CORNERS[0][1], EYE_CORNERS[1][1]]]


def gaze_angles(points: FloatArray, rotation: FloatArray) -> FloatArray:
    """Return the gaze relative to the camera's optical axis in rad, (2,): to the subject's left, and up.

    An eye that turns by an angle moves its iris by the eyeball's radius times the sine of the angle; the head's
    rotation is added. Both eyes are averaged, which cancels the outward bias of the mesh's irises.

    Args:
        points: The aligned mesh (478, 3) in cm.
        rotation: Rotation of the head (3, 3) from ``straightened``.
    """
    outer, inner = points[_OF_CORNERS]
    right, left = points[_OF_IRIS] - (outer + inner) / 2
    off_x, off_y, _ = (right + left) / 2
    aim = np.array([off_x, off_y - IRIS_ABOVE_CORNERS_CM]) / EYEBALL_RADIUS_CM
    length = math.hypot(aim[0], aim[1])
    aim *= min(1.0, _MAX_SINE / length) if length else 1.0
    return _angles(rotation @ np.array([*aim, math.sqrt(1.0 - float(aim @ aim))]))


def straight_ahead(rotation: FloatArray) -> FloatArray:
    """Return the gaze (2,) in rad of eyes that look straight ahead, for a rotation of the head (3, 3)."""
    return _angles(rotation[:, 2])


def _angles(aim: FloatArray) -> FloatArray:
    """Return the angles to the left and up (2,) in rad of a unit vector (left, up, ahead)."""
    left, up, ahead = aim
    return np.array([math.atan2(left, ahead), math.atan2(up, math.hypot(left, ahead))])
