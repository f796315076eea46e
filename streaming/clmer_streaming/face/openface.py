"""OpenFace 2.2's CSV format: reading its files as faces of a video, and exporting our own faces of a video.

``OpenFaceTrack`` reads a CSV file; ``export_video`` writes one, and an XDF file, of a video file.

Columns as in OpenFace's wiki, "Output format": head pose and 3D landmarks in mm in the camera's frame (x right,
y down, z away), angles in rad with ``R = Rx Ry Rz``. Columns without a counterpart are not written: gaze vectors of
each eye, eye landmarks, the shape model's parameters, AU28. OpenFace's numbers are those of another extractor: a
model that was trained on ours does not use them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.capture import Capture, CaptureSpec
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.geometry import image_points
from clmer_streaming.face.hog import HOG_CH_NAMES, HOG_STREAM, Hog
from clmer_streaming.face.layout import (
    AU_NAMES,
    FACE_CH_NAMES,
    FACE_SOURCE,
    N_LANDMARKS,
    OPENFACE_EXTRACTOR_ID,
    face_to_row,
)
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.types import FaceFlag, FaceSample, FloatArray, StreamInfo
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

_BASE = ("frame", "face_id", "timestamp", "confidence", "success")
_GAZE = ("gaze_angle_x", "gaze_angle_y")
_POSE = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")
_IMAGE = tuple(f"{axis}_{i}" for axis in "xy" for i in range(N_LANDMARKS))
_SPACE = tuple(f"{axis}_{i}" for axis in "XYZ" for i in range(N_LANDMARKS))
_INTENSITY = tuple(f"{au}_r" for au in AU_NAMES)
_PRESENCE = tuple(f"{au}_c" for au in AU_NAMES)

COLUMNS: tuple[str, ...] = (*_BASE, *_GAZE, *_POSE, *_IMAGE, *_SPACE, *_INTENSITY, *_PRESENCE)
"""The written columns, in OpenFace's order."""

_NEEDED = ("timestamp", "success", *_INTENSITY, "AU28_c")  # the last one is not in our own files
_FLIP = np.array([1.0, -1.0, -1.0])  # from our axes (y up, z to the camera) to OpenFace's and back
_MM_PER_CM = 10.0


def csv_row(number: int, position_s: float, sample: FaceSample, image_points: FloatArray) -> list[str]:
    """Return the cells of one line; a missing value is ``nan``.

    Args:
        number: Number of the frame, from 1.
        position_s: Time of the frame in the video, in seconds.
        sample: The face of the frame.
        image_points: (68, 2) landmarks in pixels.
    """
    found = FaceFlag.MISSING not in sample.flags
    turn = _rotation(sample.pose[3:])
    angles = Rotation.from_matrix(turn).as_euler("XYZ") if found else np.full(3, np.nan)
    space = (sample.landmarks * _FLIP @ turn.T + sample.pose[:3]) * _MM_PER_CM
    values = np.concatenate(
        [
            [sample.gaze[0], -sample.gaze[1]],
            sample.pose[:3] * _MM_PER_CM,
            angles,
            image_points.T.ravel(),
            space.T.ravel(),
            sample.aus[:, 0],
            sample.aus[:, 1],
        ]
    )
    base = [str(number), "0", f"{position_s:.4f}", f"{sample.quality:.3f}", str(int(found))]
    return base + [f"{value:.5g}" for value in values.tolist()]


def _rotation(angles: FloatArray) -> FloatArray:
    """Return the head's rotation (3, 3) in OpenFace's axes from pitch, yaw and roll in ours; NaN for NaN."""
    if not np.isfinite(angles).all():
        return np.full((3, 3), np.nan)
    ours: FloatArray = Rotation.from_euler("ZYX", angles[::-1]).as_matrix()
    theirs: FloatArray = _FLIP[:, np.newaxis] * ours * _FLIP
    return theirs


class OpenFaceTrack:
    """The faces of a video in a CSV file of OpenFace.

    Example::

        source = ReplaySource("session.xdf", video=OpenFaceTrack("face.csv"), extractor=OPENFACE_EXTRACTOR_ID)

    Args:
        path: The file; of several faces the most frequent one is used.

    Attributes:
        info: Announcement of the faces.
        stamps: None: the file does not say when the frames were taken.
        frame_series: Empty.

    Raises:
        RecordingError: The file is missing, or not OpenFace's.
    """

    def __init__(self, path: str | Path) -> None:
        self._columns, self._rows = _read(Path(path))
        self._where = {name: i for i, name in enumerate(self._columns)}
        self.stamps = None
        self.frame_series = ()
        self.info = StreamInfo(
            source=FACE_SOURCE,
            kind="face",
            name=Path(path).name,
            ch_names=FACE_CH_NAMES,
            sfreq=0.0,
            source_id=f"video {Path(path).name}",
            extractor=OPENFACE_EXTRACTOR_ID,
        )

    def samples(self) -> Iterator[FaceSample]:
        """Return an iterator over one sample for each line, in order; ``t`` is its timestamp in seconds."""
        return (self._sample(row) for row in self._rows)

    def _sample(self, row: FloatArray) -> FaceSample:
        success = self._of(row, ("success",))[0] == 1
        if not success:
            row = np.where(np.isin(self._columns, _BASE), row, np.nan)
        pose = self._of(row, _POSE)
        turn = _openface_rotation(pose[3:])
        space = self._of(row, _SPACE).reshape(3, N_LANDMARKS).T
        gaze_x, gaze_y = self._of(row, _GAZE)
        confidence = self._of(row, ("confidence",))[0] if "confidence" in self._columns else 1.0
        return FaceSample(
            t=float(self._of(row, ("timestamp",))[0]),
            landmarks=_rounded((space - pose[:3]) @ turn / _MM_PER_CM * _FLIP),
            aus=_rounded(np.stack([self._of(row, _INTENSITY), self._of(row, _PRESENCE)], axis=1)),
            gaze=_rounded(np.array([gaze_x, -gaze_y])),
            pose=_rounded(np.concatenate([pose[:3] / _MM_PER_CM, _our_angles(turn)])),
            quality=float(np.float32(confidence)) if success else 0.0,
            flags=FaceFlag.NONE if success else FaceFlag.MISSING,
            calibration="running",  # OpenFace subtracts a person's median
        )

    def _of(self, row: FloatArray, names: Sequence[str]) -> FloatArray:
        """Return the cells of the named columns; NaN for columns that the file lacks."""
        return np.array([row[self._where[name]] if name in self._where else np.nan for name in names])


