"""Claims about the face process: what comes out of it, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.face.capture import Capture, CaptureSpec, CaptureState, probe
from clmer_streaming.face.layout import row_to_face
from clmer_streaming.face.process import Calibrated, Ended, FaceMessage, FaceProcess, FaceProcessConfig, FaceRow
from clmer_streaming.types import FaceFlag
from tests.support.face_pictures import scene, swaying, write_video

WAIT_S = 60.0
ORPHANED = ("63 live", "film lossless")


pytestmark = pytest.mark.camera


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One and a half seconds at 20 Hz: twenty frames of the astronaut, and ten of nobody."""
    return write_video(tmp_path_factory.mktemp("film") / "face.avi", swaying(20) + [scene()] * 10, rate_hz=20.0)


@pytest.fixture(scope="module")
def lossless(film: Path) -> list[FaceMessage]:
    """What a process that reads every frame of the film says."""
    with FaceProcess(FaceProcessConfig(CaptureSpec.parse(str(film)), lossless=True)) as process:
        return list(everything(process))


def everything(process: FaceProcess) -> Iterator[FaceMessage]:
    """Yield what a process says, to its end."""
    while True:
        message = process.receive(WAIT_S)
        assert message is not None
        yield message
        if isinstance(message, Ended):
            return


def test_every_frame_of_a_file_comes_out_once_with_the_container_s_time(
    film: Path, lossless: list[FaceMessage]
) -> None:
    """Lossless: 30 rows at 20 Hz; a face in the first 20, NaN in the others."""
    *rows, end = lossless
    assert end == Ended(30)
    samples = [row_to_face(row.t, np.frombuffer(row.values, np.float32)) for row in rows if isinstance(row, FaceRow)]
    assert [sample.t for sample in samples] == pytest.approx([i / 20 for i in range(30)], abs=1e-6)
    assert [FaceFlag.MISSING in sample.flags for sample in samples] == [False] * 20 + [True] * 10
    assert np.isfinite(samples[19].landmarks).all()
    assert np.isnan(samples[20].aus).all()
    assert list(film.parent.iterdir()) == [film]  # no picture is kept


def test_a_file_played_as_a_camera_gives_the_same_numbers_at_the_time_of_playing(
    film: Path, lossless: list[FaceMessage]
) -> None:
    """Stamps are those of grabbing, 1/20 s apart; the values are those of the lossless reading, bit for bit."""
    file_rows = [message for message in lossless if isinstance(message, FaceRow)]
    for _ in range(5):  # a machine that is busy elsewhere may be late with a frame, or drop one
        begin = local_clock()
        with FaceProcess(FaceProcessConfig(CaptureSpec.parse(str(film)))) as process:
            messages = list(everything(process))
        rows = [message for message in messages if isinstance(message, FaceRow)]
        steps = np.diff([row.t for row in rows])
        if rows[-1].n_dropped == 0 and steps.max() < 0.07:  # nearer than what is smoothed over
            break
    assert CaptureState(True, rate_hz=20.0) in messages
    assert begin < rows[0].t < rows[-1].t < local_clock()
    assert rows[-1].n_dropped == 0
    assert np.median(steps) == pytest.approx(1 / 20, abs=0.005)
    assert [row.values for row in rows] == [row.values for row in file_rows]


def test_a_camera_that_is_not_there_is_said_and_waited_for() -> None:
    """There is no end, and one sentence that says what to do."""
    with FaceProcess(FaceProcessConfig(CaptureSpec.parse("63"))) as process:
        states = [process.receive(WAIT_S) for _ in range(3)]
    last = states[-1]
    assert isinstance(last, CaptureState)
    assert not last.is_open
    assert last.reason.startswith("camera 63 gives no pictures: plug it in")


def test_a_file_that_is_no_video_is_one_clear_error(tmp_path: Path) -> None:
    """Also where it is damaged only after it was looked at."""
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video" * 100)
    with FaceProcess(FaceProcessConfig(CaptureSpec("file", str(path)), lossless=True)) as process:
        (end,) = everything(process)
    assert isinstance(end, Ended)
    assert end.error is not None
    assert end.error[0] == f"a video that can be read at {path}"


