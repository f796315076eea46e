"""The two extractors of face meshes: FaceMesh from MediaPipe's wheel, and a FaceLandmarker bundle of the user.

An ``Extractor`` names one of them and opens its reader: ``FaceMeshReader`` or ``FaceLandmarkerReader``. All further
processing of the 478 vertices is the same, but their positions differ, so each has an id of its own: a model is used
only with the extractor that it was trained with.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.geometry import MeshFrame
from clmer_streaming.face.image import CutDetector, Image, brow_furrow, luma_and_sharpness, to_rgb
from clmer_streaming.face.layout import EXTRACTOR_ID, OPENFACE_EXTRACTOR_ID
from clmer_streaming.face.mediapipe import (
    Box,
    Detection,
    Detectors,
    LandmarkGraph,
    Mesh,
    ParticipantTracker,
    count_rivals,
    in_pixels,
    quiet,
)
from clmer_streaming.types import FloatArray

MEND_BUNDLE = "give --face-landmarker MediaPipe's face_landmarker.task, or leave it out"
"""Advice for a bundle that cannot be used."""

_MODELS = ("face_detector.tflite", "face_landmarks_detector.tflite")  # files that every bundle needs
_LANDMARKER_ID = f"{EXTRACTOR_ID}-landmarker-"  # then 8 hex digits of the file's SHA-256


class MeshReader(Protocol):
    """Finds the face mesh in the frames of one camera or video, one after the other."""

    n_rebuilt: int
    """Number of times that a dead graph was replaced."""

    def reset(self) -> None:
        """Return to the state before the first picture."""

    def process(self, bgr: npt.NDArray[np.generic]) -> MeshFrame | None:
        """Return the mesh of the participant's face; None without a face.

        Args:
            bgr: (H, W, 3) uint8 BGR, as a camera gives it; gray, BGRA, and floats from 0 to 1 are accepted too.
        """


@dataclass(frozen=True)
class Extractor:
    """The choice of a face mesh model; picklable, for another process.

    Example::

        mesh = Extractor.choose(None).open()
        frame = mesh.process(bgr)
    """

    id: str = EXTRACTOR_ID
    bundle: Path | None = None  # the user's FaceLandmarker bundle; None: FaceMesh

    @classmethod
    def choose(cls, bundle: Path | None) -> Extractor:
        """Return the extractor of a ``.task`` file; FACE_MESH without one.

        Raises:
            SettingsError: The file is not a FaceLandmarker bundle.
        """
        return FACE_MESH if bundle is None else cls(_id_of(_read(bundle)), bundle)

    def open(self) -> MeshReader:
        """Load the models and return their reader.

        Raises:
            SettingsError: MediaPipe cannot use the bundle, or the file has changed since ``choose``.
        """
        if self.bundle is None:
            return FaceMeshReader()
        content = _read(self.bundle)
        if _id_of(content) != self.id:
            raise SettingsError(f"the bundle {self.id!r} at {self.bundle}", "another one by now", "start again")
        return FaceLandmarkerReader(content)


FACE_MESH = Extractor()
"""The default extractor: FaceMesh from MediaPipe's wheel."""


def is_known_extractor(name: str) -> bool:
    """Return whether this version can compute the numbers of an extractor with this id, or read them from a file."""
    return name in (EXTRACTOR_ID, OPENFACE_EXTRACTOR_ID) or bool(
        re.fullmatch(rf"{re.escape(_LANDMARKER_ID)}[0-9a-f]{{8}}", name)
    )


def _id_of(content: bytes) -> str:
    return _LANDMARKER_ID + hashlib.sha256(content).hexdigest()[:8]


def _read(bundle: Path) -> bytes:
    """Return the content of a bundle; refuse a file without the models."""
    try:
        content = bundle.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except OSError as error:
        raise _unusable(bundle, error.strerror or repr(error)) from error
    except zipfile.BadZipFile as error:
        raise _unusable(bundle, "a file that is no such bundle") from error
    missing = [name for name in _MODELS if name not in names]
    if missing:
        raise _unusable(bundle, f"a bundle without {' and '.join(missing)}")
    return content


def _unusable(bundle: Path, found: str) -> SettingsError:
    return SettingsError(f"a FaceLandmarker bundle (.task) at {bundle}", found, MEND_BUNDLE)


_ACQUIRE_PRESENCE = 0.8  # least presence score of a new face; a tracked one needs 0.5
_ACQUIRE_SHIFT = 0.015  # most face widths between two fits; hair taken for a face moves 0.022, frontal faces 0.011
_DETECT_FRAMES = 30  # frames between two detections of other people while a face is tracked: 1 s at 30 fps


