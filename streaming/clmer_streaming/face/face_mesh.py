"""Pixels to a face mesh: finds the participant's face, follows it, and finds it again.

In every frame the points are looked for where the face was in the frame before; only when it is not there do
the detectors run. What ended the track, a lost face or a cut of the video, shows as ``MeshFrame.reset``.
The traps of the models beneath are told in ``face_mesh_graph``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.face.appearance import brow_furrow
from clmer_streaming.face.face_mesh_graph import Detection, Detectors, LandmarkGraph, Mesh
from clmer_streaming.face.face_mesh_image import CutDetector, Image, luma_and_sharpness, to_rgb
from clmer_streaming.face.face_mesh_participant import Participant, count_rivals
from clmer_streaming.face.mesh_frame import MeshFrame

_ACQUIRE_PRESENCE = 0.8  # presence score from which a new face is believed; one that is followed needs 0.5
_ACQUIRE_SHIFT = 0.015  # face widths between two looks; hair taken for a face moves 0.022, frontal faces below 0.011
_LOOK_AROUND_FRAMES = 30  # frames between two looks for other people while a face is followed: 1 s at 30 fps


class FaceMeshReader:
    """Gives the participant's face mesh for picture after picture of one camera or video.

    The same pictures in the same order give the same bits. One instance belongs to one thread.

    Attributes:
        n_rebuilt: How often a dead graph was replaced.
    """

    def __init__(self) -> None:
        self.n_rebuilt = 0
        self._landmarks = LandmarkGraph()
        self._detectors = Detectors()
        self.reset()

    def reset(self) -> None:
        """Forget the participant, as before the first picture."""
        self._roi: Any = None  # where the face is expected; None when it is not known
        self._participant = Participant()
        self._cuts = CutDetector()
        self._n_faces = 0
        self._n_followed = 0  # frames since the detectors ran

    def process(self, bgr: npt.NDArray[np.generic]) -> MeshFrame | None:
        """Return the mesh of the participant's face; None where there is none.

        Args:
            bgr: As a camera gives it: (H, W, 3) uint8 BGR; grey, BGRA and floats from 0 to 1 are taken too.

        Raises:
            StreamError: It is no picture.
        """
        rgb = to_rgb(bgr)
        if rgb is None:
            return None
        try:
            return self._read(rgb)
        except RuntimeError:
            self._rebuild()
            return None

    def _rebuild(self) -> None:
        """Replace the graphs, of which one is dead; a dead graph cannot even be closed."""
        self.n_rebuilt += 1
        self._roi = None
        self._landmarks = LandmarkGraph()
        self._detectors = Detectors()

    def _read(self, rgb: Image) -> MeshFrame | None:
        if self._cuts.push(rgb):
            self._roi, self._participant = None, Participant()
        mesh = self._follow(rgb)
        reset = mesh is None
        mesh = self._acquire(rgb) if mesh is None else mesh
        if mesh is None:
            self._roi = None
            self._participant.miss()
            return None
        self._roi = mesh.next_roi
        luma, sharpness = luma_and_sharpness(rgb, mesh.points)
        return MeshFrame(
            points=mesh.points,
            width=rgb.shape[1],
            height=rgb.shape[0],
            presence=mesh.presence,
            reset=reset,
            n_faces=self._n_faces,
            luma=luma,
            sharpness=sharpness,
            brow_furrow=brow_furrow(rgb, mesh.points),
        )

    def _follow(self, rgb: Image) -> Mesh | None:
        """Return the face where it is expected; None where it is not, or is somebody else's."""
        mesh = None if self._roi is None else self._landmarks.find(rgb, self._roi)
        if mesh is None:
            return None
        self._n_followed += 1
        if self._n_followed % _LOOK_AROUND_FRAMES == 0:
            boxes = [found.box for found in self._detectors.near(rgb)]
            self._n_faces = 1 + count_rivals(boxes, mesh.box)
            if self._participant.was_left_behind(mesh.box, boxes):
                return None
        self._participant.follow(mesh.box)
        return mesh

    def _acquire(self, rgb: Image) -> Mesh | None:
        """Return the participant's face wherever it is, near the camera or far."""
        self._n_followed = 0
        looks: tuple[Callable[[Image], list[Detection]], ...] = (self._detectors.near, self._detectors.far)
        for look in looks:
            seen = look(rgb)
            boxes = [found.box for found in seen]
            for i in self._participant.rank(boxes, rgb.shape[1], rgb.shape[0]):
                mesh = self._believe(rgb, seen[i])
                if mesh is not None:
                    self._participant.acquire(mesh.box)
                    self._n_faces = 1 + count_rivals(boxes, mesh.box)
                    return mesh
        return None

    def _believe(self, rgb: Image, found: Detection) -> Mesh | None:
        """Return the mesh of a detected face, if looking again where it lies finds it where it was."""
        first = self._landmarks.find(rgb, found.roi)
        second = None if first is None else self._landmarks.find(rgb, first.next_roi)
        third = None if second is None else self._landmarks.find(rgb, second.next_roi)
        if second is None or third is None or third.presence < _ACQUIRE_PRESENCE:
            return None
        shift = float(np.mean(np.linalg.norm(third.points[:, :2] - second.points[:, :2], axis=1)))
        return third if shift <= _ACQUIRE_SHIFT * third.box.width else None
