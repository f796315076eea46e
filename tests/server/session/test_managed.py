"""Runs of a session: what one leaves where it cannot be opened, and where it can."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clmer_server.protocol.codes import RefusalError
from clmer_server.session.config import SessionConfig
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, ServedModel
from clmer_server.session.inputs import Inputs
from clmer_server.session.managed import ManagedSession, PreparedRun, SessionRun, SharedParts
from clmer_server.session.recorder import PREDICTIONS_FILE, Recorder, RecordingPlan, plan_recording
from clmer_server.session.sink import EventSink
from clmer_server.settings import ServeSettings, StartRequest
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.lsl.resolve import StreamClaims
from tests.support.session_parts import MODEL, ListSource, predict_certain

WAIT_S = 20.0
CONTEXT = EventContext("abc", MODEL, "replay")
SERVED = ServedModel(MODEL, PreprocessConfig(), InferenceThread(predict_certain), {})


def planned(parent: Path) -> RecordingPlan:
    """Return the plan of a recording below a folder; its own folder is there."""
    plan = plan_recording(SessionConfig(record=parent), CONTEXT, PreprocessConfig())
    assert plan is not None
    return plan


def prepared(recording: RecordingPlan) -> PreparedRun:
    """Return a run that is recorded."""
    return PreparedRun(CONTEXT, Inputs("replay", (ListSource([]),)), recording)


def opened(recording: RecordingPlan) -> SessionRun:
    """Open a run that is recorded."""
    return SessionRun(prepared(recording), SERVED, 0, EventSink(lambda message: None))


def test_a_run_that_cannot_be_recorded_leaves_no_folder(tmp_path: Path) -> None:
    """Something stands in the place of the file."""
    recording = planned(tmp_path)
    recording.folder.session.mkdir()
    with pytest.raises(RecordingError):
        opened(recording)
    assert list(tmp_path.iterdir()) == []


def open_files(folder: Path) -> list[str]:
    """Return those of this process below a folder."""
    names = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [name for name in names if name.startswith(str(folder))]


def test_a_run_without_room_for_its_predictions_leaves_no_open_file(tmp_path: Path) -> None:
    """The other file was open already."""
    recording = planned(tmp_path)
    (recording.folder.path / PREDICTIONS_FILE).mkdir()
    with pytest.raises(RecordingError):
        opened(recording)
    assert open_files(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_threads_cannot_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(sink: EventSink) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(EventSink, "start", start)
    with pytest.raises(RuntimeError):
        opened(planned(tmp_path))
    assert open_files(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_opened_keeps_its_folder(tmp_path: Path) -> None:
    """With both files, also where nothing came."""
    run = opened(planned(tmp_path))
    run.session.stop(10.0)
    run.close(10.0)
    assert sorted(path.name for path in (tmp_path / "abc").iterdir()) == ["predictions.jsonl", "session.xdf"]


def test_who_closes_a_run_that_is_being_closed_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the process comes behind it, and a recorder may still write."""
    here, go = threading.Event(), threading.Event()
    close = Recorder.close

    def held(recorder: Recorder, timeout_s: float) -> None:
        here.set()
        assert go.wait(WAIT_S)
        close(recorder, timeout_s)

    monkeypatch.setattr(Recorder, "close", held)
    run = opened(planned(tmp_path))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run.close, WAIT_S)
        assert here.wait(WAIT_S)
        run.close(0.1)  # no longer than it may
        second = pool.submit(run.close, WAIT_S)
        assert not first.done()
        assert not second.done()
        go.set()
        second.result(WAIT_S)
        assert (tmp_path / "abc" / "session.xdf").read_bytes()
        assert first.exception(WAIT_S) is None


def test_a_start_that_still_prepares_when_the_service_ends_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, its folder is gone, and the end waits for that."""
    here, go = threading.Event(), threading.Event()

    def slow(session: ManagedSession, config: SessionConfig, first_seq: int | None) -> PreparedRun:
        run = prepared(planned(tmp_path))
        here.set()
        assert go.wait(WAIT_S)
        return run

    async def scene(workers: ThreadPoolExecutor) -> None:
        config = SessionConfig(name="abc", replay=Path("a.xdf"))
        session = ManagedSession(config, SharedParts(ServeSettings(), SERVED, StreamClaims(), workers))
        start = asyncio.create_task(session.start(StartRequest()))
        assert await asyncio.to_thread(here.wait, WAIT_S)
        end = asyncio.create_task(session.shut_down())
        await asyncio.sleep(0)  # it has begun
        go.set()
        await end
        assert session.run is None
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(RefusalError, match="the service ends"):
            await start

    monkeypatch.setattr(ManagedSession, "_prepare", slow)
    with ThreadPoolExecutor() as workers:
        asyncio.run(scene(workers))
