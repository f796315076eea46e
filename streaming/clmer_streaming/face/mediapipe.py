"""MediaPipe's face models behind two small classes, and tracking of the participant among several faces.

``Detectors`` find faces, ``LandmarkGraph`` finds the vertices of one face, and ``ParticipantTracker`` decides which
face is the participant's. Facts about MediaPipe, measured with the wheel 0.10.21, the last one that holds the models:

- One instance belongs to one thread at a time: two threads at once end the whole process.
- A child forked after MediaPipe was used hangs: processes are spawned, never forked.
- An empty picture kills a detector for good (RuntimeError, from ``close`` too: such an instance is thrown away)
  and in the landmark graph the whole process: pictures below 16 pixels are kept from them.
- Pictures are RGB. BGR is accepted silently and gives slightly wrong points.
- FaceMesh hides its presence score; the expanded graph has it as a stream. The score says little (1.000 with
  half of the face covered), so it decides only whether there is a face at all.
- z is in units of x: both are multiplied by the width.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from clmer_streaming.face.image import Image, extent
from clmer_streaming.types import FloatArray

PATIENCE_FRAMES = 60
"""Frames (2 s at 30 fps) for which an absent participant's place is kept."""

_HOME_WEIGHT = 1 / 90  # of the newest frame in the participant's usual place: it follows within about 3 s
_NEAR = 1.0  # most box widths between the centers of one face in two frames
_SAME_SIZE = 2.0  # largest ratio of widths of one face at one place
_ALIKE_SIZE = 1.5  # largest ratio of widths of one face that moved fast
_RIVAL_SIZE = 0.4  # share of the participant's width from which another face counts as a second person


