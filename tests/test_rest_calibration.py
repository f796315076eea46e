"""EEG at rest, measured while a session runs: from the request to the windows, the recording and the kept file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration_run import WANTED, Run, eeg
from clmer_server.inputs import Inputs
from clmer_server.participants import load_rest, save_rest
from clmer_server.protocol.prediction import EmotionEvent
from clmer_server.rooms import RefusalError
from clmer_streaming.eeg_rest import REST_SCALE_UV
from clmer_streaming.errors import SettingsError
from clmer_streaming.preprocess import Preprocessor

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
