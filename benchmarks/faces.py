"""How long a frame's face takes, how fast videos are serialized, and how many frames a busy service drops.

Run with ``python -m benchmarks.faces``. The pictures are scikit-image's astronaut, drifting over a grey wall, so that
the face is tracked as a live one is. All but the last figure are of one core (Linux). Nothing is asserted.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.support.report import Report, Table, make_parser, percentiles_ms
from clmer_model.artifact import find_artifact
from clmer_model.predictor import Predictor, limit_threads
from clmer_streaming.face.action_units import face_features, intensities
from clmer_streaming.face.capture import CaptureSpec
from clmer_streaming.face.extractor import FaceMeshReader
from clmer_streaming.face.geometry import (
    MeshFrame,
    align,
    gaze_angles,
    head_pose,
    landmarks_68,
    straightened,
    viewing_ray,
)
from clmer_streaming.face.image import brow_furrow, luma_and_sharpness
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.face.neutral import PRIOR_MEAN, RunningNeutral
from clmer_streaming.face.openface import export_video
from clmer_streaming.face.process import Ended, FaceProcess, FaceProcessConfig, FaceRow
from clmer_streaming.face.reader import FaceReader, face_quality
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate

SIZES = ((640, 480), (1280, 720))  # pixels
FRAMES, TINY_FRAMES = 600, 20
WARM_UP = 30  # frames that are not counted
FPS = 30.0

ALONE, TRACKED = "FaceMesh alone", "FaceMesh, with tracking, sharpness, luma, folds"
READ = "FaceReader.read: all from mesh to sample"
BEYOND = "mesh and reader beyond FaceMesh alone, frame by frame"

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


def main() -> int:
    """Measure and print; return the exit code."""
    args = make_parser(__doc__).parse_args()
    limit_threads()
    sizes, n_frames, warm_up = (SIZES[:1], TINY_FRAMES, 1) if args.tiny else (SIZES, FRAMES, WARM_UP)
    cores = os.sched_getaffinity(0)
    with Report("faces", args.json) as report, tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, {min(cores)})
        for width, height in sizes:
            report.show(steps_table(measure(width, height, n_frames, warm_up), width, height, n_frames))
        video = make_video(Path(folder), n_frames)
        fps = serialized_fps(video)
        os.sched_setaffinity(0, cores)
        n_read, n_dropped = dropped_frames(video)
        table = Table("videos", "640 x 480", what="", frames="d", frames_per_s=".0f", dropped="d")
        table.add(what="clmer serialize, on one core", frames=n_frames, frames_per_s=fps)
        table.add(what="a camera of 30 fps beside a busy service", frames=n_read, dropped=n_dropped)
        report.show(table)
    return 0


def make_video(folder: Path, n_frames: int) -> Path:
    """Return a video of the drifting face, 640 x 480 at 30 frames a second."""
    import cv2

    path = folder / "face.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZES[0])
    for index in range(n_frames):
        writer.write(drifting_picture(*SIZES[0], index))
    writer.release()
    return path


def serialized_fps(video: Path) -> float:
    """Return how many frames a second become rows of CSV and XDF, without HOG."""
    start = time.perf_counter()
    done = export_video(video, video.parent, hog=False, progress=lambda _: None)
    return done.n_frames / (time.perf_counter() - start)


def dropped_frames(video: Path) -> tuple[int, int]:
    """Return how many frames the face process read, and dropped, while this process predicts without a pause.

    The file is played at its own pace, as a camera gives its frames.
    """
    stop = threading.Event()
    busy = threading.Thread(target=predict_without_pause, args=(stop,))
    n_read = n_dropped = 0
    with FaceProcess(FaceProcessConfig(CaptureSpec.parse(str(video)))) as process:
        busy.start()
        while not isinstance(message := process.receive(1.0), Ended):
            if isinstance(message, FaceRow):
                n_read, n_dropped = n_read + 1, message.n_dropped
        stop.set()
        busy.join()
    return n_read + n_dropped, n_dropped


def predict_without_pause(stop: threading.Event) -> None:
    """Do what the service does with EEG and faces, as fast as it goes."""
    predictor = Predictor(find_artifact(), "cpu")
    items = list(simulate(SimulationConfig(seconds=30.0, seed=1)).items())
    while not stop.is_set():
        preprocessor = Preprocessor(predictor.meta.preprocess)
        for item in items:
            for window in preprocessor.push(item):
                predictor.predict([window])
            if stop.is_set():
                return


def measure(width: int, height: int, n_frames: int, warm_up: int) -> Stopwatch:
    """Return how long the steps of many frames took; FaceMesh alone and all of ours take turns at being first."""
    import cv2

    cv2.setNumThreads(1)
    watch, alone, ours = Stopwatch(), FaceMeshAlone(), Ours()
    for index in range(n_frames + warm_up):
        picture = drifting_picture(width, height, index)
        if index == warm_up:
            watch.spent.clear()
        if index % 2:
            watch.time(ALONE, functools.partial(alone.process, picture))
        ours.process(watch, index, picture)
        if not index % 2:
            watch.time(ALONE, functools.partial(alone.process, picture))
        ours.take_apart(watch)
    together = np.array(watch.spent[TRACKED]) + np.array(watch.spent[READ])
    watch.spent[BEYOND] = (together - np.array(watch.spent[ALONE])).tolist()
    return watch


class FaceMeshAlone:
    """MediaPipe's own FaceMesh: what the time of ours is compared with."""

    def __init__(self) -> None:
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._mesh: Any = FaceMesh(refine_landmarks=True)

    def process(self, picture: npt.NDArray[np.uint8]) -> None:
        """Find the face in a picture, BGR."""
        import cv2

        self._mesh.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