@dataclass(frozen=True)
class Box:
    """The place of a face in the image, in pixels."""

    x: float  # of the centre
    y: float  # of the centre
    width: float

    @classmethod
    def around(cls, points: FloatArray) -> Self:
        """Return the box around points (n, 2+) in pixels."""
        x0, y0, x1, y1 = extent(points)
        return cls((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0)

    def is_near(self, other: Box) -> bool:
        """Return whether both may be the same face in two frames."""
        near = math.hypot(self.x - other.x, self.y - other.y) <= _NEAR * min(self.width, other.width)
        return near and self.ratio(other) <= _SAME_SIZE

    def ratio(self, other: Box) -> float:
        """Return the ratio of the larger width to the smaller one."""
        return max(self.width, other.width) / max(min(self.width, other.width), 1e-6)


class ParticipantTracker:
    """Keeps the participant's usual place, and ranks faces by how likely they are the participant's.

    The first participant is the largest central face. From then on the place decides, so that a person who walks
    through the picture does not take over; after ``PATIENCE_FRAMES`` without the participant any face may be next.
    """

    def __init__(self) -> None:
        self._home: Box | None = None  # the usual place
        self._n_missed = 0

    def acquire(self, box: Box) -> None:
        """Set the place in which the participant was found."""
        self._home, self._n_missed = box, 0

    def follow(self, box: Box) -> None:
        """Update the usual place by the box of the tracked face in this frame."""
        home, w = self._home or box, _HOME_WEIGHT
        self._home = Box(
            home.x + w * (box.x - home.x), home.y + w * (box.y - home.y), home.width + w * (box.width - home.width)
        )

    def miss(self) -> None:
        """Count a frame without the participant."""
        self._n_missed += 1
        if self._n_missed > PATIENCE_FRAMES:
            self._home = None

    def rank(self, boxes: Sequence[Box], width: int, height: int) -> list[int]:
        """Return the indices of the faces that may be the participant's, best first.

        Args:
            boxes: Faces of a detector.
            width: Width of the image in pixels.
            height: Height of the image in pixels.
        """
        order = sorted(range(len(boxes)), key=lambda i: -_size_and_centrality(boxes[i], width, height))
        home = self._home
        if home is None:
            return order
        near = [i for i in order if boxes[i].is_near(home)]
        if near:
            return sorted(near, key=lambda i: math.hypot(boxes[i].x - home.x, boxes[i].y - home.y))
        return order if len(boxes) == 1 and boxes[0].ratio(home) <= _ALIKE_SIZE else []

    def was_left_behind(self, box: Box, boxes: Sequence[Box]) -> bool:
        """Return whether the tracked box went away with another person who walked through the picture.

        That is so when it has left the participant's usual place while another face is still there.

        Args:
            box: The tracked face.
            boxes: Faces of a detector.
        """
        home = self._home
        if home is None or _overlaps(box, home):
            return False
        return any(_overlaps(other, home) and not _overlaps(other, box) for other in boxes)


def count_rivals(boxes: Sequence[Box], participant: Box) -> int:
    """Return the number of other faces that are large enough to count as a second person."""
    others = (box for box in boxes if not _overlaps(box, participant))
    return sum(box.width >= _RIVAL_SIZE * participant.width for box in others)


def _overlaps(a: Box, b: Box) -> bool:
    return math.hypot(a.x - b.x, a.y - b.y) < 0.6 * max(a.width, b.width)


def _size_and_centrality(box: Box, width: int, height: int) -> float:
    """Return the width of a face, weighted by 1 in the center of the image to 0.5 in its corners."""
    off = math.hypot(box.x - width / 2, box.y - height / 2) / math.hypot(width / 2, height / 2)
    return box.width * (1 - 0.5 * min(off, 1.0))


_PRESENCE = "facelandmarkcpu__face_presence_score"  # MediaPipe's name of the stream within FaceLandmarkCpu

_LANDMARK_GRAPH = """
input_stream: "image"
input_stream: "roi"
input_side_packet: "with_attention"
output_stream: "landmarks"
output_stream: "next_roi"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
node { calculator: "ImagePropertiesCalculator" input_stream: "IMAGE:image" output_stream: "SIZE:size" }
node {
  calculator: "FaceLandmarkLandmarksToRoi"
  input_stream: "LANDMARKS:landmarks"
  input_stream: "IMAGE_SIZE:size"
  output_stream: "ROI:next_roi"
}
"""
"""The second half of FaceMesh, with the region to search as an input. For the same regions its points are bit for bit
those of FaceMesh."""

_PACKED_LANDMARK = np.dtype(
    [("length", "V2"), ("x_tag", "V1"), ("x", "<f4"), ("y_tag", "V1"), ("y", "<f4"), ("z_tag", "V1"), ("z", "<f4")]
)
"""One landmark of a NormalizedLandmarkList in Protocol Buffers' wire format; FaceMesh sets only these three fields."""

_ROI_SCALE = 1.5  # side of the region over the longer side of a detected face, as in FaceMesh
_SHORT_RANGE_SCORE = 0.5  # FaceMesh's own threshold
_FULL_RANGE_SCORE = 0.6  # beside the second opinion below; alone it takes letters for faces at up to 0.69
_SECOND_OPINION_SCORE = 0.65  # of the short-range model on the enlarged face: letters reach 0.55, faces 0.68-0.92
_DETECTED_OVER_MESH = 1.13  # width of a detector's box over that of the mesh in it; 1.06 to 1.2
_CROP_SCALE = 2.2  # side of the enlarged piece over the face's
_CROP_PX = 256  # side to which it is scaled


@dataclass(frozen=True)
class Detection:
    """A face of a detector, and the region in which to look for its vertices."""

    box: Box
    roi: Any  # mediapipe NormalizedRect


@dataclass(frozen=True, eq=False)
class Mesh:
    """The vertices of a face in one image."""

    points: FloatArray  # (478, 3) pixels; z in pixels too, negative toward the camera
    presence: float  # 0-1
    next_roi: Any  # mediapipe NormalizedRect: where to look in the next frame

    @functools.cached_property
    def box(self) -> Box:
        """The box around the points."""
        return Box.around(self.points)


class LandmarkGraph:
    """Finds the 478 vertices of the face in a region of an image; keeps no state between calls."""

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solution_base import PacketDataType, SolutionBase

            self._graph = SolutionBase(
                graph_config=_LANDMARK_GRAPH,
                side_inputs={"with_attention": True},
                outputs=["landmarks", "next_roi", _PRESENCE],
                stream_type_hints={_PRESENCE: PacketDataType.FLOAT},
            )
            self.find(np.zeros((_CROP_PX, _CROP_PX, 3), np.uint8), _roi(0.5, 0.5, 1.0, 1.0, 0.0))  # opens everything

    def find(self, rgb: Image, roi: Any) -> Mesh | None:
        """Return the face in a region of an RGB image; None if its presence score is below 0.5.

        Raises:
            RuntimeError: The graph is dead; make another one.
        """
        found = self._graph.process({"image": rgb, "roi": roi})
        if found.landmarks is None:
            return None
        points = in_pixels(_coordinates(found.landmarks), rgb.shape[1], rgb.shape[0])
        return Mesh(points, float(getattr(found, _PRESENCE)), found.next_roi)


def _coordinates(landmarks: Any) -> FloatArray:
    """Return x, y, z of all landmarks (n, 3); thirty times faster than reading them one by one."""
    packed = np.frombuffer(landmarks.SerializeToString(), _PACKED_LANDMARK)
    return np.column_stack([packed[axis] for axis in "xyz"]).astype(np.float64)


def in_pixels(relative: FloatArray, width: int, height: int) -> FloatArray:
    """Return MediaPipe's points (n, 3), which are relative to the size of an image, in pixels."""
    return relative * np.array([width, height, width], dtype=np.float64)


class Detectors:
    """The two face detectors of the wheel: short range, up to about 2 m, and full range."""

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._short_range = FaceDetection(_SHORT_RANGE_SCORE, model_selection=0)
            self._full_range = FaceDetection(_FULL_RANGE_SCORE, model_selection=1)
            self.near(np.zeros((_CROP_PX, _CROP_PX, 3), np.uint8))
            self.far(np.zeros((_CROP_PX, _CROP_PX, 3), np.uint8))

    def near(self, rgb: Image) -> list[Detection]:
        """Return the faces wider than about an eighth of the image.

        Raises:
            RuntimeError: The graph is dead; make other ones.
        """
        height, width = rgb.shape[:2]
        return [_detection(found, width, height) for found in self._short_range.process(rgb).detections or ()]

    def far(self, rgb: Image) -> list[Detection]:
        """Return small faces: those of the full-range model that the short-range model confirms when enlarged.

        Raises:
            RuntimeError: The graph is dead; make other ones.
        """
        height, width = rgb.shape[:2]
        found = [_detection(one, width, height) for one in self._full_range.process(rgb).detections or ()]
        return [closer for one in found if (closer := self._confirm(rgb, one.box)) is not None]

    def _confirm(self, rgb: Image, box: Box) -> Detection | None:
        """Return the face that the short-range model sees in the enlarged box; None if it sees none."""
        import cv2

        side = max(int(_CROP_SCALE * box.width), 1)
        x0, y0 = max(int(box.x - side / 2), 0), max(int(box.y - side / 2), 0)
        crop = rgb[y0 : y0 + side, x0 : x0 + side]
        if not crop.size:
            return None
        scale = _CROP_PX / max(crop.shape[:2])
        enlarged = np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)
        if min(enlarged.shape[:2]) < _CROP_PX // 4:
            return None
        sure = [d for d in self._short_range.process(enlarged).detections or () if d.score[0] >= _SECOND_OPINION_SCORE]
        if not sure:
            return None
        near = _detection(max(sure, key=lambda d: d.score[0]), enlarged.shape[1], enlarged.shape[0])
        return _moved(near, enlarged, rgb, (x0, y0), scale)


