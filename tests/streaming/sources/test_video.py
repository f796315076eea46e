"""Claims about a video's faces beside a recording: which frames, when, and whatever happens to the process."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from clmer_server.cli import main
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES, N_LANDMARKS, face_to_row
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate, write_session
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.sources.video import VideoFaces, frame_number_clock
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, StreamInfo, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import XdfStream, read_xdf
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.face_pictures import scene, swaying, write_video

EEG_NAMES = PreprocessConfig().signal.ch_names
T0 = 1000.0
"""First stamp of the recordings here, seconds."""


@dataclass
class ListedFaces:
    """A face track of samples that are there already; sample i carries i as its quality, in hundredths."""

    times: list[float]
    stamps: FloatArray | None = None
    frame_series: tuple[XdfStream, ...] = ()

    def __post_init__(self) -> None:
        self.info = StreamInfo("face", "face", "listed", FACE_CH_NAMES, 0.0, extractor=EXTRACTOR_ID)

    def samples(self) -> Iterator[FaceSample]:
        for number, t in enumerate(self.times):
            parts = np.zeros((N_LANDMARKS, 3)), np.zeros((17, 2)), np.zeros(2), np.zeros(6)
            yield FaceSample(t, *parts, quality=number / 100)


def recording(path: Path, seconds: float = 4.0, frames: tuple[list[float], list[float]] | None = None) -> Path:
    """Write an EEG recording; ``frames`` are numbers of video frames and their stamps."""
    n = int(seconds * 128)
    with XdfWriter(path) as xdf:
        eeg = xdf.add_stream(XdfStreamSpec("Headset", "EEG", EEG_NAMES, 128.0, units=("microvolts",) * 14))
        x = 10 * np.random.default_rng(0).standard_normal((14, n))
        xdf.write_samples(eeg, T0 + np.arange(n) / 128, x)
        if frames is not None:
            labels = ("FrameNumber", "CaptureTime")
            video = xdf.add_stream(XdfStreamSpec("Webcam-FrameIndex", "VideoFrames", labels, channel_format="double64"))
            xdf.write_samples(video, frames[1], np.array([frames[0], frames[1]]))
    return path


def faces(items: Iterator[Item]) -> list[FaceSample]:
    return [item for item in items if isinstance(item, FaceSample)]


def stamps(items: Iterator[Item]) -> list[float]:
    return [sample.t for sample in faces(items)]


def test_a_video_begins_at_the_first_eeg_sample_plus_the_offset(tmp_path: Path) -> None:
    """Container time 0 is at T0 + 0.5 s."""
    source = ReplaySource(recording(tmp_path / "a.xdf"), video=ListedFaces([0.0, 0.1, 0.2]), video_offset_s=0.5)
    assert stamps(source.items()) == pytest.approx([1000.5, 1000.6, 1000.7], abs=1e-9)
    assert [info.name for info in source.infos] == ["Headset", "listed"]


def test_a_stream_of_frame_numbers_goes_before_the_offset(tmp_path: Path) -> None:
    """Frames 2 and 4 have stamps; 3 lies between, 0, 1 and 5 follow from the rate of 0.1 s a frame."""
    path = recording(tmp_path / "a.xdf", frames=([2.0, 4.0], [1001.0, 1001.2]))
    source = ReplaySource(path, video=ListedFaces([7.0] * 6), video_offset_s=99.0)
    assert stamps(source.items()) == pytest.approx([1000.8, 1000.9, 1001.0, 1001.1, 1001.2, 1001.3], abs=1e-9)


def test_the_stamps_of_a_session_s_own_video_go_before_everything(tmp_path: Path) -> None:
    """To the last bit; frames behind them follow at their rate. One of another time or recording has an offset."""
    t = T0 + np.array([0.1, 0.2000000001, 0.3, 0.5])
    own, other = tmp_path / "own.xdf", recording(tmp_path / "other.xdf")
    writer = SessionWriter(own, {"session": "own", "clock": {"lsl_time": T0, "unix_time": 1.7e9}})
    seen = StreamInfo("face", "face", "camera 0", FACE_CH_NAMES, 30.0, extractor=EXTRACTOR_ID, delay_s=0.04)
    for item in (*ReplaySource(other).items(), seen, *ListedFaces([T0]).samples()):
        writer.write(item)
    writer.close()
    track = ListedFaces([7.0, 7.1, 7.2, 7.3, 7.4], stamps=t)
    source = ReplaySource(own, video=track)
    assert stamps(source.items())[:4] == t.tolist()
    assert [info.delay_s for info in source.infos if info.kind == "face"] == [0.04]
    by_offset = pytest.approx([1007.0, 1007.1, 1007.2, 1007.3, 1007.4], abs=1e-9)
    assert stamps(ReplaySource(other, video=track).items()) == by_offset
    track.stamps = t + 3600
    assert stamps(ReplaySource(own, video=track).items()) == by_offset


def test_eeg_goes_before_a_face_of_the_same_time_and_nothing_steps_back(tmp_path: Path) -> None:
    """The merged items are in the order of their stamps, EEG by its last sample."""
    items = list(ReplaySource(recording(tmp_path / "a.xdf"), video=ListedFaces([i / 8 for i in range(30)])).items())
    due = [item.t[-1] if isinstance(item, Chunk) else item.t for item in items if isinstance(item, Chunk | FaceSample)]
    assert due == sorted(due)
    assert len(stamps(iter(items))) == 30


def test_a_video_takes_the_place_of_the_face_stream_in_the_recording(tmp_path: Path) -> None:
    """Only the video's faces come."""
    write_session(simulate(SimulationConfig(seconds=4, seed=1)), tmp_path / "a.xdf")
    source = ReplaySource(tmp_path / "a.xdf", video=ListedFaces([0.0, 0.5]))
    assert len(faces(source.items())) == 2
    assert [info.name for info in source.infos if info.kind == "face"] == ["listed"]


