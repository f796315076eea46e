"""What a face mesh says about one image: the boundary between pixels and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FloatArray

N_VERTICES = 478
"""Vertices of a refined FaceMesh: 468 of the face, then five of each iris."""


@dataclass(frozen=True, eq=False)
class MeshFrame:
    """One image's face mesh, and what its trustworthiness is judged by."""

    points: FloatArray  # (478, 3) x, y in pixels of the full image (not clamped), z in pixels, negative toward camera
    width: int  # of the image, pixels
    height: int  # of the image, pixels
    presence: float | None  # presence score of the mesh, 0-1; None: its extractor keeps it to itself
    reset: bool  # the detector ran: tracking was lost or acquired
    n_faces: int  # faces that the detector saw when it ran last
    luma: float  # mean luma of the face box, 0-255
    sharpness: float  # variance of the Laplacian inside the face box
    brow_furrow: float  # depth of the folds between the brows; see appearance.py


class MeshReader(Protocol):
    """What finds the points of a face, for picture after picture of one camera or video."""

    n_rebuilt: int
    """How often a dead graph was replaced."""

    def reset(self) -> None:
        """Forget every face, as before the first picture."""

    def process(self, bgr: npt.NDArray[np.generic]) -> MeshFrame | None:
        """Return the mesh of the participant's face; None where there is none.

        Args:
            bgr: As a camera gives it: (H, W, 3) uint8 BGR; grey, BGRA and floats from 0 to 1 are taken too.
        """