class Ours:
    """From a picture to a sample, as the face process does it."""

    def __init__(self) -> None:
        self._mesh, self._reader, self._neutral = FaceMeshReader(), FaceReader(), RunningNeutral()
        self._frame: MeshFrame | None = None

    def process(self, watch: Stopwatch, index: int, picture: npt.NDArray[np.uint8]) -> None:
        """Read the face of a picture, BGR."""
        frame = watch.time(TRACKED, lambda: self._mesh.process(picture))
        if frame is None:
            raise RuntimeError(f"no face in picture {index}")
        sample = watch.time(READ, lambda: self._reader.read(index / FPS, frame))
        watch.time("  sample to a row of the stream", lambda: face_to_row(sample))
        self._frame, self._picture = frame, picture

    def take_apart(self, watch: Stopwatch) -> None:
        """Do the steps for the picture again, one by one."""
        assert self._frame is not None
        frame, rgb = self._frame, np.ascontiguousarray(self._picture[:, :, ::-1])
        watch.time("  sharpness and luma", lambda: luma_and_sharpness(rgb, frame.points))
        watch.time("  folds between the brows", lambda: brow_furrow(rgb, frame.points))
        time_steps(watch, frame, self._neutral)


def time_steps(watch: Stopwatch, frame: MeshFrame, neutral: RunningNeutral) -> None:
    """Take a frame apart as the reader does, step by step."""
    face = watch.time("  alignment", lambda: align(frame))
    if face is None:
        raise RuntimeError("no face")
    watch.time("  68 landmarks", lambda: landmarks_68(face.points))
    rotation = watch.time("  pose: viewing ray", lambda: straightened(face.head.rotation, viewing_ray(frame)))
    watch.time("  pose: place and angles", lambda: head_pose(face, frame, rotation))
    watch.time("  gaze", lambda: gaze_angles(face.points, rotation))
    features = watch.time("  features", lambda: face_features(face.points, frame.brow_furrow))
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


def steps_table(watch: Stopwatch, width: int, height: int, n_frames: int) -> Table:
    """Return p50, p99 and maximum of every step."""
    formats = dict.fromkeys(("p50_ms", "p99_ms", "max_ms"), ".3f")
    table = Table("steps", f"{width} x {height}, {n_frames} frames", width="d", height="d", step="", **formats)
    for name, seconds in watch.spent.items():
        figures = dict(zip(formats, percentiles_ms(seconds, 50, 99, 100), strict=True))
        table.add(width=width, height=height, step=name, **figures)
    return table


if __name__ == "__main__":
    sys.exit(main())