def test_a_looped_recording_shows_its_video_again(tmp_path: Path) -> None:
    """Each round has the video's frames up to the recording's end, one round later."""
    source = ReplaySource(recording(tmp_path / "a.xdf"), loop=True, video=ListedFaces([0.0, 1.0, 2.0, 9.0]))
    seen: list[float] = []
    for item in source.items():
        if isinstance(item, FaceSample):
            seen.append(item.t)
        if len(seen) == 6:
            break
    assert seen == pytest.approx([1000, 1001, 1002, 1004, 1005, 1006], abs=1e-9)


def test_a_video_beside_a_recording_without_eeg_is_refused(tmp_path: Path) -> None:
    """There is nothing to set it beside."""
    path = tmp_path / "a.xdf"
    with XdfWriter(path) as xdf:
        spec = XdfStreamSpec("CLMER-Face", "MoCap", FACE_CH_NAMES, desc={"extractor": EXTRACTOR_ID})
        row = face_to_row(next(ListedFaces([0.0]).samples()))
        xdf.write_samples(xdf.add_stream(spec), [T0], row[:, np.newaxis])
    with pytest.raises(RecordingError, match="a recording with EEG"):
        ReplaySource(path, video=ListedFaces([0.0]))


def test_windows_do_not_depend_on_how_the_faces_came(tmp_path: Path) -> None:
    """A video beside the EEG, and the same samples recorded as a face stream, give windows of the same bits."""
    track = ListedFaces([i / 24 for i in range(96)])
    path, recorded = recording(tmp_path / "a.xdf"), tmp_path / "b.xdf"
    beside = list(ReplaySource(path, video=track).items())
    with XdfWriter(recorded) as xdf:
        (eeg,) = read_xdf(path).streams
        spec = XdfStreamSpec("Headset", "EEG", EEG_NAMES, 128.0, units=("microvolts",) * 14)
        xdf.write_samples(xdf.add_stream(spec), eeg.t, eeg.x)
        face = xdf.add_stream(XdfStreamSpec("F", "MoCap", FACE_CH_NAMES, desc={"extractor": EXTRACTOR_ID}))
        for sample in faces(iter(beside)):
            xdf.write_samples(face, [sample.t], face_to_row(sample)[:, np.newaxis])
    one, two = windows(beside), windows(list(ReplaySource(recorded).items()))
    assert [window.crc for window in one] == [window.crc for window in two]
    assert any(window.mask["landmarks"].any() for window in one)


def windows(items: list[Item]) -> list[Window]:
    preprocessor = Preprocessor(PreprocessConfig())
    return [window for item in items for window in preprocessor.push(item)]


def test_frame_numbers_are_found_in_a_recording(sample_data: Path) -> None:
    """The webcam's stream of the sample session counts from 71 on, at 30 Hz, with 2 % of its samples lost."""
    clock = frame_number_clock(read_xdf(sample_data / "xdf/synthetic/emotivlike_2hosts.xdf"))
    assert clock is not None
    assert clock.name == "Webcam-FrameIndex"
    assert clock.numbers[0] == 71
    assert clock.period_s == pytest.approx(1 / 30, rel=0.01)


