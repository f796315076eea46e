"""Claims about a camera as a source: a real network camera that is unplugged, hangs, and comes back."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.face.capture import WAITING_FRAMES, CaptureSpec, FrameGrabber
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.types import FaceFlag, FaceSample, StreamInfo, Tick
from tests.support.face_pictures import scene, swaying, write_video
from tests.support.listener import Listener
from tests.support.network_camera import NetworkCamera, network_camera

pytestmark = pytest.mark.camera

WAIT_S = 60.0


@pytest.fixture(scope="module")
def camera() -> Iterator[NetworkCamera]:
    """A camera at 30 frames a second before which the astronaut sways."""
    with network_camera(swaying(31)) as running:
        yield running


def test_a_camera_is_announced_and_read(camera: NetworkCamera) -> None:
    """Before its first frame there are ticks; then the announcement, then faces on the LSL clock at its rate."""
    source = CameraSource(camera.url, delay_s=0.05)
    with Listener(source) as listener:
        assert listener.next(Tick).source == "face"
        info = listener.next(StreamInfo)
        assert (info.kind, info.source, info.extractor, info.delay_s) == ("face", "face", EXTRACTOR_ID, 0.05)
        assert info.ch_names == FACE_CH_NAMES
        samples = [listener.next(FaceSample) for _ in range(30)][10:]
        assert abs(local_clock() - samples[-1].t) < 1.0
    assert {sample.flags for sample in samples} == {FaceFlag.NONE}
    assert np.median(np.diff([sample.t for sample in samples])) == pytest.approx(1 / 30, abs=0.01)
    assert all(np.isfinite(sample.landmarks).all() for sample in samples)
    assert (source.report.reason, source.report.n_starts) == ("", 1)


def test_an_unplugged_camera_is_noticed_and_taken_up_again(camera: NetworkCamera) -> None:
    """Silence is said within two seconds, with the reason; plugged in again, it is announced anew and goes on."""
    source = CameraSource(camera.url)
    with Listener(source) as listener:
        listener.next(StreamInfo)
        last = listener.next(FaceSample)
        camera.plugged.clear()
        tick = listener.next(Tick)
        reason = source.report.reason
        camera.plugged.set()
        listener.next(StreamInfo)
        assert listener.next(FaceSample).t > tick.t
    assert "gives no pictures" in reason
    assert tick.t - last.t < 2.0
    assert source.report.n_starts == 1


def test_a_camera_that_hangs_gets_another_process(camera: NetworkCamera) -> None:
    """A driver that never answers cannot be closed; the process around it can."""
    source = CameraSource(camera.url)
    with Listener(source) as listener:
        last = listener.next(FaceSample)
        camera.working.clear()
        tick = listener.next(Tick, lambda tick: source.report.n_starts == 2)
        camera.working.set()
        assert listener.next(FaceSample).t > tick.t > last.t
        assert listener.next(FaceSample, lambda sample: FaceFlag.MISSING not in sample.flags)


def test_a_killed_process_is_back(camera: NetworkCamera) -> None:
    """Killed, it is started again; the samples go on behind a new announcement."""
    source = CameraSource(camera.url)
    with Listener(source) as listener:
        before = listener.next(FaceSample)
        for child in face_processes():
            child.kill()
        listener.next(StreamInfo)
        assert listener.next(FaceSample).t > before.t
        assert source.report.n_starts == 2
        assert len(face_processes()) == 1


def test_a_stop_takes_effect_at_once_and_leaves_no_process(camera: NetworkCamera) -> None:
    """Whether it delivers or waits for a camera that is not there."""
    for spec in (camera.url, "63"):
        with Listener(CameraSource(spec)) as listener:
            listener.next(Tick)
            listener.stop.set()
            begin = local_clock()
            listener.thread.join(10)
            assert local_clock() - begin < 3.0
        assert face_processes() == []


def test_five_frames_a_second_are_five_samples_a_second() -> None:
    """A slow camera is slow, and nothing else."""
    with network_camera(swaying(11), rate_hz=5.0) as slow, Listener(CameraSource(slow.url)) as listener:
        samples = [listener.next(FaceSample) for _ in range(8)][1:]
    assert np.median(np.diff([sample.t for sample in samples])) == pytest.approx(0.2, abs=0.05)
    assert all(sample.quality > 0.3 for sample in samples)


def test_a_camera_that_is_read_slowly_drops_its_oldest_frames_and_counts_them(tmp_path: Path) -> None:
    """Of 60 frames at 200 Hz the first is taken and the newest eight wait: 51 were dropped."""
    grabber = FrameGrabber(CaptureSpec.parse(str(write_video(tmp_path / "fast.avi", swaying(60), rate_hz=200.0))))
    first, pause = grabber.pop(WAIT_S), threading.Event()
    while not grabber.ended:
        pause.wait(0.01)
    waiting = [grabbed for _ in range(WAITING_FRAMES) if (grabbed := grabber.pop(0)) is not None]
    assert first is not None
    assert [grabbed.t for grabbed in (first, *waiting)] == sorted(grabbed.t for grabbed in (first, *waiting))
    assert len(waiting) == WAITING_FRAMES
    assert (grabber.n_grabbed, grabber.n_dropped) == (60, 60 - 1 - WAITING_FRAMES)


def test_frames_that_come_faster_than_they_can_be_looked_at_are_dropped_and_counted() -> None:
    """The source says how many; what it delivers is never older than a few frames."""
    with (
        network_camera(swaying(31), rate_hz=2000.0) as camera,
        Listener(source := CameraSource(camera.url)) as listener,
    ):
        sample = listener.next(FaceSample, lambda _: source.report.n_dropped > 20)
        assert local_clock() - sample.t < 1.0


def test_one_camera_serves_two_sources_or_says_why_not() -> None:
    """The same index twice: neither fails, each says that it has no pictures."""
    first, second = CameraSource("63"), CameraSource("63")
    with Listener(first) as one, Listener(second) as two:
        one.next(Tick, lambda tick: "gives no pictures" in first.report.reason)
        two.next(Tick, lambda tick: "gives no pictures" in second.report.reason)


def test_one_camera_that_can_serve_two_serves_both(camera: NetworkCamera) -> None:
    """An address that anybody may ask gives both sources its faces, each by a process of its own."""
    with Listener(CameraSource(camera.url)) as one, Listener(CameraSource(camera.url)) as two:
        for listener in (one, two):
            assert listener.next(FaceSample, lambda sample: FaceFlag.MISSING not in sample.flags).quality > 0.3
        assert len(face_processes()) == 2


def test_a_video_file_is_played_and_ends(tmp_path: Path) -> None:
    """Every frame is delivered once, then the source ends by itself."""
    path = write_video(tmp_path / "face.avi", [scene()] * 3 + swaying(17))
    source = CameraSource(str(path))
    with Listener(source) as listener:
        items = listener.rest()
    samples = [item for item in items if isinstance(item, FaceSample)]
    assert [FaceFlag.MISSING in sample.flags for sample in samples] == [True] * 3 + [False] * 17
    assert (source.info.name, source.info.sfreq) == ("face.avi", 30.0)
    assert source.report.reason == "face.avi has been played to its end"
    assert (source.report.n_samples, source.report.n_dropped) == (20, 0)


def test_a_file_that_is_no_video_is_refused_at_once(tmp_path: Path) -> None:
    """Before anything is started."""
    (tmp_path / "broken.mp4").write_bytes(bytes(1000))
    with pytest.raises(RecordingError, match=r"broken\.mp4"):
        CameraSource(str(tmp_path / "broken.mp4"))
    with pytest.raises(SettingsError, match=r"missing\.mp4"):
        CameraSource(str(tmp_path / "missing.mp4"))


def face_processes() -> list[multiprocessing.process.BaseProcess]:
    """Return the running face processes of this test run."""
    return [child for child in multiprocessing.active_children() if child.name == "clmer-face"]
