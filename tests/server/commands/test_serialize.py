"""Claims about ``clmer serialize``: videos to CSV and XDF."""

from __future__ import annotations

import csv
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from clmer_server.cli import main
from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig, SlotSeriesConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.face.hog import HOG_CH_NAMES, Hog, aligned_face
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES, face_to_row
from clmer_streaming.face.openface import COLUMNS
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.sources.video import VideoFaces, face_track
from clmer_streaming.types import FaceSample, Item
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import XdfStream, read_xdf
from clmer_streaming.xdf.writer import XdfWriter
from tests.streaming.recording.test_recording import HEADER
from tests.support.face_pictures import astronaut, scene, swaying, write_video
from tests.support.signals import EEG_INFO, cut, eeg_like, stamps


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos, of a face that comes after five frames and of nobody, and one file that is none."""
    folder = tmp_path_factory.mktemp("films")
    write_video(folder / "face.avi", [scene()] * 5 + swaying(25))
    write_video(folder / "nobody.avi", [scene()] * 12, rate_hz=25.0)
    (folder / "broken.mp4").write_bytes(b"no video" * 99)
    return folder


@pytest.fixture(scope="module")
def made(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What serialising them has made; the broken one makes the command fail, the others are done."""
    out = tmp_path_factory.mktemp("out") / "new"
    videos = [str(films / name) for name in ("face.avi", "broken.mp4", "nobody.avi")]
    assert main(["serialize", *videos, "--out", str(out), "--hog", "--jobs", "2"]) == 2
    return out


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stream(path: Path, name: str) -> XdfStream:
    return next(stream for stream in read_xdf(path).streams if stream.name == name)


def test_each_video_has_two_files_and_a_broken_one_none(made: Path) -> None:
    """Nothing half-done is left behind."""
    assert sorted(path.name for path in made.iterdir()) == ["face.csv", "face.xdf", "nobody.csv", "nobody.xdf"]


def test_there_is_one_line_for_each_frame(made: Path) -> None:
    """Frames count from 1; the times are the container's; a face is nan, never 0, where there is none."""
    face, nobody = lines(made / "face.csv"), lines(made / "nobody.csv")
    assert tuple(face[0]) == COLUMNS
    assert [line["frame"] for line in face] == [str(i) for i in range(1, 31)]
    assert [float(line["timestamp"]) for line in face] == pytest.approx([i / 30 for i in range(30)], abs=1e-4)
    assert [line["success"] for line in face] == ["0"] * 5 + ["1"] * 25
    assert {cell for line in nobody for cell in list(line.values())[5:]} == {"nan"}
    assert len(nobody) == 12


def test_the_points_in_the_picture_lie_where_the_face_is(made: Path) -> None:
    """X and y are pixels; the chin (8) is the lowest point."""
    line = lines(made / "face.csv")[10]
    x = np.array([float(line[f"x_{i}"]) for i in range(68)])
    y = np.array([float(line[f"y_{i}"]) for i in range(68)])
    assert x.mean() == pytest.approx(320, abs=20)
    assert y.mean() == pytest.approx(262, abs=20)
    assert int(y.argmax()) == 8


def test_the_xdf_holds_the_samples_of_the_video_bit_for_bit(made: Path, films: Path) -> None:
    """A replay of the stream and a replay of the video give the model the same numbers."""
    face = stream(made / "face.xdf", "CLMER-Face")
    assert face.ch_names == FACE_CH_NAMES
    assert face.desc_text("extractor") == EXTRACTOR_ID
    samples = list(VideoFaces(films / "face.avi").samples())
    assert np.array_equal(face.t, [sample.t for sample in samples])
    assert np.array_equal(face.x.T, [face_to_row(sample) for sample in samples], equal_nan=True)


def test_the_hog_is_a_stream_beside(made: Path) -> None:
    """1296 numbers for each frame with a face, NaN for the others."""
    hog = stream(made / "face.xdf", "CLMER-HOG")
    assert hog.ch_names == HOG_CH_NAMES
    assert np.isnan(hog.x[:, :5]).all()
    assert (hog.x[:, 5:] >= 0).all()


