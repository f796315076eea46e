"""Sessions in one's own program: their events, their recordings, and how they end."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import clmer
import clmer_streaming
from clmer_server.protocol.parts import VOLATILE_FIELDS, EmotionEvent
from clmer_streaming.config import EPOC_CH_NAMES
from tests.support.lsl_outlet import headset


def lasting(event: EmotionEvent) -> dict[str, Any]:
    """Return what is equal in every run of a recording."""
    return event.model_dump(mode="json", exclude=set(VOLATILE_FIELDS))


def session_threads() -> list[str]:
    """Return the names of the threads of sessions that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clmer-")]


class Breaking:
    """A predictor that breaks at its third window."""

    device = "cpu"
    runner = "torchscript"

    def __init__(self, predictor: Any) -> None:
        self._predictor, self._n = predictor, 0

    def predict(self, windows: list[Any]) -> list[Any]:
        self._n += 1
        if self._n > 3:
            raise OSError("the model's disk is gone") from ValueError("its cause")
        return cast(list[Any], self._predictor.predict(windows))


def test_a_replay_gives_the_predictions(model: clmer.Model, lab: Path) -> None:
    """Its events are those of ``predict``, which are those of the command, at any speed."""
    expected = [lasting(event) for event in clmer.predict(lab / "session.xdf", model)]
    with clmer.Session.replay(lab / "session.xdf", model, speed=60) as session:
        assert [lasting(event) for event in session] == expected
        eeg = next(stream for stream in session.status() if stream.kind == "eeg")
    assert (eeg.name, eeg.state, eeg.n_lost) == ("EmotivDataStream-EEG", "live", 0)
    assert eeg.n_samples > 7000
    assert [notice.code for notice in session.notices] == ["replay_ended"]