def _openface_rotation(angles: FloatArray) -> FloatArray:
    if not np.isfinite(angles).all():
        return np.full((3, 3), np.nan)
    turn: FloatArray = Rotation.from_euler("XYZ", angles).as_matrix()
    return turn


def _our_angles(turn: FloatArray) -> FloatArray:
    """Return pitch, yaw and roll in our axes of a rotation in OpenFace's."""
    if not np.isfinite(turn).all():
        return np.full(3, np.nan)
    angles: FloatArray = Rotation.from_matrix(_FLIP[:, np.newaxis] * turn * _FLIP).as_euler("ZYX")[::-1]
    return angles


def _read(path: Path) -> tuple[tuple[str, ...], FloatArray]:
    """Return the column names and the lines (n, columns) of the most frequent face."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file, skipinitialspace=True)
            columns = tuple(name.strip() for name in next(lines, []))
            missing = [name for name in _NEEDED if name not in columns]
            if missing:
                raise _not_openface(path, f"no column {', '.join(missing[:4])}")
            rows = np.array([[float(cell) for cell in line] for line in lines if line], dtype=np.float64)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise _not_openface(path, str(error)) from error
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise _not_openface(path, "no lines" if not rows.size else "lines of other lengths than the header")
    return columns, _of_main_face(columns, rows)


def _of_main_face(columns: tuple[str, ...], rows: FloatArray) -> FloatArray:
    """Return the lines of the most frequent face in the order of their stamps."""
    success = rows[:, columns.index("success")] == 1
    if "face_id" in columns and success.any():
        faces = rows[:, columns.index("face_id")]
        ids, counts = np.unique(faces[success], return_counts=True)
        rows = rows[faces == ids[np.argmax(counts)]]
    return rows[np.argsort(rows[:, columns.index("timestamp")], kind="stable")]


def _not_openface(path: Path, found: str) -> RecordingError:
    return RecordingError(
        expected=f"a CSV file of OpenFace 2.2 with timestamp, success and 17 AU intensities: {path}",
        found=found,
        mend="make it with OpenFace's FeatureExtraction -2Dfp -3Dfp -pose -aus -gaze",
    )


def _rounded(values: FloatArray) -> FloatArray:
    """Return the values rounded to float32, as every face sample's are."""
    return values.astype(np.float32).astype(np.float64)


_REPORT_FRAMES = 25  # between two calls of ``progress``
_BOUNDARY_FRAMES = 300  # between two boundaries of the XDF file: 10 s at 30 fps


@dataclass(frozen=True)
class Exported:
    """The counts of an export."""

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
    """Write ``<stem>.csv`` and ``<stem>.xdf`` with the faces of a video into a folder.

    Incomplete files end in ``.part``; a file with its final name is complete.

    Args:
        video: A video file.
        out: An existing folder.
        hog: Add the HOG of the aligned face to the XDF file, as a stream of its own.
        progress: Called now and then with the number of frames since the last call.
        extractor: What finds the vertices of the face.

    Raises:
        RecordingError: The video cannot be read, or the files cannot be written.
        SettingsError: scikit-image is not installed, which ``hog`` needs, or the extractor cannot be used.
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
    """Return the paths of the CSV and the XDF file of a video."""
    return out / f"{video.stem}.csv", out / f"{video.stem}.xdf"


def _frames(video: Path, extractor: Extractor, *, hog: bool) -> Iterator[_Frame]:
    descriptor: Hog | None = Hog() if hog else None
    capture, mesh, reader = Capture(CaptureSpec("file", str(video))), extractor.open(), FaceReader()
    try:
        while capture.grab() is not None:
            position_s, picture = capture.position(), capture.picture()
            face = None if picture is None else mesh.process(picture)
            sample = reader.read(position_s, face)
            points = image_points(face)
            yield _Frame(position_s, sample, points, descriptor(picture, points) if descriptor is not None else None)
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
