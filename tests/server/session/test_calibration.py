"""EEG at rest, measured while a session runs: from the request to the windows, the recording and the kept file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clmer_server.participants import load_rest, save_rest
from clmer_server.protocol.codes import RefusalError
from clmer_server.protocol.outbound import Notice
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.calibration import PATIENCE_S, Controls, NeutralCalibration, RestCalibration
from clmer_server.session.inputs import Inputs
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.face.process import Calibrated, FaceMessage, FaceProcess
from clmer_streaming.pipeline.baseline import REST_SCALE_UV, RestMeasurement
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.types import FaceSample, Item, RestBaseline, Tick, Window
from tests.support.calibration_run import WANTED, Run, eeg
from tests.support.face_pictures import swaying
from tests.support.listener import Listener
from tests.support.network_camera import network_camera
from tests.support.signals import EEG_INFO

GAIN = 3.0
"""Far from the size of EEG that is measured against rest already."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A session in which a client asked for a rest of 60 s before the first sample."""
    folder = tmp_path_factory.mktemp("participants")
    run = Run(eeg(gain=GAIN), Inputs("replay", (), keep_rest=lambda rest: save_rest(folder, "P01", rest)))
    run.session.controls.calibrate("rest", 60.0)
    run.finish()
    return run, folder


def test_from_the_end_of_the_rest_on_windows_are_measured_against_it(measured: tuple[Run, Path]) -> None:
    """The events say so: none, then rest, and the notice comes in between."""
    run, _ = measured
    assert run.states == sorted(run.states, key=str)
    assert 110 <= run.states.count("none") <= 125  # a window each half second, for a minute
    assert run.states.count("rest") > 20
    assert run.codes == ["calibration_done", "replay_ended"]


def test_it_is_kept_under_the_pseudonym_and_holds_in_the_next_session(measured: tuple[Run, Path]) -> None:
    _, folder = measured
    rest = load_rest(folder, "P01", WANTED)
    assert rest is not None
    later = Run(eeg(10.0), Inputs("replay", (), rest=rest))
    later.finish()
    assert set(later.states) == {"rest"}
    assert later.items[0] == rest


def test_the_recorded_items_give_the_same_windows(measured: tuple[Run, Path]) -> None:
    """The rest is an item at its place: whoever pushes the items again needs no other knowledge."""
    run, _ = measured
    path = Preprocessor(WANTED)
    crcs = [window.crc for item in run.items for window in path.push(item)]
    assert crcs == [message.crc for message in run.messages if isinstance(message, EmotionEvent)]
    assert len(run.rests) == 1


def test_measured_again_behind_a_recorded_rest_the_scale_is_the_same(measured: tuple[Run, Path]) -> None:
    """A replay of a recording that holds a rest: its windows are taken back to microvolts before they are measured."""
    first, _ = measured
    (rest,) = first.rests
    recorded = Run(eeg(gain=GAIN), Inputs("replay", (), rest=rest))
    recorded.finish()
    again = Run(recorded.items)
    again.session.controls.calibrate("rest", 60.0)
    again.finish()
    assert set(again.states) == {"rest"}
    assert again.rests[0] == rest
    assert again.rests[1].scale_uv == pytest.approx(rest.scale_uv, rel=0.2)
    assert np.min(rest.scale_uv) > 1.5 * REST_SCALE_UV


def test_one_at_a_time_and_it_can_be_given_up() -> None:
    run = Run([])
    controls = run.session.controls
    with pytest.raises(RefusalError) as refused:
        controls.stop_calibration("rest")
    assert refused.value.code == "calibration_not_running"
    controls.calibrate("rest", 90.0)
    with pytest.raises(RefusalError) as refused:
        controls.calibrate("rest", 90.0)
    assert refused.value.code == "calibration_running"
    controls.stop_calibration("rest")
    with pytest.raises(RefusalError) as refused:
        controls.calibrate("rest", 30.0)
    assert (refused.value.code, "60 to 120 s" in refused.value.message) == ("bad_field", True)
    run.finish()
    assert run.codes == ["replay_ended"]


def test_a_model_without_eeg_has_nothing_to_measure() -> None:
    """The request is refused, and the session goes on."""
    run = Run(eeg(4.0), preprocess=replace(WANTED, modalities=("aus",), eeg_calibration="none"))
    with pytest.raises(RefusalError) as refused:
        run.session.controls.calibrate("rest", None)
    assert refused.value.code == "not_supported"
    run.finish()
    assert run.codes == ["replay_ended"]


def test_a_rest_of_other_settings_stops_only_a_model_that_wants_one(measured: tuple[Run, Path]) -> None:
    """A model that does not look at it is not disturbed by it."""
    _, folder = measured
    other = replace(WANTED, signal=replace(WANTED.signal, band=(1.0, 40.0)))
    assert load_rest(folder, "P01", replace(other, eeg_calibration="none")) is None
    with pytest.raises(SettingsError, match="measured with others"):
        load_rest(folder, "P01", other)


def failed(run: Run) -> list[str]:
    """Return what was said of calibrations that failed."""
    return [notice.message for notice in run.notices if notice.code == "calibration_failed"]


def rest_of(run: Run) -> Run:
    """Return a run in which a rest was asked for, at its end."""
    run.session.controls.calibrate("rest", 60.0)
    run.finish()
    assert not run.session.controls.rest.running
    return run


