"""Whatever may end a calibration while another thread is at it: one thing does, and only that is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from calibration_run import WANTED, eeg
from clmer_server.neutral_calibration import NeutralCalibration
from clmer_server.protocol.outbound import Notice
from clmer_server.rest_calibration import RestCalibration
from clmer_streaming.eeg_rest import RestMeasurement
from clmer_streaming.face.process import FaceProcess
from clmer_streaming.face.process_messages import Calibrated, FaceMessage
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.types import FaceSample, RestReference, Window
from face_pictures import swaying
from listener import Listener
from network_camera import network_camera

WAIT_S = 30.0


class Desk:
    """A calibration whose pipeline thread is held within its last window, and what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, windows: list[Window]) -> None:
        self.told: list[Notice] = []
        self.kept: list[RestReference] = []
        self.rests: list[RestReference | None] = []
        self._held, self._go = threading.Event(), threading.Event()
        self.calibration = RestCalibration(WANTED, self._keep, self.told.append)
        self.calibration.begin(60.0)
        push = RestMeasurement.push

        def held(measurement: RestMeasurement, window: Window, known: RestReference | None) -> bool:
            over = push(measurement, window, known)
            if over:
                self._held.set()
                assert self._go.wait(WAIT_S)
            return over

        monkeypatch.setattr(RestMeasurement, "push", held)
        self._thread = threading.Thread(target=lambda: self.rests.append(self.calibration.take(windows)))
        self._thread.start()
        assert self._held.wait(WAIT_S)

    def finish(self) -> None:
        """Let the pipeline thread go on, and wait for it."""
        self._go.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _keep(self, rest: RestReference) -> Path:
        self.kept.append(rest)
        return Path("rest.json")


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    """Enough for a rest of a minute."""
    path = Preprocessor(WANTED)
    return [window for item in eeg() for window in path.push(item)]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, windows: list[Window]) -> Desk:
    return Desk(monkeypatch, windows)


def test_a_rest_that_nobody_stops_is_finished(desk: Desk) -> None:
    desk.finish()
    assert [notice.code for notice in desk.told] == ["calibration_done"]
    assert desk.rests == desk.kept
    assert len(desk.kept) == 1


def test_a_rest_that_is_stopped_within_its_last_window_is_neither_told_nor_kept(desk: Desk) -> None:
    desk.calibration.stop()
    desk.finish()
    assert (desk.told, desk.kept, desk.rests) == ([], [], [None])


def test_a_rest_that_is_begun_meanwhile_goes_on(desk: Desk) -> None:
    desk.calibration.stop()
    desk.calibration.begin(60.0)
    desk.finish()
    assert desk.calibration.running
    assert (desk.told, desk.kept, desk.rests) == ([], [], [None])


def test_a_rest_that_is_given_up_within_its_last_window_is_not_done_as_well(desk: Desk) -> None:
    notice = desk.calibration.give_up("the session has ended")
    desk.finish()
    assert notice is not None
    assert notice.code == "calibration_failed"
    assert (desk.told, desk.kept, desk.rests) == ([], [], [None])
    assert desk.calibration.give_up("the session has ended") is None


class HeldFaces:
    """Holds every measured neutral face back between the face process and the camera's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._here, self._go = threading.Semaphore(0), threading.Semaphore(0)
        receive = FaceProcess.receive

        def held(process: FaceProcess, timeout_s: float) -> FaceMessage | None:
            message = receive(process, timeout_s)
            if isinstance(message, Calibrated):
                self._here.release()
                assert self._go.acquire(timeout=WAIT_S)
            return message

        monkeypatch.setattr(FaceProcess, "receive", held)

    def wait(self) -> None:
        """Wait until one is held."""
        assert self._here.acquire(timeout=WAIT_S)

    def let_go(self) -> None:
        """Let it pass."""
        self._go.release()


def test_a_neutral_face_that_was_given_up_on_its_way_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up, it is not in force, not told, and not taken for the next one, which alone is done."""
    told: list[Notice] = []
    faces = HeldFaces(monkeypatch)
    with network_camera(swaying(31)) as network:
        camera = CameraSource(network.url)
        calibration = NeutralCalibration(camera, None, told.append)
        calibration.begin(0.5)
        with Listener(camera) as listener:
            faces.wait()
            notice = calibration.give_up("the session has ended")
            faces.let_go()
            listener.next(FaceSample, lambda sample: sample.calibration == "explicit")
            listener.next(FaceSample, lambda sample: sample.calibration != "explicit")
            assert notice is not None
            assert (camera.calibrated, told) == (None, [])
            calibration.begin(0.5)
            faces.wait()
            calibration.stop()
            calibration.begin(0.6)
            faces.let_go()
            faces.wait()
            assert (camera.calibrated, told, camera.calibrating) == (None, [], True)
            faces.let_go()
            listener.next(FaceSample, lambda sample: not camera.calibrating)
    assert [notice.code for notice in told] == ["calibration_done"]
    assert camera.calibrated is not None
