"""HOG, histograms of oriented gradients (Dalal and Triggs 2005), of the aligned face, as in OpenFace and the paper."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.image import Image, to_rgb
from clmer_streaming.types import FloatArray

ALIGNED_PX = 112
"""Side of the aligned face in pixels, as in OpenFace."""

_ORIENTATIONS, _CELL_PX, _BLOCK_CELLS = 9, 16, 2
_BLOCKS = ALIGNED_PX // _CELL_PX - _BLOCK_CELLS + 1
HOG_CH_NAMES = tuple(f"HOG{i:04d}" for i in range(_BLOCKS**2 * _BLOCK_CELLS**2 * _ORIENTATIONS))
"""Labels of the 1296 values, by rows of blocks, blocks, rows of cells, cells and orientations."""

HOG_STREAM = "CLMER-HOG"
"""Default name of a stream of HOG descriptors."""

_ANCHORS = (36, 39, 42, 45, 33)  # iBUG: corners of both eyes, the nose's base
_ANCHORS_PX = np.array([[26.0, 40.0], [46.0, 40.0], [66.0, 40.0], [86.0, 40.0], [56.0, 70.0]])  # in the aligned face


class Hog:
    """Computes the HOG descriptor of a face.

    Example::

        descriptor = Hog()(bgr, image_points(frame))

    Raises:
        SettingsError: scikit-image is not installed.
    """

    def __init__(self) -> None:
        try:
            from skimage.feature import hog
        except ImportError as error:
            raise SettingsError(
                expected="scikit-image, for --hog", found="none", mend="pip install scikit-image"
            ) from error
        self._hog = hog

    def __call__(self, picture: npt.NDArray[np.generic] | None, points: FloatArray) -> FloatArray:
        """Return the descriptor (1296,) of a face; NaN without a face, or if the picture is too small.

        Args:
            picture: (H, W, 3) BGR, or another form that ``to_rgb`` accepts.
            points: (68, 2) landmarks in pixels.
        """
        rgb = None if picture is None else to_rgb(picture)
        if rgb is None or not np.isfinite(points).all():
            return np.full(len(HOG_CH_NAMES), np.nan)
        descriptor: FloatArray = self._hog(
            aligned_face(rgb, points),
            orientations=_ORIENTATIONS,
            pixels_per_cell=(_CELL_PX, _CELL_PX),
            cells_per_block=(_BLOCK_CELLS, _BLOCK_CELLS),
        )
        return descriptor


def aligned_face(rgb: Image, points: FloatArray) -> npt.NDArray[np.uint8]:
    """Return the gray face (112, 112), rotated and scaled so that eyes and nose are at fixed positions."""
    import cv2

    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    face = cv2.warpAffine(grey, _similarity(points[list(_ANCHORS)]), (ALIGNED_PX, ALIGNED_PX))
    return np.asarray(face, dtype=np.uint8)


def _similarity(points: FloatArray) -> FloatArray:
    """Return the least-squares similarity (2, 3) from points (5, 2) to the anchors."""
    centre, place = points.mean(axis=0), _ANCHORS_PX.mean(axis=0)
    p, q = points - centre, _ANCHORS_PX - place
    size = float(np.sum(p**2))
    a = float(np.sum(p * q)) / size
    b = float(np.sum(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])) / size
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, place - turn @ centre])
