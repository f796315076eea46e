"""EEG at rest, measured while a session runs: from the request to the windows, the recording and the kept file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clmer_server.events import EventContext
from clmer_server.inference import InferenceThread
from clmer_server.inputs import Inputs
from clmer_server.participants import load_rest, save_rest
from clmer_server.protocol.outbound import Message, Notice
from clmer_server.protocol.prediction import EmotionEvent
from clmer_server.rooms import RefusalError
from clmer_server.session import Delivery, Session
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.types import Item, RestReference
from session_parts import MODEL, predict_certain
from signals import EEG_INFO, cut, eeg_like, stamps

WANTED = PreprocessConfig(modalities=("eeg",), eeg_calibration="rest")


class HeldSource:
    """Eighty seconds of EEG, of which the first chunk comes when it is let go."""

    def __init__(self, gain: float = 1.0) -> None:
        self.go = threading.Event()
        self._gain = gain

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        self.go.wait(30)
        t = stamps(80 * 128)
        put(EEG_INFO)
        for chunk in cut(t, self._gain * eeg_like(t.size), (32,)):
            put(chunk)


class Run:
    """A session over such a source, and what came of it."""

    def __init__(self, source: HeldSource, rest: RestReference | None = None, folder: Path | None = None) -> None:
        self.messages: list[Message] = []
        self.items: list[Item] = []
        keep = None if folder is None else (lambda rest: save_rest(folder, "P01", rest))
        inputs = Inputs("replay", (source,), rest=rest, keep_rest=keep)
        inference = InferenceThread(predict_certain)
        inference.start()
        delivery = Delivery(self.messages.append, lambda call: call(), self.items.append)
        self.session = Session(EventContext("s", MODEL, "replay"), inputs, WANTED, inference, delivery)

    def finish(self, source: HeldSource) -> None:
        """Let it run to its end."""
        source.go.set()
        self.session.wait()

    @property
    def states(self) -> list[str | None]:
        """What the EEG of each event with EEG was measured against."""
        events = [message for message in self.messages if isinstance(message, EmotionEvent)]
        return [event.calibration.eeg for event in events if event.modalities.eeg.used]

    @property
    def notices(self) -> list[Notice]:
        return [message for message in self.messages if isinstance(message, Notice)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A session in which a client asked for a rest of 60 s before the first sample."""
    folder = tmp_path_factory.mktemp("participants")
    source = HeldSource()
    run = Run(source, folder=folder)
    run.session.start()
    run.session.controls.calibrate("rest", 60.0)
    run.finish(source)
    return run, folder


def test_from_the_end_of_the_rest_on_windows_are_measured_against_it(measured: tuple[Run, Path]) -> None:
    """The events say so: none, then rest, and the notice comes in between."""
    run, _ = measured
    assert run.states == sorted(run.states, key=str)
    assert 110 <= run.states.count("none") <= 125  # a window each half second, for a minute
    assert run.states.count("rest") > 20
    assert [notice.code for notice in run.notices] == ["calibration_done", "replay_ended"]


def test_it_is_kept_under_the_pseudonym_and_holds_in_the_next_session(measured: tuple[Run, Path]) -> None:
    _, folder = measured
    rest = load_rest(folder, "P01", WANTED)
    assert rest is not None
    source = HeldSource()
    later = Run(source, rest)
    later.session.start()
    later.finish(source)
    assert set(later.states) == {"rest"}
    assert later.items[0] == rest


def test_the_recorded_items_give_the_same_windows(measured: tuple[Run, Path]) -> None:
    """The rest is an item at its place: whoever pushes the items again needs no other knowledge."""
    run, _ = measured
    path = Preprocessor(WANTED)
    crcs = [window.crc for item in run.items for window in path.push(item)]
    assert crcs == [message.crc for message in run.messages if isinstance(message, EmotionEvent)]
    assert sum(isinstance(item, RestReference) for item in run.items) == 1


def test_a_rest_without_signal_is_told_and_changes_nothing() -> None:
    """A headset on the table: flat channels."""
    source = HeldSource(gain=0.0)
    run = Run(source)
    run.session.start()
    run.session.controls.calibrate("rest", None)
    run.finish(source)
    assert "calibration_done" not in [notice.code for notice in run.notices]
    assert run.session.controls.rest.running  # it never began
    assert not any(isinstance(item, RestReference) for item in run.items)


def test_one_at_a_time_and_it_can_be_given_up() -> None:
    run = Run(HeldSource())
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


def test_a_rest_of_other_settings_stops_only_a_model_that_wants_one(measured: tuple[Run, Path]) -> None:
    """A model that does not look at it is not disturbed by it."""
    _, folder = measured
    other = replace(WANTED, signal=replace(WANTED.signal, band=(1.0, 40.0)))
    assert load_rest(folder, "P01", replace(other, eeg_calibration="none")) is None
    with pytest.raises(SettingsError, match="measured with others"):
        load_rest(folder, "P01", other)
