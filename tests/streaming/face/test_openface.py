"""Claims about OpenFace's CSV files: read as faces, and its column names for our own numbers."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS, OPENFACE_EXTRACTOR_ID
from clmer_streaming.face.openface import COLUMNS, OpenFaceTrack, csv_row
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import FaceFlag, FaceSample, Reason
from tests.streaming.sources.test_video import recording

IMAGE_POINTS = np.arange(2.0 * N_LANDMARKS).reshape(N_LANDMARKS, 2)

FACE = FaceSample(
    t=0.5,
    landmarks=np.linspace(-8, 8, 3 * N_LANDMARKS).reshape(N_LANDMARKS, 3),
    aus=np.stack([np.linspace(0, 5, 17), np.tile([0.0, 1.0], 9)[:17]], axis=1),
    gaze=np.array([0.1, 0.2]),
    pose=np.array([3.0, -2.0, 50.0, 0.1, 0.2, 0.3]),
    quality=0.75,
)
"""Looks up and to her left, the head turned, beside the middle of the picture, half a metre away."""

NOBODY = FaceSample(
    t=0.6,
    landmarks=np.full((N_LANDMARKS, 3), np.nan),
    aus=np.full((17, 2), np.nan),
    gaze=np.full(2, np.nan),
    pose=np.full(6, np.nan),
    quality=0.0,
    flags=FaceFlag.MISSING,
)


def cells(sample: FaceSample) -> dict[str, str]:
    """Return the line of a sample, as the columns have it."""
    return dict(zip(COLUMNS, csv_row(7, sample.t, sample, IMAGE_POINTS), strict=True))


def openface(path: Path, *lines: dict[str, str], separator: str = ", ") -> Path:
    """Write lines as OpenFace does, which has AU28 too."""
    rows = [{**line, "AU28_c": "0"} for line in lines]
    header = separator.join(rows[0])
    path.write_text("\n".join([header, *(separator.join(row.values()) for row in rows)]) + "\n")
    return path


def test_the_columns_are_openface_s() -> None:
    """Frame, time, confidence, then gaze, pose, 2D and 3D points, action units; 17 intensities and presences."""
    assert COLUMNS[:5] == ("frame", "face_id", "timestamp", "confidence", "success")
    assert {"gaze_angle_x", "pose_Rz", "x_0", "y_67", "X_0", "Z_67", "AU01_r", "AU45_c"} <= set(COLUMNS)
    assert len(COLUMNS) == 5 + 2 + 6 + 2 * 68 + 3 * 68 + 2 * 17


def test_our_numbers_take_openface_s_units_and_signs() -> None:
    """Millimetres; x right, y down, z away; gaze to the image's right and down; frames from 1."""
    line = cells(FACE)
    assert (line["frame"], line["success"], line["confidence"]) == ("7", "1", "0.750")
    assert [float(line[f"pose_T{axis}"]) for axis in "xyz"] == [30.0, -20.0, 500.0]
    assert (float(line["gaze_angle_x"]), float(line["gaze_angle_y"])) == (0.1, -0.2)
    assert (float(line["x_3"]), float(line["y_3"])) == (6.0, 7.0)


def test_a_head_that_looks_straight_has_its_points_about_its_place() -> None:
    """Without a turn, our (x, y, z) in cm lies at 10 (x, -y, -z) mm from the pose's place."""
    line = cells(replace(FACE, pose=np.array([0.0, 0.0, 50.0, 0.0, 0.0, 0.0])))
    x, y, z = FACE.landmarks[5]
    assert [float(line[f"{axis}_5"]) for axis in "XYZ"] == pytest.approx([10 * x, -10 * y, 500 - 10 * z], abs=0.05)


@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (1, -1), (2, -1)])
def test_pitch_has_openface_s_sign_and_yaw_and_roll_the_other(axis: int, sign: int) -> None:
    """One angle at a time: pose_Rx is our pitch, pose_Ry and pose_Rz the negative yaw and roll."""
    pose = np.zeros(6)
    pose[3 + axis] = 0.25
    line = cells(replace(FACE, pose=pose))
    angles = [float(line[f"pose_R{name}"]) for name in "xyz"]
    assert angles == pytest.approx([sign * 0.25 if i == axis else 0.0 for i in range(3)], abs=1e-9)


def test_a_frame_without_a_face_has_no_numbers() -> None:
    """``nan`` wherever something would have been measured; success and confidence are 0."""
    line = cells(replace(NOBODY))
    measured = [name for name in COLUMNS[5:] if not name.startswith(("x_", "y_"))]
    assert {line[name] for name in measured} == {"nan"}
    assert (line["success"], line["confidence"]) == ("0", "0.000")


