"""The 68 landmarks of iBUG 300-W, picked from a face mesh of 478 vertices."""

from __future__ import annotations

import numpy as np

from clmer_streaming.face.mesh_frame import N_VERTICES, MeshFrame
from clmer_streaming.types import FloatArray

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
"""Landmark -> the vertices whose mean it is, chosen by their distance from OpenFace's points on five clips."""


def averaging_matrix(spots: tuple[tuple[int, ...], ...]) -> FloatArray:
    """Return the matrix (n, 478) whose product with a mesh (478, 3) is the mean of each spot's vertices (n, 3)."""
    matrix = np.zeros((len(spots), N_VERTICES))
    for row, vertices in enumerate(spots):
        matrix[row, list(vertices)] = 1 / len(vertices)
    return matrix


_TO_LANDMARKS = averaging_matrix(LANDMARK_VERTICES)


def image_points(frame: MeshFrame | None) -> FloatArray:
    """Return where the 68 landmarks (68, 2) lie in the picture, in pixels; NaN without a face."""
    return np.full((len(LANDMARK_VERTICES), 2), np.nan) if frame is None else landmarks_68(frame.points)[:, :2]


def landmarks_68(mesh: FloatArray) -> FloatArray:
    """Return the 68 landmarks (68, 3) of a mesh (478, 3), in the mesh's own space."""
    landmarks: FloatArray = _TO_LANDMARKS @ mesh
    return landmarks
