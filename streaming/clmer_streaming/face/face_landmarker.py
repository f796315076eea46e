"""Pixels to a face mesh with MediaPipe's FaceLandmarker, from a ``.task`` file that the user brings.

It differs from ``face_mesh`` in what cannot be had from it, measured with the wheel 0.10.21:

- It keeps its presence score to itself: known is only that the face passed the same threshold as in FaceMesh, 0.5.
- It is asked for one face, which it takes by its detector's score, not by size and place. (Asked for more, it looks in
  the detector's region in every frame instead of following the face, and the points come out up to 1 % of the image
  elsewhere.) Other people are looked for with the wheel's detector, once a second.
- It smooths one face's points over time, by stamps. The stamps given here count frames, 33 ms each, so that the same
  pictures give the same bits.
- It does not say that its detector ran: a face that was not there before, or that has moved by more than its width,
  counts as found anew, and so does any face behind a cut.
- It finds faces up to about 2 m away: its detector is the short-range one.
- A model that does not fit shows only with the first face; one of 468 points comes out as 478 without depth.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.appearance import brow_furrow
from clmer_streaming.face.extractor import MEND_BUNDLE
from clmer_streaming.face.face_mesh_graph import Detectors, in_pixels, quiet
from clmer_streaming.face.face_mesh_image import CutDetector, Image, luma_and_sharpness, to_rgb
from clmer_streaming.face.face_mesh_participant import Box, count_rivals
from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.types import FloatArray

_FRAME_MS = 33  # between two stamps; FaceLandmarker's smoothing is made for about 30 frames a second
_LOOK_AROUND_FRAMES = 30  # between two looks for other people
_MAX_FAILURES = 3  # without a face between them, after which the bundle is at fault
_BLACK_PX = 256  # side of the picture that ends a track
_TEXT = 300  # characters of MediaPipe's own error that are passed on
_GRAPH_PATH = re.compile(r"\w*__")  # before the name of the node that failed


class FaceLandmarkerReader:
    """Gives the mesh of the face that FaceLandmarker follows, for picture after picture of one camera or video.

    The same pictures in the same order give the same bits. One instance belongs to one thread.

    Args:
        bundle: Content of the ``.task`` file.

    Attributes:
        n_rebuilt: How often a dead graph was replaced.

    Raises:
        SettingsError: MediaPipe cannot use the bundle.
    """

    def __init__(self, bundle: bytes) -> None:
        self.n_rebuilt = 0
        self._bundle = bundle
        self._n_failed = 0  # since the last face
        self._landmarker = self._open()
        self._detectors = Detectors()
        self._begin()

    def reset(self) -> None:
        """Forget every face, as before the first picture."""
        self._landmarker.close()
        self._landmarker = self._open()
        self._begin()

    def _open(self) -> _Landmarker:
        try:
            return _Landmarker(self._bundle)
        except (RuntimeError, ValueError) as error:
            raise _unusable(error) from error

    def _begin(self) -> None:
        self._cuts = CutDetector()
        self._box: Box | None = None  # of the frame before
        self._n_faces = 0
        self._n_followed = 0  # frames since others were looked for

    def process(self, bgr: npt.NDArray[np.generic]) -> MeshFrame | None:
        """Return the mesh of the face; None where there is none.

        Args:
            bgr: As a camera gives it: (H, W, 3) uint8 BGR; grey, BGRA and floats from 0 to 1 are taken too.

        Raises:
            StreamError: It is no picture.
            SettingsError: The bundle's models do not work with this MediaPipe.
        """
        rgb = to_rgb(bgr)
        if rgb is None:
            return None
        try:
            return self._read(rgb)
        except (RuntimeError, ValueError) as error:
            self._n_failed += 1
            if self._n_failed >= _MAX_FAILURES:
                raise _unusable(error) from error
            self._rebuild()
            return None

    def _rebuild(self) -> None:
        """Replace the graphs, of which one is dead."""
        self.n_rebuilt += 1
        self._detectors = Detectors()
        self.reset()

    def _read(self, rgb: Image) -> MeshFrame | None:
        if self._cuts.push(rgb):
            self._box = None
            self._landmarker.lose()
        points = self._landmarker.find(rgb)
        before, self._box = self._box, None if points is None else Box.around(points)
        if points is None or self._box is None:
            return None
        self._n_failed = 0
        reset = before is None or not self._box.is_near(before)
        self._look_around(rgb, self._box, now=reset)
        luma, sharpness = luma_and_sharpness(rgb, points)
        return MeshFrame(
            points=points,
            width=rgb.shape[1],
            height=rgb.shape[0],
            presence=None,
            reset=reset,
            n_faces=self._n_faces,
            luma=luma,
            sharpness=sharpness,
            brow_furrow=brow_furrow(rgb, points),
        )

    def _look_around(self, rgb: Image, box: Box, *, now: bool) -> None:
        """Count the people in view, now and then."""
        self._n_followed = 0 if now else self._n_followed + 1
        if self._n_followed % _LOOK_AROUND_FRAMES == 0:
            self._n_faces = 1 + count_rivals([found.box for found in self._detectors.near(rgb)], box)


class _Landmarker:
    """MediaPipe's FaceLandmarker for one face of a video."""

    def __init__(self, bundle: bytes) -> None:
        with quiet():
            from mediapipe.tasks.python import BaseOptions, vision

            self._task = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    base_options=BaseOptions(model_asset_buffer=bundle),
                    running_mode=vision.RunningMode.VIDEO,
                    num_faces=1,
                )
            )
            self._n_frames = 0
            self.lose()  # opens everything

    def close(self) -> None:
        """Give its memory back, about 40 MB, which otherwise stay; a dead graph says here once more why it died."""
        with contextlib.suppress(RuntimeError, ValueError):
            self._task.close()

    def lose(self) -> None:
        """End the track, by a picture in which nothing is: the next face is looked for everywhere."""
        self.find(np.zeros((_BLACK_PX, _BLACK_PX, 3), np.uint8))

    def find(self, rgb: Image) -> FloatArray | None:
        """Return the points (478, 3) of the face in pixels; None where there is none.

        Raises:
            RuntimeError: The graph is dead, or its models do not fit; make another one.
            ValueError: The same.
        """
        faces = self._detect(rgb)
        if not faces:
            return None
        relative = np.array([(p.x, p.y, p.z) for p in faces[0]], dtype=np.float64)
        points = in_pixels(relative, rgb.shape[1], rgb.shape[0])
        if not points[:, 2].any():
            raise ValueError("a mesh model of fewer than 478 points")
        return points

    def _detect(self, rgb: Image) -> list[Any]:
        from mediapipe import Image as TaskImage
        from mediapipe import ImageFormat

        self._n_frames += 1
        picture = TaskImage(image_format=ImageFormat.SRGB, data=rgb)
        faces: list[Any] = self._task.detect_for_video(picture, self._n_frames * _FRAME_MS).face_landmarks
        return faces


def _unusable(error: Exception) -> SettingsError:
    return SettingsError(
        expected="a FaceLandmarker bundle whose models run in MediaPipe 0.10.21",
        found=" ".join(_GRAPH_PATH.sub("", str(error)).split())[:_TEXT],
        mend=MEND_BUNDLE,
    )
