"""Claims about the video that a session keeps where it is asked to: which frames, when, and how it ends."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

from clmer_server.cli import main
from clmer_streaming.errors import RecordingError
from clmer_streaming.face.capture import CaptureSpec, VideoRecorder
from clmer_streaming.face.layout import row_to_face
from clmer_streaming.face.process import Ended, FaceMessage, FaceProcess, FaceProcessConfig, FaceRow
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.sources.video import VideoFaces, read_frame_stamps
from clmer_streaming.types import FaceSample, StreamInfo
from tests.integration.test_recorded_face import from_both
from tests.streaming.sources.test_camera import face_processes
from tests.support.face_pictures import read_video, scene, swaying, write_video
from tests.support.listener import Listener
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera
from tests.support.recorded import only_folder, read_until
from tests.support.serving import serving

WAIT_S = 60.0
MM_PER_CM = 10.0


def everything(config: FaceProcessConfig) -> list[FaceMessage]:
    """Return what a face process says, to its end."""
    messages: list[FaceMessage] = []
    with FaceProcess(config) as process:
        while not messages or not isinstance(messages[-1], Ended):
            message = process.receive(WAIT_S)
            assert message is not None
            messages.append(message)
    return messages


def faces(messages: list[FaceMessage]) -> list[FaceSample]:
    rows = (message for message in messages if isinstance(message, FaceRow))
    return [row_to_face(row.t, np.frombuffer(row.values, np.float32)) for row in rows]


def apart_mm(one: list[FaceSample], other: list[FaceSample]) -> float:
    """Return how far apart the landmarks of the same frames are in the middle."""
    pairs = zip(one, other, strict=True)
    return MM_PER_CM * float(np.median([np.linalg.norm(a.landmarks - b.landmarks, axis=1) for a, b in pairs]))


def test_every_frame_that_gave_a_face_is_in_the_video_with_its_stamp(tmp_path: Path) -> None:
    """Frame i is sample i, stamps to the last bit; faces read from it again are those of before, nearly."""
    film, video = write_video(tmp_path / "film.avi", swaying(40)), tmp_path / "face.avi"
    seen = faces(everything(FaceProcessConfig(CaptureSpec.parse(str(film)), video=video)))
    again = VideoFaces(video)
    assert again.stamps is not None
    assert again.stamps.tolist() == [sample.t for sample in seen]
    assert len(seen) == 40
    assert apart_mm(seen, list(again.samples())) < 0.5
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("face*")} == {0o600}


def test_a_process_that_is_ended_leaves_a_whole_video(tmp_path: Path) -> None:
    """Its header counts the frames, which it does only once the file is closed."""
    film, path = write_video(tmp_path / "film.avi", swaying(150)), tmp_path / "face.avi"
    with FaceProcess(FaceProcessConfig(CaptureSpec.parse(str(film)), video=path)) as process:
        n = 0
        while n < 20:
            n += isinstance(process.receive(WAIT_S), FaceRow)
    n_frames = len(read_video(path))
    stamps = read_frame_stamps(path)
    assert stamps is not None
    assert 20 <= n_frames < 150
    assert n_frames - stamps.size in (0, 1)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == n_frames


@pytest.mark.deep
def test_a_video_that_cannot_be_written_is_said_once_and_faces_go_on(tmp_path: Path) -> None:
    """Its folder is not there: every frame gives its sample all the same."""
    source, reasons = CameraSource(str(write_video(tmp_path / "film.avi", swaying(10)))), list[str]()
    source.keep_video(tmp_path / "none" / "face.avi", reasons.append)
    with Listener(source) as listener:
        for _ in range(10):
            listener.next(FaceSample)
    assert reasons == ["No such file or directory"]


@pytest.mark.deep
def test_clients_are_told_that_the_video_has_ended(tmp_path: Path) -> None:
    """Somebody has put a file where its stamps are to go; the session goes on with the face."""
    options = ["--eeg", "nobody", "--record", "rec", "--record-video"]
    with network_camera(swaying(31)) as camera:
        camera.plugged.clear()
        with serving(tmp_path, "--camera", camera.url, *options) as service, service.connect() as client:
            (only_folder(tmp_path / "rec") / "face_frames.csv").touch()
            camera.plugged.set()
            told = [json.loads(client.recv(WAIT_S))]
            while told[-1]["type"] != "prediction" or not told[-1]["valid"]:
                told.append(json.loads(client.recv(WAIT_S)))
    assert [m["message"] for m in told if m["type"] == "notice" and m["code"] == "video_failed"] == [
        "The video has ended, the session goes on: File exists. What was written so far can be seen."
    ]


def test_a_change_of_size_begins_another_video(tmp_path: Path) -> None:
    """Each has frames of one size, and stamps of its own."""
    keeper = VideoRecorder(tmp_path / "face.avi")
    for i in range(6):
        keeper.write(100.0 + i / 10, scene(width=320 if i < 4 else 160, height=240), 10.0)
    keeper.close()
    videos = tmp_path / "face.avi", tmp_path / "face-2.avi"
    assert [[picture.shape[1] for picture in read_video(path)] for path in videos] == [[320] * 4, [160] * 2]
    assert (tmp_path / "face-2_frames.csv").read_text() == "frame,t\n0,100.4\n1,100.5\n"


def test_the_last_of_the_disk_is_left_to_the_numbers(tmp_path: Path) -> None:
    """A disk with less room than is to stay free is full."""
    with pytest.raises(RecordingError, match="a disk that is full"):
        VideoRecorder(tmp_path / "face.avi", kept_free=2**62).write(1.0, scene(), 30.0)


def test_a_file_that_does_not_grow_any_more_is_noticed(tmp_path: Path) -> None:
    """OpenCV does not say that it cannot write; the limit on the size of a file stands for a disk that is full."""
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    keeper = VideoRecorder(tmp_path / "face.avi")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(RecordingError, match="does not grow beyond 300000 bytes"):
            for i in range(10_000):
                keeper.write(float(i), noise, 30.0)
    finally:
        keeper.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("frame,t\n0,1.5\n1,2.5\n2,3.", [1.5, 2.5]),
        ("frame,t\n0,1.5\n1,2.5\n9,3.5\n", [1.5, 2.5]),
        ("frame,t\n0,1.5\n1,2.5\n2,2.0\n3,9.0\n", [1.5, 2.5]),
        ("frame,t\n0,1.5\n", None),
        ("number,time\n0,1.5\n1,2.5\n", None),
        ("", None),
    ],
    ids=["broken-off", "left-out", "steps-back", "one-frame", "other-file", "empty"],
)
def test_damaged_stamps_are_read_as_far_as_they_go(tmp_path: Path, text: str, read: list[float] | None) -> None:
    """A table of something else is none."""
    (tmp_path / "face_frames.csv").write_text(text)
    stamps = read_frame_stamps(tmp_path / "face.avi")
    assert (None if stamps is None else stamps.tolist()) == read


@pytest.mark.deep
def test_a_process_that_is_started_again_begins_another_video(tmp_path: Path) -> None:
    """What the killed one had written is not written over."""
    with network_camera(swaying(31)) as camera:
        source = CameraSource(camera.url)
        source.keep_video(tmp_path / "face.avi", ended=lambda reason: None)
        with Listener(source) as listener:
            for _ in range(30):
                listener.next(FaceSample)
            for child in face_processes():
                child.kill()
            listener.next(StreamInfo)
            second = [listener.next(FaceSample) for _ in range(10)]
    stamps = read_frame_stamps(tmp_path / "face-2.avi")
    assert stamps is not None
    assert stamps.tolist()[: len(second)] == [sample.t for sample in second]
    assert (tmp_path / "face_frames.csv").read_text().count("\n") > 25


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a live session that kept its video."""
    folder = tmp_path_factory.mktemp("video")
    options = ["--record", "rec", "--record-video", "--no-outlets"]
    with (
        headset(),
        network_camera(swaying(31)) as camera,
        serving(folder, "--camera", camera.url, *options) as service,
    ):
        read_until(service, lambda seen: len(from_both(seen)) >= 6)
        service.end()
    return only_folder(folder / "rec")


@pytest.mark.deep
def test_a_replay_with_the_kept_video_has_the_faces_of_the_session(session: Path) -> None:
    """The same frames at the same times, and landmarks that the codec has hardly moved."""
    live = [item for item in SessionReader(session / "session.xdf").items() if isinstance(item, FaceSample)]
    again = ReplaySource(session / "session.xdf", video=VideoFaces(session / "face.avi")).items()
    seen = [item for item in again if isinstance(item, FaceSample)][: len(live)]
    assert len(live) > 60
    assert [sample.t for sample in seen] == [sample.t for sample in live]
    assert apart_mm(live, seen) < 1.0


@pytest.mark.deep
def test_the_video_is_told_of_and_deleted_with_its_session(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``list`` and ``show`` name it; ``delete`` leaves nothing of it."""
    root = ["--root", str(session.parent)]
    assert main(["session", "list", "--json", *root]) == 0
    assert json.loads(capsys.readouterr().out)["sessions"][0]["video"] == ["face.avi"]
    assert main(["session", "show", session.name, *root]) == 0
    assert "video         face.avi" in capsys.readouterr().out
    assert main(["session", "delete", session.name, "--yes", *root]) == 0
    assert not session.exists()
