"""Takes position, size and turn of the head out of a face mesh, so that what is left is the face itself.

The mesh is aligned with a reference mesh by similarity Procrustes over vertices that expression does not move.
The solution by singular value decomposition with the determinant fix is that of Umeyama (1991), "Least-squares
estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4).
"""

from __future__ import annotations

import functools
import importlib.resources
from dataclasses import dataclass

import numpy as np

from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.types import FloatArray, IndexArray

EYE_DISTANCE_CM = 8.9
"""Between the outer eye corners (vertices 33 and 263) of the reference mesh; what a centimetre means here."""

RIGID_VERTICES: IndexArray = np.array(
    [
        127, 356, 34, 264, 139, 368, 162, 389, 21, 251,  # temples
        33, 263, 133, 362, 130, 359, 243, 463,  # eye corners
        168, 6, 197, 195, 5, 122, 351, 196, 419, 193, 417,  # bridge and back of the nose
    ]
)  # fmt: skip
"""The 29 vertices that muscles hardly move. Cheeks, nostrils and jaw are left out: they move with expression."""

IMAGE_TO_HEAD = np.array([1.0, -1.0, -1.0])
"""From the image's axes (x right, y down, z away) to the head's: x to the subject's left, y up, z to the camera."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """``target = scale * rotation @ source + shift``, the best in the sense of least squares."""

    scale: float
    rotation: FloatArray  # (3, 3), determinant 1
    shift: FloatArray  # (3,) in the target's unit

    def undo(self, points: FloatArray) -> FloatArray:
        """Return points (n, 3) of the target's space in the source's."""
        undone: FloatArray = (points - self.shift) @ self.rotation / self.scale
        return undone


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face mesh in the axes of the reference mesh, and the way back into the image."""

    points: FloatArray  # (478, 3) cm; x to the subject's left, y up, z to the camera; origin at the nose's bridge
    head: Similarity  # from the aligned face (cm) into the image (px, y up, z to the camera)
    residual_cm: float  # root mean square distance from the reference over the rigid vertices


@functools.cache
def reference_mesh() -> FloatArray:
    """Return the reference mesh, (468, 3) cm; ``scripts/make_reference_mesh.py`` makes its file."""
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
    """Return the similarity that brings points (n, 3) closest to their targets (n, 3)."""
    return _fit(_centred(source), target)


@dataclass(frozen=True, eq=False)
class _Centred:
    """Points, and what of them every fit needs."""

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
    """Return the frame's mesh in the axes of the reference mesh; None where the points are no face."""
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