def test_a_replay_takes_faces_and_hog_from_the_file_in_place_of_the_video(made: Path, tmp_path: Path) -> None:
    """Beside EEG, a second behind its beginning: the faces of the video, and each slot the mean of its frames' HOG."""
    with XdfWriter(tmp_path / "eeg.xdf") as xdf:
        eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, 128.0, units=("microvolts",) * 14))
        xdf.write_samples(eeg, stamps(128 * 6), eeg_like(128 * 6))
    config = PreprocessConfig(
        modalities=("eeg", "landmarks", "hog"), slot_series=(SlotSeriesConfig("hog", HOG_CH_NAMES),)
    )
    video = face_track(made / "face.xdf")
    source = ReplaySource(
        tmp_path / "eeg.xdf", speed=math.inf, video=video, video_offset_s=2.0, physio={"hog": "CLMER-HOG"}
    )
    stage = Preprocessor(config)
    items: list[Item] = []
    source.run(items.append, threading.Event())
    window = next(window for item in items for window in stage.push(item) if window.t_end == 104.0)
    rows = stream(made / "face.xdf", "CLMER-HOG").x
    assert window.mask["hog"].tolist() == window.mask["landmarks"].tolist() == [True] * 4 + [False] * 4
    assert window.series["hog"][1] == pytest.approx(rows[:, 8:15].mean(axis=1))
    assert window.series["hog"].shape == (8, 1296)
    assert [item.t for item in items if isinstance(item, FaceSample)][:2] == pytest.approx([102.0, 102.0 + 1 / 30])


def test_what_was_made_of_a_session_s_own_video_is_placed_by_its_stamps(made: Path, tmp_path: Path) -> None:
    """With the stamps of the frames beside it, each lies where it was taken; without them a sentence says so."""
    writer = SessionWriter(tmp_path / "session.xdf", HEADER)
    recorded: list[Item] = [EEG_INFO, *cut(stamps(128 * 6), eeg_like(128 * 6), (16,))]
    for item in recorded:
        writer.write(item)
    writer.close()
    (tmp_path / "face.xdf").write_bytes((made / "face.xdf").read_bytes())
    begins = {}
    for kept in (False, True):
        if kept:
            lines = "".join(f"{i},{103.0 + i / 10}\n" for i in range(30))
            (tmp_path / "face_frames.csv").write_text(f"frame,t\n{lines}")
        source = ReplaySource(tmp_path / "session.xdf", speed=math.inf, video=face_track(tmp_path / "face.xdf"))
        begins[kept] = [item.t for item in source.items() if isinstance(item, FaceSample)][:2]
        assert any("face.xdf has no stamps" in warning for warning in source.warnings) is not kept
    assert begins[False] == pytest.approx([100.0, 100.0 + 1 / 30])
    assert begins[True] == [103.0, 103.1]


def test_a_file_without_faces_is_no_serialized_video(tmp_path: Path) -> None:
    """It is refused when it is opened."""
    with XdfWriter(tmp_path / "eeg.xdf") as xdf:
        eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, 128.0))
        xdf.write_samples(eeg, stamps(128), eeg_like(128))
    with pytest.raises(RecordingError, match="CLMER-Face stream"):
        face_track(tmp_path / "eeg.xdf")


def test_the_hog_is_of_an_upright_face_of_one_size() -> None:
    """A picture and the same turned on its side with its points give nearly the same description."""
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.array([224.0, 122.0]) + 40 * np.column_stack([np.cos(angles), np.sin(angles)])
    points[[36, 39, 42, 45, 33]] = [[194, 107], [212, 107], [236, 107], [254, 107], [224, 135]]
    turned_points = np.column_stack([points[:, 1], 511 - points[:, 0]])
    picture, turned = astronaut(), np.rot90(astronaut())
    assert np.abs(aligned_face(picture, points).astype(int) - aligned_face(turned, turned_points)).mean() < 3
    describe = Hog()
    assert np.corrcoef(describe(picture, points), describe(turned, turned_points))[0, 1] > 0.98


def test_a_picture_too_small_for_a_face_has_no_hog() -> None:
    """Whatever points come with it: the numbers are NaN, as of a frame without a face."""
    assert np.isnan(Hog()(np.zeros((8, 8, 3), np.uint8), np.zeros((68, 2)))).all()


def test_what_is_there_is_not_done_again(made: Path, films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Called again it goes on where it was; a file that is lacking is made."""
    (made / "nobody.xdf").unlink()
    before = (made / "face.xdf").stat().st_mtime_ns
    videos = [str(films / name) for name in ("face.avi", "nobody.avi")]
    assert main(["serialize", *videos, "--out", str(made)]) == 0
    told = capsys.readouterr()
    assert told.out == "nobody.avi: 12 frames, a face in 0%\n"
    assert told.err == "1 of 2 are there already; --again does them anew\n"
    assert (made / "face.xdf").stat().st_mtime_ns == before
    assert (made / "nobody.xdf").is_file()


def test_two_videos_of_one_name_are_refused(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One would overwrite the other."""
    assert main(["serialize", str(films / "face.avi"), str(tmp_path / "face.mp4"), "--out", str(tmp_path)]) == 2
    assert "several 'face'" in capsys.readouterr().err
