"""Make the reference mesh that faces are aligned with: ``streaming/clmer_streaming/face/reference_mesh.csv``.

The face is scikit-image's astronaut (Eileen Collins, NASA, public domain), as FaceMesh sees her. The mesh is made
symmetric by averaging it with its mirror image, turned upright, and scaled. She smiles: the mesh serves alignment,
over vertices that a smile does not move, and is never taken for a neutral face.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from clmer_streaming.face.geometry import EYE_DISTANCE_CM, IMAGE_TO_HEAD, fit_similarity
from clmer_streaming.types import FloatArray, IndexArray

TARGET = Path(__file__).parents[1] / "streaming/clmer_streaming/face/reference_mesh.csv"
ROWS, COLUMNS = slice(0, 260), slice(120, 330)  # of the astronaut's image: head and shoulders
ENLARGEMENT = 3  # FaceMesh is at its best with faces of a few hundred pixels
N_FACE = 468  # vertices without the irises
KNOWN_PAIRS = ((33, 263), (133, 362), (61, 291), (127, 356), (234, 454), (107, 336))
"""A few vertices of the subject's right side and their partners on the left, to begin the search for the rest."""

RIGHT_EYE, LEFT_EYE, BRIDGE, NOSE_BASE = 33, 263, 168, 2


def astronaut_mesh() -> FloatArray:
    """Return FaceMesh's vertices of the astronaut, (468, 3) pixels, y up, z to the camera."""
    import cv2
    from mediapipe.python.solutions.face_mesh import FaceMesh
    from skimage import data

    library: Any = data  # scikit-image's functions have no types
    crop = library.astronaut()[ROWS, COLUMNS]
    image = cv2.resize(crop, None, fx=ENLARGEMENT, fy=ENLARGEMENT, interpolation=cv2.INTER_CUBIC)
    height, width = image.shape[:2]
    with FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        found = mesh.process(image).multi_face_landmarks[0].landmark
    points = np.array([(p.x * width, p.y * height, p.z * width) for p in found[:N_FACE]])
    turned: FloatArray = points * IMAGE_TO_HEAD
    return turned


def mirror_partners(mesh: FloatArray) -> IndexArray:
    """Return for each vertex the one on the other side of the face (468,): itself on the midline.

    The mirrored mesh is laid over the mesh with the known pairs; then vertices are matched one to one at the least
    total distance. Nearest neighbours alone go wrong at the smiling mouth.
    """
    right, left = (list(side) for side in zip(*KNOWN_PAIRS, strict=True))
    mirrored = mesh * np.array([-1.0, 1.0, 1.0])
    fit = fit_similarity(mesh[right + left], mirrored[left + right])
    laid = fit.undo(mirrored)
    distances = np.linalg.norm(mesh[:, None] - laid[None], axis=2)
    partners: IndexArray = linear_sum_assignment(distances)[1]
    if not np.array_equal(partners[partners], np.arange(N_FACE)):
        raise RuntimeError("the vertices do not pair up")
    return partners


def symmetric(mesh: FloatArray) -> FloatArray:
    """Return the mean of the mesh and its mirror image, laid over each other."""
    mirrored = (mesh * np.array([-1.0, 1.0, 1.0]))[mirror_partners(mesh)]
    laid: FloatArray = fit_similarity(mesh, mirrored).undo(mirrored)
    return (mesh + laid) / 2


def upright(mesh: FloatArray) -> FloatArray:
    """Return the mesh in its own axes and centimetres.

    x runs through the outer eye corners to the subject's left, y from the nose's base up to its bridge, at a right
    angle to x; the bridge is the origin.
    """
    x = mesh[LEFT_EYE] - mesh[RIGHT_EYE]
    eye_distance = np.linalg.norm(x)
    x = x / eye_distance
    up = mesh[BRIDGE] - mesh[NOSE_BASE]
    up = up - (up @ x) * x
    y = up / np.linalg.norm(up)
    stood: FloatArray = (mesh - mesh[BRIDGE]) @ np.stack([x, y, np.cross(x, y)], axis=1)
    return stood * (EYE_DISTANCE_CM / eye_distance)


def make_reference_mesh() -> FloatArray:
    """Return the reference mesh, (468, 3) cm."""
    return upright(symmetric(astronaut_mesh()))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=TARGET)
    out: Path = parser.parse_args().out
    np.savetxt(out, make_reference_mesh(), fmt="%.4f", delimiter=",")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
