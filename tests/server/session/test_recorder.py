"""Claims about the recorder: everything in order, nothing lost in silence, a full disk ends no session."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.outbound import Notice
from clmer_server.session import recorder as recorder_module
from clmer_server.session.recorder import Backlog, Recorder, RecordingPlan, make_recording_folder
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.reader import RecordedPrediction, SessionReader
from clmer_streaming.recording.records import Lost
from clmer_streaming.types import Chunk, Tick
from tests.support.session_parts import EEG, event

WAIT_S = 20.0


@contextmanager
def recording(folder: Path, *, writing: bool = True) -> Iterator[tuple[Recorder, list[Notice]]]:
    """Make a recorder, and let it write at once or not; it is closed at the end."""
    notices: list[Notice] = []
    plan = RecordingPlan(make_recording_folder(folder, "abc"), {"session": "abc"})
    recorder = Recorder(plan, (100.0, 1.7e9), blocking=False, notify=notices.append)
    if writing:
        recorder.start()
    yield recorder, notices
    recorder.close(WAIT_S)


def test_items_and_predictions_are_written_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """The file of predictions holds the very objects that clients get."""
    with recording(tmp_path) as (recorder, notices):
        recorder.item(EEG)
        recorder.item(Tick(1.0, "eeg"))
        recorder.message(event(seq=0))
        recorder.message(Notice(code=NoticeCode.SESSION_WARNING, message="b"))  # no prediction
        recorder.item(Tick(2.0, "eeg"))
    prediction = RecordedPrediction(encode(event(seq=0)))
    reader = SessionReader(tmp_path / "abc" / "session.xdf")
    assert list(reader.entries()) == [EEG, Tick(1.0, "eeg"), prediction, Tick(2.0, "eeg")]
    assert reader.header["clock"] == {"lsl_time": 100.0, "unix_time": 1.7e9}
    assert reader.summary.closed
    assert (tmp_path / "abc" / "predictions.jsonl").read_text() == encode(event(seq=0)) + "\n"
    assert notices == []


def test_what_came_is_on_disk_within_a_second_without_a_close(tmp_path: Path) -> None:
    """Awaited, not slept for: the thread hands it over by itself."""
    with recording(tmp_path) as (recorder, _):
        recorder.item(EEG)
        recorder.item(Tick(1.0, "eeg"))
        waited = threading.Event()
        path = tmp_path / "abc" / "session.xdf"
        while len(list(SessionReader(path).items())) < 2:
            assert not waited.wait(0.01)
        assert not SessionReader(path).summary.closed


def test_a_disk_that_is_full_is_said_once_and_ends_only_the_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit on the size of a file is a full disk for the program. What was written is whole."""
    import resource  # not on Windows

    chunk = Chunk("eeg", np.arange(64) / 128.0, np.random.default_rng(0).standard_normal((len(EEG.ch_names), 64)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with recording(tmp_path) as (recorder, notices):
        recorder.item(EEG)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            waited = threading.Event()
            while not notices:
                recorder.item(chunk)
                recorder.message(event())
                assert not waited.wait(0.001)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        recorder.item(chunk)
    assert [notice.code for notice in notices] == ["recording_failed"]
    assert "session goes on" in notices[0].message
    assert [vars(line)[OF_SESSION] for line in caplog.records if line.name == "clmer_server.session.recorder"] == [
        "abc"
    ]
    items = list(SessionReader(tmp_path / "abc" / "session.xdf").items())
    assert items[0] == EEG
    assert len(items) > 5
    assert all(isinstance(item, Chunk) and np.array_equal(item.x, chunk.x) for item in items[1:])
    for line in (tmp_path / "abc" / "predictions.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_backlog_that_is_full_says_how_much_is_missing_and_where() -> None:
    """Announcements and predictions always have room."""
    backlog = Backlog(2, blocking=False)
    taken_in = [backlog.put(Tick(float(i), "eeg")) for i in range(5)]
    backlog.put(EEG)
    prediction = event()
    backlog.put(prediction)
    assert taken_in == [True, True, False, True, True]  # the first loss is to be said, the next ones belong to it
    found: list[Any] = backlog.get_all(0)
    assert found == [Tick(0.0, "eeg"), Tick(1.0, "eeg"), Lost(3), EEG, prediction]


def test_a_disk_that_is_too_slow_leaves_a_hole_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written yet, as if the disk hung: what finds no room is counted where it is missing."""
    capacity, n_over = 500, 5
    monkeypatch.setattr(recorder_module, "CAPACITY", capacity)
    with recording(tmp_path, writing=False) as (recorder, notices):
        for i in range(capacity + n_over):
            recorder.item(Tick(float(i), "eeg"))
        assert [notice.code for notice in notices] == ["recording_gap"]
        recorder.start()
    entries = list(SessionReader(tmp_path / "abc" / "session.xdf").entries())
    assert (entries[0], entries[-2:]) == (Tick(0.0, "eeg"), [Tick(capacity - 1.0, "eeg"), Lost(n_over)])


def test_a_replay_is_held_back_by_a_full_backlog() -> None:
    """Nothing is lost: who puts waits until there is room."""
    backlog = Backlog(2, blocking=True)
    ticks = [Tick(float(i), "eeg") for i in range(50)]

    def put_all() -> None:
        for tick in ticks:
            backlog.put(tick)
        backlog.close()

    thread = threading.Thread(target=put_all)
    thread.start()
    found: list[Any] = []
    while not backlog.ended:
        entries = backlog.get_all(WAIT_S)
        assert len(entries) <= 2
        found.extend(entries)
    thread.join(WAIT_S)
    assert found == ticks


def test_a_folder_that_is_there_is_never_written_into(tmp_path: Path) -> None:
    """Not even an empty one: two sessions of one name would mix."""
    made = make_recording_folder(tmp_path / "new", "abc")
    assert made.path.stat().st_mode & 0o077 == 0  # nobody else may look into it
    with pytest.raises(SettingsError, match="there already"):
        make_recording_folder(tmp_path / "new", "abc")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", ".hidden", "x" * 65, "ü"])
def test_a_session_name_that_leads_elsewhere_makes_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="session name"):
        make_recording_folder(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "rec").write_text("")
    with pytest.raises(SettingsError, match=r"no folder|Not a directory"):
        make_recording_folder(tmp_path / "rec", "abc")