def test_a_replay_waits_for_its_reader(model: clmer.Model, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads late misses nothing, and no more than a bounded number of events waits meanwhile."""
    monkeypatch.setattr("clmer.session.MAX_WAITING_EVENTS", 8)
    with clmer.Session.replay(lab / "session.xdf", model) as session:
        first = next(iter(session))
        time.sleep(1.0)
        assert repr(session) == "<clmer.Session, replay, running>"
        rest = list(session)
    assert [event.seq for event in (first, *rest)] == list(range(120))


def test_a_block_that_is_left_ends_its_threads(model: clmer.Model, lab: Path) -> None:
    """Neither the end of the recording nor a ``break`` nor an error of one's own leaves anything running."""
    before = session_threads()
    with clmer.Session.replay(lab / "session.xdf", model) as session:
        for event in session:
            if event.valid:
                break
    assert session_threads() == before
    assert repr(session) == "<clmer.Session, replay, stopped>"
    with pytest.raises(ZeroDivisionError), clmer.Session.replay(lab / "session.xdf", model) as session:
        raise ZeroDivisionError
    assert session_threads() == before


def test_a_session_can_be_stopped_from_elsewhere(model: clmer.Model, lab: Path) -> None:
    """The loop over its events ends."""
    with clmer.Session.replay(lab / "session.xdf", model, speed=1) as session:
        threading.Timer(1.0, session.stop).start()
        assert len(list(session)) < 10


@pytest.mark.parametrize("read", [True, False], ids=["iterating", "leaving the block"])
def test_what_a_thread_raises_is_raised(model: clmer.Model, lab: Path, read: bool) -> None:
    """The very exception, with its cause, once: in the loop, else at the end of the block."""
    broken = dataclasses.replace(model, predictor=cast(Any, Breaking(model.predictor)))
    before = session_threads()
    events: list[EmotionEvent] = []
    with (
        pytest.raises(OSError, match="the model's disk is gone") as raised,
        clmer.Session.replay(lab / "session.xdf", broken) as session,
    ):
        if read:
            events.extend(session)
        else:
            while "failed" not in repr(session):
                time.sleep(0.01)
    assert isinstance(raised.value.__cause__, ValueError)
    assert session_threads() == before


def test_markers_and_the_recording(model: clmer.Model, lab: Path, tmp_path: Path) -> None:
    """A session is recorded with the markers that were set in it; it can be verified, and its predictions are there."""
    with clmer.Session.replay(lab / "session.xdf", model, record=tmp_path, participant=None) as session:
        events = []
        for event in session:
            events.append(event)
            if event.seq == 20:
                marker = session.mark("stimulus/joy", value=7)
    assert session.recording is not None
    recording = clmer.Recording.open(session.recording)
    assert [lasting(event) for event in recording.predictions] == [lasting(event) for event in events]
    mine = [one for one in recording.markers if one.source == "python"]
    assert [(one.label, one.value, one.t) for one in mine] == [("stimulus/joy", 7.0, marker.t)]
    assert recording.verify(model).passed


def test_a_session_is_used_within_its_block(model: clmer.Model, lab: Path) -> None:
    """Before and behind it there is nothing to iterate over and nothing to mark; a second block needs a new one."""
    session = clmer.Session.replay(lab / "session.xdf", model)
    with pytest.raises(clmer.SettingsError, match="use it in a block"):
        next(iter(session))
    with pytest.raises(clmer.SettingsError, match="use it in a block"):
        session.mark("early")
    with session:
        pass
    with pytest.raises(clmer.SettingsError, match="a session that runs"):
        session.mark("late")
    with pytest.raises(clmer.SettingsError, match="make another one"), session:
        pass


@pytest.mark.lsl
@pytest.mark.slow
def test_live_windows_are_those_of_the_recording(model: clmer.Model, tmp_path: Path) -> None:
    """A headset on LSL gives windows that its recording gives again, bit for bit; markers are where they were set."""
    import pylsl

    events = []
    with (
        headset(name="Headset-9", source_id="API-9"),
        clmer.Session.live(model, eeg="source_id=API-9", record=tmp_path) as session,
    ):
        at = None
        for event in session:
            events.append(event)
            if event.valid and at is None:
                at = pylsl.local_clock()
                session.mark("stimulus/joy", t=at)
            if sum(event.valid for event in events) >= 6:
                break
        (eeg,) = (stream for stream in session.status() if stream.kind == "eeg")
    assert (eeg.name, eeg.state) == ("Headset-9", "live")
    assert events[-1].source == "live"
    assert events[-1].latency_ms.total is not None
    assert session.recording is not None
    crc_of = {window.t_end: window.crc for window in clmer.windows(session.recording, model)}
    assert [crc_of[event.t_end] for event in events] == [event.crc for event in events]
    recording = clmer.Recording.open(session.recording)
    assert [marker.t for marker in recording.markers if marker.label == "stimulus/joy"] == [at]
    assert recording.eeg is not None
    assert np.all(np.isfinite(recording.eeg.x))
    assert recording.verify(model).passed


@pytest.mark.lsl
@pytest.mark.slow
def test_a_live_input_of_any_type_is_recorded_once_and_bit_for_bit(model: clmer.Model, tmp_path: Path) -> None:
    """A stream of type "signal" with a column of nanoseconds, which no float64 can hold, is an input by its name."""
    import pylsl

    names, stamp = (*EPOC_CH_NAMES, "Stamp"), 1_764_600_000_123_456_789
    info = pylsl.StreamInfo("bridge", "signal", len(names), 128.0, pylsl.cf_int64, "BRIDGE-1")
    channels = info.desc().append_child("channels")
    for name in names:
        channel = channels.append_child("channel")
        channel.append_child_value("label", name)
        channel.append_child_value("unit", "microvolts")
    outlet, done, sent = pylsl.StreamOutlet(info), threading.Event(), list[int]()
    noise = np.random.default_rng(0).normal(4200.0, 15.0, (512, 14)).astype(np.int64)

    def send() -> None:
        while not done.wait(1 / 128):
            sent.append(stamp + len(sent))
            outlet.push_sample([*noise[len(sent) % 512].tolist(), sent[-1]])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with clmer.Session.live(model, eeg="bridge", record=tmp_path) as session:
            n_valid = itertools.count(1)
            assert next(n for event in session if event.valid and (n := next(n_valid)) == 3)
            assert [status.kind for status in session.status() if status.name == "bridge"] == ["eeg"]
    finally:
        done.set()
        sender.join()
    assert session.recording is not None
    (stream,) = (stream for stream in clmer_streaming.read_xdf(session.recording).streams if stream.name == "bridge")
    stamps = stream.samples.read_channel(14).tolist()
    assert stamps == sent[sent.index(stamps[0]) : sent.index(stamps[-1]) + 1]
    recording = clmer.Recording.open(session.recording)
    assert recording.eeg is not None
    assert recording.eeg.x[14].tolist() == stamps
    assert recording.verify(model).passed


@pytest.mark.lsl
def test_a_live_session_waits_for_its_streams(model: clmer.Model) -> None:
    """A headset that is not there is waited for, the wait is explained, and can be ended."""
    before = session_threads()
    with clmer.Session.live(model, eeg="source_id=NOT-THERE") as session:
        time.sleep(0.5)
        (eeg,) = (stream for stream in session.status() if stream.kind == "eeg")
        assert eeg.state == "connecting"
        threading.Timer(0.5, session.stop).start()
        assert list(session) == []
    assert session_threads() == before