def _detection(found: Any, width: int, height: int) -> Detection:
    """Return a detected face with the region that FaceMesh derives from it: square, and turned with the eyes."""
    box = found.location_data.relative_bounding_box
    right_eye, left_eye = found.location_data.relative_keypoints[:2]
    turn = math.atan2((left_eye.y - right_eye.y) * height, (left_eye.x - right_eye.x) * width)
    side = _ROI_SCALE * max(box.width * width, box.height * height)
    x, y = box.xmin + box.width / 2, box.ymin + box.height / 2
    face = Box(x * width, y * height, box.width * width / _DETECTED_OVER_MESH)
    return Detection(face, _roi(x, y, side / width, side / height, turn))


def _moved(found: Detection, crop: Image, image: Image, corner: tuple[int, int], scale: float) -> Detection:
    """Return a face found in an enlarged crop in the coordinates of the whole image."""
    (height, width), roi = image.shape[:2], found.roi
    x = (roi.x_center * crop.shape[1] / scale + corner[0]) / width
    y = (roi.y_center * crop.shape[0] / scale + corner[1]) / height
    side = roi.width * crop.shape[1] / scale
    box = Box(found.box.x / scale + corner[0], found.box.y / scale + corner[1], found.box.width / scale)
    return Detection(box, _roi(x, y, side / width, side / height, roi.rotation))


def _roi(x: float, y: float, width: float, height: float, turn: float) -> Any:
    from mediapipe.framework.formats.rect_pb2 import NormalizedRect

    return NormalizedRect(x_center=x, y_center=y, width=width, height=height, rotation=turn)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what MediaPipe's libraries write to stderr while they load; errors are raised as usual."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
