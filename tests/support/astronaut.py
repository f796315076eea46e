"""A real face in real pixels: scikit-image's astronaut, and the same warped so that she acts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.face.geometry import IMAGE_TO_HEAD, AlignedFace, MeshFrame, align
from clmer_streaming.types import FloatArray
from tests.support.face_acting import GOOD

Image = npt.NDArray[np.uint8]

_UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
_LOWER_LIDS = (7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382)
_LIDS_SKIN = (30, 29, 27, 28, 56, 247, 190, 260, 259, 257, 258, 286, 467, 414)
_UNDER_BROWS = (113, 225, 224, 223, 222, 221, 342, 445, 444, 443, 442, 441)


def astronaut_image(enlargement: int = 2) -> Image:
    """Return head and shoulders of the astronaut, RGB."""
    import cv2
    from skimage import data

    library: Any = data  # scikit-image's functions have no types
    crop = library.astronaut()[:260, 120:330]
    return np.asarray(
        cv2.resize(crop, None, fx=enlargement, fy=enlargement, interpolation=cv2.INTER_CUBIC), dtype=np.uint8
    )


class StillMesh:
    """FaceMesh for single pictures."""

    def __init__(self) -> None:
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._mesh: Any = FaceMesh(static_image_mode=True, refine_landmarks=True)

    def frame(self, image: Image) -> MeshFrame | None:
        """Return what the mesh says about an RGB image; None without a face."""
        height, width = image.shape[:2]
        faces = self._mesh.process(np.ascontiguousarray(image)).multi_face_landmarks
        if not faces:
            return None
        points = np.array([(p.x * width, p.y * height, p.z * width) for p in faces[0].landmark])
        return replace(GOOD, points=points, width=width, height=height)

    def face(self, image: Image) -> AlignedFace:
        """Return the aligned face of an image that shows one."""
        frame = self.frame(image)
        assert frame is not None
        face = align(frame)
        assert face is not None
        return face


def with_lids_closed(face: FloatArray) -> FloatArray:
    """Return the aligned mesh (478, 3) cm with the upper lids down on the lower ones, the skin above with them."""
    shut = face.copy()
    shut[list(_UPPER_LIDS)] += 0.98 * (face[list(_LOWER_LIDS)] - face[list(_UPPER_LIDS)])
    shut[list(_LIDS_SKIN), 1] -= 0.6
    shut[list(_UNDER_BROWS), 1] -= 0.3
    return shut


def warped(image: Image, face: AlignedFace, moved: FloatArray) -> Image:
    """Return the image with its face's vertices (aligned, cm) drawn to where ``moved`` has them; the border stays."""
    from skimage import transform

    library: Any = transform
    height, width = image.shape[:2]
    edge = [(x, y) for x in np.linspace(0, width - 1, 8) for y in np.linspace(0, height - 1, 8)]
    border = np.array([(x, y) for x, y in edge if x in (0, width - 1) or y in (0, height - 1)])
    before, after = (np.concatenate([_in_image(face, points)[:468], border]) for points in (face.points, moved))
    back = library.PiecewiseAffineTransform.from_estimate(after, before)
    drawn = library.warp(image, back, output_shape=(height, width), mode="edge", preserve_range=True)
    return np.asarray(np.round(drawn), dtype=np.uint8)


def _in_image(face: AlignedFace, points: FloatArray) -> FloatArray:
    """Return where aligned points (n, 3) cm lie in the image, (n, 2) px."""
    seen: FloatArray = (points @ face.head.rotation.T * face.head.scale + face.head.shift) * IMAGE_TO_HEAD
    return seen[:, :2]
