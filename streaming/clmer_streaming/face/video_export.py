"""A video's faces as files: one CSV line and one sample of an XDF stream for each frame."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.hog import HOG_CH_NAMES, HOG_STREAM, Hog
from clmer_streaming.face.landmarks import image_points
from clmer_streaming.face.layout import FACE_CH_NAMES, face_to_row
from clmer_streaming.face.openface import COLUMNS, csv_row
from clmer_streaming.face.process_capture import Capture, CaptureSpec
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.types import FaceFlag, FaceSample, FloatArray
from clmer_streaming.xdf.writer import XdfStreamSpec, XdfWriter

_REPORT_FRAMES = 25  # between two reports of progress
_BOUNDARY_FRAMES = 300  # between two boundaries of the XDF file: 10 s at 30 fps


@dataclass(frozen=True)
class Exported:
    """What came out of a video."""

    n_frames: int
    n_faces: int  # frames with a face


@dataclass(frozen=True, eq=False)
class _Frame:
    position_s: float
    sample: FaceSample
    image_points: FloatArray  # (68, 2) pixels
    hog: FloatArray | None  # (1296,)

    @property
    def rows(self) -> list[npt.NDArray[np.floating[Any]]]:
        """The row of each stream of the XDF file."""
        face = face_to_row(self.sample)
        return [face] if self.hog is None else [face, self.hog]


def export_video(
    video: Path, out: Path, *, hog: bool, progress: Callable[[int], None], extractor: Extractor = FACE_MESH
) -> Exported:
    """Write ``<stem>.csv`` and ``<stem>.xdf`` of a video into a folder.

    A file that is not complete ends in ``.part``, so that what bears the plain name can be relied on.

    Args:
        video: A video file.
        out: An existing folder.
        hog: Add the HOG of the aligned face to the XDF file, as a stream of its own.
        progress: Is told now and then how many frames have been done since.
        extractor: What finds the points of the face.

    Raises:
        RecordingError: The video cannot be read, or the files cannot be written.
        SettingsError: scikit-image, which makes the HOG, is not installed, or the extractor cannot be used.
    """
    finished = export_paths(video, out)
    parts = [path.with_name(path.name + ".part") for path in finished]
    try:
        specs, frames = _specs(video, extractor, hog=hog), _frames(video, extractor, hog=hog)
        exported = _write(parts[0], parts[1], specs, frames, progress=progress)
        for part, path in zip(parts, finished, strict=True):
            part.replace(path)
    except OSError as error:
        raise RecordingError(f"a folder that can be written to: {out}", str(error), "check --out") from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return exported


def _write(
    csv_path: Path,
    xdf_path: Path,
    specs: Sequence[XdfStreamSpec],
    frames: Iterator[_Frame],
    *,
    progress: Callable[[int], None],
) -> Exported:
    n_frames = n_faces = 0
    with csv_path.open("w", newline="", encoding="utf-8") as csv_file, XdfWriter(xdf_path) as xdf:
        lines = csv.writer(csv_file, lineterminator="\n")
        lines.writerow(COLUMNS)
        ids = [xdf.add_stream(spec) for spec in specs]
        for n_frames, frame in enumerate(frames, start=1):
            lines.writerow(csv_row(n_frames, frame.position_s, frame.sample, frame.image_points))
            for stream, row in zip(ids, frame.rows, strict=True):
                xdf.write_samples(stream, [frame.position_s], row[:, np.newaxis])
            n_faces += FaceFlag.MISSING not in frame.sample.flags
            if n_frames % _BOUNDARY_FRAMES == 0:
                xdf.boundary()
            if n_frames % _REPORT_FRAMES == 0:
                progress(_REPORT_FRAMES)
    return Exported(n_frames, n_faces)


def export_paths(video: Path, out: Path) -> tuple[Path, Path]:
    """Return the CSV and the XDF file of a video."""
    return out / f"{video.stem}.csv", out / f"{video.stem}.xdf"


def _frames(video: Path, extractor: Extractor, *, hog: bool) -> Iterator[_Frame]:
    describe: Hog | None = Hog() if hog else None
    capture, mesh, reader = Capture(CaptureSpec("file", str(video))), extractor.open(), FaceReader()
    try:
        while capture.grab() is not None:
            position_s, picture = capture.position(), capture.picture()
            face = None if picture is None else mesh.process(picture)
            sample = reader.read(position_s, face)
            points = image_points(face)
            yield _Frame(position_s, sample, points, describe(picture, points) if describe is not None else None)
    finally:
        capture.close()


def _specs(video: Path, extractor: Extractor, *, hog: bool) -> list[XdfStreamSpec]:
    face = XdfStreamSpec(
        "CLMER-Face",
        "MoCap",
        FACE_CH_NAMES,
        source_id=f"video {video.name}",
        manufacturer="CLMER",
        desc={"extractor": extractor.id, "video_file": video.name},
    )
    made_of = XdfStreamSpec(HOG_STREAM, "HOG", HOG_CH_NAMES, source_id=f"video {video.name}", manufacturer="CLMER")
    return [face, made_of] if hog else [face]