def test_a_rest_without_signal_is_told_and_changes_nothing() -> None:
    """A headset on the table: flat channels. It is not waited for to the end of the session."""
    run = rest_of(Run(eeg(PATIENCE_S + 10.0, gain=0.0)))
    assert run.codes == ["calibration_failed", "replay_ended"]
    (said,) = failed(run)
    assert "EEG at rest" in said
    assert "no usable EEG came for 30 s" in said
    assert "eeg_flat" in said
    assert run.rests == []


def test_a_rest_without_a_headset_is_told() -> None:
    """Nothing is announced; the time goes on by ticks, and ends within half a second of the patience."""
    ticks = [Tick(100.0 + k / 2, "eeg") for k in range(2 * round(PATIENCE_S) + 5)]
    run = rest_of(Run(ticks))
    assert run.codes == ["calibration_failed", "replay_ended"]
    assert "eeg_missing" in failed(run)[0]
    assert "the session has ended" in failed(rest_of(Run(ticks[:-10])))[0]


def test_a_rest_whose_headset_falls_silent_is_told() -> None:
    """Ten seconds of EEG, then ticks alone."""
    silence = [Tick(110.0 + k / 2, EEG_INFO.source) for k in range(2 * round(PATIENCE_S) + 10)]
    assert "no usable EEG came for 30 s" in failed(rest_of(Run([*eeg(10.0), *silence])))[0]


def test_a_pause_below_the_patience_does_not_end_a_rest() -> None:
    """Twenty seconds of flat signal in the middle; what was clean is enough."""
    gain = np.ones(80 * 128)
    gain[20 * 128 : 40 * 128] = 0.0
    assert rest_of(Run(eeg(80.0, gain))).codes == ["calibration_done", "replay_ended"]


def test_too_little_clean_signal_is_told() -> None:
    """Every twenty seconds, five are clean: no wait is too long, and in a minute 30 s are not reached."""
    gain = np.where(np.arange(80 * 128) // 128 % 20 < 5, 1.0, 0.0)
    run = rest_of(Run(eeg(80.0, gain)))
    assert run.codes == ["calibration_failed", "replay_ended"]
    assert "30 s of clean EEG" in failed(run)[0]
    assert run.rests == []


def test_a_session_that_ends_gives_its_calibrations_up() -> None:
    """Both, before it says that it has ended."""
    run = Run(eeg(20.0), Inputs("live", (), camera=CameraSource("63")))
    run.session.controls.calibrate("neutral", None)
    rest_of(run)
    assert run.codes == ["calibration_failed", "calibration_failed", "input_ended"]
    rest, neutral = failed(run)
    assert rest == "The EEG at rest could not be measured: the session has ended."
    assert neutral == "The neutral face could not be measured: the session has ended."


def test_a_session_that_fails_gives_its_calibration_up() -> None:
    """Before it says why it has failed."""

    def breaking() -> Iterator[Item]:
        yield from eeg(10.0)
        raise RecordingError("a whole file", "half a file", "record it again")

    assert rest_of(Run(breaking())).codes == ["calibration_failed", "session_failed"]


def test_a_neutral_face_that_nobody_shows_is_told() -> None:
    """The camera is not there; what it says of that is passed on, and another measurement may begin."""
    camera = CameraSource("63")
    run = Run(eeg(PATIENCE_S + 10.0), Inputs("live", (), camera=camera))
    run.session.controls.calibrate("neutral", 2.0)
    run.finish()
    assert run.codes == ["calibration_failed", "input_ended"]
    assert "no neutral face could be measured within 32 s (camera 63" in failed(run)[0]
    assert not camera.calibrating


@pytest.mark.parametrize(
    ("modalities", "camera", "can"),
    [(("eeg",), None, True), (("aus",), "63", True), (("aus",), None, False)],
)
def test_a_session_offers_calibration_where_one_kind_can_be_measured(
    modalities: tuple[str, ...], camera: str | None, can: bool
) -> None:
    """EEG for a model that takes it, or a face before a camera of the session's own."""
    inputs = Inputs("live", (), camera=None if camera is None else CameraSource(camera))
    controls = Controls(inputs, replace(WANTED, modalities=modalities, eeg_calibration="none"), lambda notice: None)
    assert ("calibration.start" in controls.capabilities) == can


WAIT_S = 30.0


class Desk:
    """A calibration whose pipeline thread is held within its last window, and what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, windows: list[Window]) -> None:
        self.told: list[Notice] = []
        self.kept: list[RestBaseline] = []
        self.rests: list[RestBaseline | None] = []
        self._held, self._go = threading.Event(), threading.Event()
        self.calibration = RestCalibration(WANTED, self._keep, self.told.append)
        self.calibration.begin(60.0)
        push = RestMeasurement.push

        def held(measurement: RestMeasurement, window: Window, known: RestBaseline | None) -> bool:
            over = push(measurement, window, known)
            if over:
                self._held.set()
                assert self._go.wait(WAIT_S)
            return over

        monkeypatch.setattr(RestMeasurement, "push", held)
        self._thread = threading.Thread(target=lambda: self.rests.append(self.calibration.push(windows)))
        self._thread.start()
        assert self._held.wait(WAIT_S)

    def finish(self) -> None:
        """Let the pipeline thread go on, and wait for it."""
        self._go.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _keep(self, rest: RestBaseline) -> Path:
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
