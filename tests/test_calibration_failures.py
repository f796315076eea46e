"""A calibration that comes to nothing: it is said when, and what was missing, and what was in force stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from calibration_run import WANTED, Run, eeg
from clmer_server.controls import Controls
from clmer_server.inputs import Inputs
from clmer_server.rest_calibration import PATIENCE_S
from clmer_streaming.errors import RecordingError
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.types import Item, Tick
from signals import EEG_INFO


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
