"""How long a frame's face takes, step by step, on one core: FaceMesh, and everything that is made of its mesh.

Run with ``python benchmarks/faces.py``. The pictures are scikit-image's astronaut, drifting over a grey wall, so that
the face is tracked as a live one is. Prints one table for each size of picture; nothing is asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from clmer_streaming.face.action_units import intensities
from clmer_streaming.face.alignment import align
from clmer_streaming.face.face_mesh import FaceMeshReader
from clmer_streaming.face.features import face_features
from clmer_streaming.face.gaze import gaze_angles
from clmer_streaming.face.landmarks import landmarks_68
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.face.neutral import PRIOR_MEAN
from clmer_streaming.face.pose import head_pose, straightened, viewing_ray
from clmer_streaming.face.quality import face_quality
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.face.running_neutral import RunningNeutral

SIZES = ((640, 480), (1280, 720))  # pixels
FRAMES = 600
WARM_UP = 30  # frames that are not counted
FPS = 30.0

T = TypeVar("T")


@dataclass
class Stopwatch:
    """Seconds that each step took, by name."""

    spent: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, call: Callable[[], T]) -> T:
        """Return what the call returns, and keep how long it took."""
        start = time.perf_counter()
        result = call()
        self.spent.setdefault(name, []).append(time.perf_counter() - start)
        return result


def main() -> None:
    """Measure and print."""
    for width, height in SIZES:
        Console(width=100).print(table(measure(width, height), f"{width} x {height}, {FRAMES} frames"))


def measure(width: int, height: int) -> Stopwatch:
    """Return how long the steps of many frames took."""
    import cv2

    cv2.setNumThreads(1)
    watch, mesh, reader, neutral = Stopwatch(), FaceMeshReader(), FaceReader(), RunningNeutral()
    for index in range(FRAMES + WARM_UP):
        picture = drifting_picture(width, height, index)
        if index == WARM_UP:
            watch.spent.clear()
        frame = watch.time("FaceMesh, with sharpness and luma", lambda picture=picture: mesh.process(picture))  # type: ignore[misc]
        if frame is None:
            raise RuntimeError(f"no face in picture {index}")
        sample = watch.time("all beyond FaceMesh (FaceReader.read)", lambda i=index, f=frame: reader.read(i / FPS, f))  # type: ignore[misc]
        watch.time("  sample to a row of the stream", lambda sample=sample: face_to_row(sample))  # type: ignore[misc]
        time_steps(watch, frame, neutral)
    return watch


def time_steps(watch: Stopwatch, frame: MeshFrame, neutral: RunningNeutral) -> None:
    """Take a frame apart as the reader does, step by step."""
    face = watch.time("  alignment", lambda: align(frame))
    if face is None:
        raise RuntimeError("no face")
    watch.time("  68 landmarks", lambda: landmarks_68(face.points))
    rotation = watch.time("  pose: viewing ray", lambda: straightened(face.head.rotation, viewing_ray(frame)))
    watch.time("  pose: place and angles", lambda: head_pose(face, frame, rotation))
    watch.time("  gaze", lambda: gaze_angles(face.points, rotation))
    features = watch.time("  features", lambda: face_features(face.points))
    watch.time("  17 action units", lambda: intensities(features, PRIOR_MEAN))
    watch.time("  running neutral", lambda: neutral.push(PRIOR_MEAN, 0.0, 0.0))
    watch.time("  quality", lambda: face_quality(frame, face, 0.0, False))


def drifting_picture(width: int, height: int, index: int) -> npt.NDArray[np.uint8]:
    """Return the picture of one moment, BGR: the face sways by 20 pixels within four seconds."""
    face = astronaut(height)
    x = (width - face.shape[1]) // 2 + round(20 * np.sin(2 * np.pi * index / (4 * FPS)))
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    picture[: face.shape[0], x : x + face.shape[1]] = face
    return picture


def astronaut(height: int) -> npt.NDArray[np.uint8]:
    """Return head and shoulders, BGR, as high as the picture."""
    import cv2
    from skimage import data

    library: Any = data  # scikit-image's functions have no types
    crop = library.astronaut()[:260, 120:330, ::-1]
    return np.asarray(cv2.resize(crop, (height * 210 // 260, height)), dtype=np.uint8)


def table(watch: Stopwatch, title: str) -> Table:
    """Return p50, p99 and maximum of every step in milliseconds."""
    result = Table("step", "p50 ms", "p99 ms", "max ms", title=title)
    for name, seconds in watch.spent.items():
        p50, p99, most = np.percentile(seconds, [50, 99, 100]) * 1e3
        result.add_row(name, f"{p50:.3f}", f"{p99:.3f}", f"{most:.3f}")
    return result


if __name__ == "__main__":
    main()