class FaceMeshReader:
    """Finds the participant's face mesh in the frames of one camera or video, by FaceMesh.

    The same pictures in the same order give the same bits. One instance belongs to one thread.

    Attributes:
        n_rebuilt: Number of times that a dead graph was replaced.
    """

    def __init__(self) -> None:
        self.n_rebuilt = 0
        self._landmarks = LandmarkGraph()
        self._detectors = Detectors()
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first picture."""
        self._roi: Any = None  # region in which the face is expected; None: no face is tracked
        self._participant = ParticipantTracker()
        self._cuts = CutDetector()
        self._n_faces = 0
        self._n_tracked = 0  # frames since the detectors ran

    def process(self, bgr: npt.NDArray[np.generic]) -> MeshFrame | None:
        """Return the mesh of the participant's face; None without a face.

        Args:
            bgr: (H, W, 3) uint8 BGR, as a camera gives it; gray, BGRA, and floats from 0 to 1 are accepted too.

        Raises:
            StreamError: It is not a picture.
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
        """Replace the graphs, one of which is dead; a dead graph cannot even be closed."""
        self.n_rebuilt += 1
        self._roi = None
        self._landmarks = LandmarkGraph()
        self._detectors = Detectors()

    def _read(self, rgb: Image) -> MeshFrame | None:
        if self._cuts.push(rgb):
            self._roi, self._participant = None, ParticipantTracker()
        mesh = self._track(rgb)
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

    def _track(self, rgb: Image) -> Mesh | None:
        """Return the face in the expected region; None if there is none, or if it is another person's."""
        mesh = None if self._roi is None else self._landmarks.find(rgb, self._roi)
        if mesh is None:
            return None
        self._n_tracked += 1
        if self._n_tracked % _DETECT_FRAMES == 0:
            boxes = [found.box for found in self._detectors.near(rgb)]
            self._n_faces = 1 + count_rivals(boxes, mesh.box)
            if self._participant.was_left_behind(mesh.box, boxes):
                return None
        self._participant.follow(mesh.box)
        return mesh

    def _acquire(self, rgb: Image) -> Mesh | None:
        """Return the participant's face anywhere in the picture, by the detectors for near and for far faces."""
        self._n_tracked = 0
        detectors: tuple[Callable[[Image], list[Detection]], ...] = (self._detectors.near, self._detectors.far)
        for detect in detectors:
            seen = detect(rgb)
            boxes = [found.box for found in seen]
            for i in self._participant.rank(boxes, rgb.shape[1], rgb.shape[0]):
                mesh = self._confirm(rgb, seen[i])
                if mesh is not None:
                    self._participant.acquire(mesh.box)
                    self._n_faces = 1 + count_rivals(boxes, mesh.box)
                    return mesh
        return None

    def _confirm(self, rgb: Image, found: Detection) -> Mesh | None:
        """Return the mesh of a detected face if repeated fits agree on its place; else None."""
        first = self._landmarks.find(rgb, found.roi)
        second = None if first is None else self._landmarks.find(rgb, first.next_roi)
        third = None if second is None else self._landmarks.find(rgb, second.next_roi)
        if second is None or third is None or third.presence < _ACQUIRE_PRESENCE:
            return None
        shift = float(np.mean(np.linalg.norm(third.points[:, :2] - second.points[:, :2], axis=1)))
        return third if shift <= _ACQUIRE_SHIFT * third.box.width else None


_FRAME_MS = 33  # between two stamps; FaceLandmarker's smoothing is made for about 30 frames a second
_MAX_FAILURES = 3  # without a face between them, after which the bundle is refused
_BLACK_PX = 256  # side of the black picture that ends a track
_TEXT = 300  # characters of MediaPipe's error that are quoted
_GRAPH_PATH = re.compile(r"\w*__")  # before the name of the node that failed


class FaceLandmarkerReader:
    """Finds the face mesh in the frames of one camera or video, by MediaPipe's FaceLandmarker.

    The same pictures in the same order give the same bits. One instance belongs to one thread.

    Args:
        bundle: Content of the ``.task`` file.

    Attributes:
        n_rebuilt: Number of times that a dead graph was replaced.

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
        """Return to the state before the first picture."""
        self._landmarker.close()
        self._landmarker = self._open()
        self._begin()

    def _open(self) -> _Landmarker:
        try:
            return _Landmarker(self._bundle)
        except (RuntimeError, ValueError) as error:
            raise _unusable_bundle(error) from error

    def _begin(self) -> None:
        self._cuts = CutDetector()
        self._box: Box | None = None  # of the frame before
        self._n_faces = 0
        self._n_tracked = 0  # frames since the detectors ran

    def process(self, bgr: npt.NDArray[np.generic]) -> MeshFrame | None:
        """Return the mesh of the face; None without a face.

        Args:
            bgr: (H, W, 3) uint8 BGR, as a camera gives it; gray, BGRA, and floats from 0 to 1 are accepted too.

        Raises:
            StreamError: It is not a picture.
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
                raise _unusable_bundle(error) from error
            self._rebuild()
            return None

    def _rebuild(self) -> None:
        """Replace the graphs, one of which is dead."""
        self.n_rebuilt += 1
        self._detectors = Detectors()
        self.reset()

    def _read(self, rgb: Image) -> MeshFrame | None:
        if self._cuts.push(rgb):
            self._box = None
            self._landmarker.end_track()
        points = self._landmarker.find(rgb)
        before, self._box = self._box, None if points is None else Box.around(points)
        if points is None or self._box is None:
            return None
        self._n_failed = 0
        reset = before is None or not self._box.is_near(before)
        self._count_faces(rgb, self._box, now=reset)
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

    def _count_faces(self, rgb: Image, box: Box, *, now: bool) -> None:
        """Count the faces in view, every ``_DETECT_FRAMES`` frames and ``now``."""
        self._n_tracked = 0 if now else self._n_tracked + 1
        if self._n_tracked % _DETECT_FRAMES == 0:
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
            self.end_track()  # opens everything

    def close(self) -> None:
        """Free its memory, about 40 MB; a dead graph raises its error here once more."""
        with contextlib.suppress(RuntimeError, ValueError):
            self._task.close()

    def end_track(self) -> None:
        """End the track by an empty picture, so that the next face is detected anew."""
        self.find(np.zeros((_BLACK_PX, _BLACK_PX, 3), np.uint8))

    def find(self, rgb: Image) -> FloatArray | None:
        """Return the vertices (478, 3) of the face in pixels; None without a face.

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


def _unusable_bundle(error: Exception) -> SettingsError:
    return SettingsError(
        expected="a FaceLandmarker bundle whose models run in MediaPipe 0.10.21",
        found=" ".join(_GRAPH_PATH.sub("", str(error)).split())[:_TEXT],
        mend=MEND_BUNDLE,
    )