def test_no_other_stream_is_taken_for_frame_numbers(sample_data: Path) -> None:
    """EEG counters and markers are none."""
    assert frame_number_clock(read_xdf(sample_data / "xdf/real16_openbci_125Hz_counter.xdf")) is None


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two and a half seconds of the astronaut, more than a pipe holds."""
    return write_video(tmp_path_factory.mktemp("film") / "face.mp4", swaying(75))


@pytest.mark.camera
def test_a_process_killed_midway_costs_no_frame(film: Path) -> None:
    """Another one reads up to where the first was: the same 75 samples as undisturbed, bit for bit."""
    undisturbed = [face_to_row(sample).tobytes() for sample in VideoFaces(film).samples()]
    disturbed = []
    for sample in VideoFaces(film).samples():
        disturbed.append(face_to_row(sample).tobytes())
        if len(disturbed) == 20:
            (child,) = multiprocessing.active_children()
            child.kill()
    assert len(undisturbed) == 75
    assert disturbed == undisturbed


@pytest.mark.camera
def test_a_reader_that_stops_leaves_no_process(film: Path) -> None:
    """Closing the iterator ends the process."""
    samples = VideoFaces(film).samples()
    next(samples)
    assert len(multiprocessing.active_children()) == 1
    samples.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("content", [None, b"", b"no video" * 500])
def test_what_is_no_video_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty and damaged files are refused before anything runs."""
    path = tmp_path / "face.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"face\.mp4"):
        VideoFaces(path)


@pytest.mark.camera
def test_a_video_that_is_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    """The second half of the file is gone: the first frames come, with their bits, one that is torn, and the end."""
    whole = write_video(tmp_path / "whole.avi", swaying(40))
    broken = tmp_path / "broken.avi"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    rows = [[face_to_row(sample).tobytes() for sample in VideoFaces(path).samples()] for path in (whole, broken)]
    assert 10 < len(rows[1]) < 30
    assert rows[1][:-1] == rows[0][: len(rows[1]) - 1]


def predict(folder: Path, *options: str | Path) -> list[dict[str, object]]:
    """Run ``clmer predict`` and return the events."""
    out = folder / "p.jsonl"
    assert main(["predict", *map(str, options), "--out", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def used(event: dict[str, object]) -> tuple[bool, bool]:
    """Tell whether an event used EEG, and the face."""
    modalities = event["modalities"]
    assert isinstance(modalities, dict)
    return modalities["eeg"]["used"], modalities["face"]["used"]


@pytest.mark.camera
def test_a_video_without_faces_leaves_the_eeg(tmp_path: Path) -> None:
    """Events go on with EEG alone and say that the face is missing."""
    write_session(simulate(SimulationConfig(seconds=5, seed=1)), tmp_path / "eeg.xdf")
    film = write_video(tmp_path / "empty.avi", [scene()] * 120)
    events = predict(tmp_path, tmp_path / "eeg.xdf", "--video", film)
    settled = events[6:]
    assert {used(event) for event in settled} == {(True, False)}
    assert all("face_missing" in event["reasons"] for event in settled)  # type: ignore[operator]


@pytest.mark.camera
@pytest.mark.slow
def test_real_pixels_beside_real_eeg_give_events_of_both_modalities(tmp_path: Path, sample_data: Path) -> None:
    """A woman who talks, cries and smiles, beside an EPOC's EEG of somebody else: 14 channels, 128 Hz."""
    table = np.loadtxt(sample_data / "eeg/eeg-eye-state.csv", delimiter=",", skiprows=1, max_rows=19 * 128)
    with XdfWriter(tmp_path / "eeg.xdf") as xdf:
        spec = XdfStreamSpec("EPOC", "EEG", EEG_NAMES, 128.0, units=("microvolts",) * 14)
        xdf.write_samples(xdf.add_stream(spec), T0 + np.arange(len(table)) / 128, table[:, :14].T)
    film = sample_data / "faces/talking_crying_smiling_woman.mp4"
    events = predict(tmp_path, tmp_path / "eeg.xdf", "--video", film)
    assert sum(used(event) == (True, True) for event in events) > 25
    assert all(math.isfinite(event["valence"]) for event in events if event["valid"])  # type: ignore[arg-type]