def test_the_neutral_face_is_measured_from_the_first_good_frame_on(tmp_path: Path) -> None:
    """Nobody at first; then 1 s of a face gives one neutral face."""
    path = write_video(tmp_path / "late.avi", [scene()] * 5 + swaying(60))
    with FaceProcess(FaceProcessConfig(CaptureSpec.parse(str(path)), lossless=True, calibrate_s=1.0)) as process:
        measured = [message.neutral for message in everything(process) if isinstance(message, Calibrated)]
    assert len(measured) == 1
    assert 15 <= measured[0].n_frames <= 31


def test_a_killed_process_is_noticed_at_once(film: Path) -> None:
    """The pipe ends with it."""
    with FaceProcess(FaceProcessConfig(CaptureSpec.parse("63"))) as process:
        assert process.receive(WAIT_S) is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            while True:
                assert process.receive(WAIT_S) is not None


_PARENT = """
import sys
from clmer_streaming.face.process import FaceProcess
from clmer_streaming.face.capture import CaptureSpec
from clmer_streaming.face.process import FaceProcessConfig

if __name__ == "__main__":
    spec, lossless = CaptureSpec.parse(sys.argv[1]), sys.argv[2] == "lossless"
    process = FaceProcess(FaceProcessConfig(spec, lossless=lossless))
    process.receive(60)
    print(process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def orphans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Whether the face process of each killed parent was still there after a while; all run at the same time."""
    folder = tmp_path_factory.mktemp("orphans")
    film = write_video(folder / "long.avi", [scene(width=64, height=64)] * 400)  # more than a pipe holds
    script = folder / "parent.py"
    script.write_text(_PARENT)

    def is_left(camera: str) -> bool:
        spec, way = camera.split()
        command = [sys.executable, str(script), str(film) if spec == "film" else spec, way]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert is_running(pid)
            parent.kill()
        deadline = time.monotonic() + 10
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        return is_running(pid)

    with ThreadPoolExecutor() as threads:
        return dict(zip(ORPHANED, threads.map(is_left, ORPHANED), strict=True))


@pytest.mark.parametrize("camera", ORPHANED)
def test_no_orphan_is_left_when_the_parent_is_killed(orphans: dict[str, bool], camera: str) -> None:
    """A process that waits for a camera ends, and so does one that waits for its parent to read on."""
    assert not orphans[camera]


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("word", "kind", "name"),
    [
        ("0", "index", "camera 0"),
        ("12", "index", "camera 12"),
        ("/dev/video7", "device", "/dev/video7"),
        ("rtsp://10.0.0.1/live", "url", "rtsp://10.0.0.1/live"),
    ],
)
def test_a_camera_is_named_by_index_device_or_address(word: str, kind: str, name: str) -> None:
    """The kind follows from the word alone; whether it is there shows later."""
    spec = CaptureSpec.parse(word)
    assert (spec.kind, spec.name) == (kind, name)


@pytest.mark.parametrize("word", ["-1", "webcam", "missing.mp4", "", "."])
def test_a_word_that_names_no_camera_is_refused(word: str) -> None:
    """Mistakes show at once, with what was meant."""
    with pytest.raises(SettingsError, match="a camera: its index"):
        CaptureSpec.parse(word)


def test_a_video_file_says_its_rate_and_length(film: Path) -> None:
    """20 Hz, 30 frames; the positions are the container's."""
    assert probe(CaptureSpec.parse(str(film))) == 20.0
    capture = Capture(CaptureSpec.parse(str(film)))
    assert capture.n_frames == 30
    positions = []
    while capture.grab() is not None:
        positions.append(capture.position())
    capture.close()
    assert positions == pytest.approx([i / 20 for i in range(30)], abs=1e-6)


def test_a_video_without_stamps_counts_by_its_rate(tmp_path: Path) -> None:
    """Raw motion JPEG has no container: frames are 1/25 s apart, as its decoder assumes."""
    import cv2

    path = tmp_path / "raw.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", picture)[1].tobytes() for picture in swaying(5)))
    capture = Capture(CaptureSpec.parse(str(path)))
    positions = []
    while capture.grab() is not None:
        positions.append(capture.position())
    capture.close()
    assert positions == pytest.approx([i / 25 for i in range(5)], abs=1e-6)


def test_a_file_that_is_missing_is_said(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(RecordingError, match=r"gone\.mp4"):
        probe(CaptureSpec("file", str(tmp_path / "gone.mp4")))