@pytest.mark.parametrize("separator", [",", ", "])
def test_what_is_written_in_its_columns_is_read_back(tmp_path: Path, separator: str) -> None:
    """Landmarks, action units, gaze and pose come back within the digits that the file has."""
    track = OpenFaceTrack(openface(tmp_path / "a.csv", cells(FACE), separator=separator))
    (read,) = track.samples()
    assert track.info.extractor == OPENFACE_EXTRACTOR_ID
    assert read.t == 0.5
    assert read.quality == 0.75
    assert np.abs(read.landmarks - FACE.landmarks).max() < 0.01
    for got, expected in ((read.aus, FACE.aus), (read.gaze, FACE.gaze), (read.pose, FACE.pose)):
        np.testing.assert_allclose(got, expected, atol=1e-3)


def test_openface_s_zeros_of_a_lost_face_are_nan(tmp_path: Path) -> None:
    """It writes 0 with success 0; that is no neutral face."""
    zeros = dict.fromkeys(COLUMNS, "0") | {"timestamp": "0.04"}
    (read,) = OpenFaceTrack(openface(tmp_path / "a.csv", zeros)).samples()
    assert read.flags == FaceFlag.MISSING
    assert (read.t, read.quality) == (0.04, 0.0)
    assert all(np.isnan(values).all() for values in (read.landmarks, read.aus, read.gaze, read.pose))


def test_of_several_faces_the_one_seen_most_is_taken(tmp_path: Path) -> None:
    """Two lines of face 1, one of face 0: face 1, in the order of time."""
    lines = [cells(FACE) | {"face_id": face, "timestamp": t} for face, t in (("0", "0.0"), ("1", "0.2"), ("1", "0.1"))]
    assert [sample.t for sample in OpenFaceTrack(openface(tmp_path / "a.csv", *lines)).samples()] == [0.1, 0.2]


def test_missing_columns_are_missing_numbers(tmp_path: Path) -> None:
    """A file with action units alone has these."""
    line = {name: cells(FACE)[name] for name in ("timestamp", "success", *(f"{au}_r" for au in AU_NAMES))}
    (read,) = OpenFaceTrack(openface(tmp_path / "a.csv", line)).samples()
    assert np.isfinite(read.aus[:, 0]).all()
    assert np.isnan(read.landmarks).all()


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "\x00\xff", "timestamp,success,AU28_c," + ",".join(f"{au}_r" for au in AU_NAMES) + "\n1,2\n"],
    ids=["empty", "other columns", "binary", "short lines"],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    """The error names the file and what it lacks."""
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RecordingError, match=r"a\.csv"):
        OpenFaceTrack(path)


def test_our_own_csv_is_not_taken_for_openface_s(tmp_path: Path) -> None:
    """It has no AU28; the XDF file beside it holds the same exactly."""
    path = tmp_path / "ours.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, csv_row(1, 0.0, FACE, IMAGE_POINTS)])
    with pytest.raises(RecordingError, match="AU28_c"):
        OpenFaceTrack(path)


def test_a_model_of_our_extractor_does_not_use_openface_s_numbers(tmp_path: Path) -> None:
    """The stream is there, and the windows say why it is not used."""
    track = OpenFaceTrack(openface(tmp_path / "a.csv", cells(FACE), cells(FACE) | {"timestamp": "2.5"}))
    preprocessor = Preprocessor(PreprocessConfig())
    items = ReplaySource(recording(tmp_path / "a.xdf"), video=track).items()
    windows = [window for item in items for window in preprocessor.push(item)]
    assert all(Reason.FACE_EXTRACTOR_MISMATCH in window.reasons for window in windows)
    assert not any(window.mask["aus"].any() for window in windows)


def test_a_model_of_openface_uses_them(tmp_path: Path) -> None:
    """Trained with that extractor, the same file fills the slots."""
    lines = [cells(FACE) | {"timestamp": f"{i / 24:.3f}"} for i in range(96)]
    track = OpenFaceTrack(openface(tmp_path / "a.csv", *lines))
    preprocessor = Preprocessor(PreprocessConfig(extractor=OPENFACE_EXTRACTOR_ID))
    source = ReplaySource(recording(tmp_path / "a.xdf"), video=track, extractor=OPENFACE_EXTRACTOR_ID)
    windows = [window for item in source.items() for window in preprocessor.push(item)]
    assert windows[-2].mask["aus"].all()
    np.testing.assert_allclose(windows[-2].series["aus"], np.broadcast_to(FACE.aus, (8, 17, 2)), atol=1e-3)
