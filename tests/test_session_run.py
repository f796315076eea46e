"""One run of a session: what it leaves where it cannot be opened, and where it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from clmer_server.delivery import Delivery
from clmer_server.events import EventContext
from clmer_server.inference import InferenceThread
from clmer_server.inputs import Inputs
from clmer_server.recording_plan import RecordingPlan, plan_recording
from clmer_server.session_run import PreparedRun, ServedModel, SessionRun
from clmer_server.settings import ServeSettings
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.sources.stream_claims import Claim
from session_parts import MODEL, ListSource, predict_certain

CONTEXT = EventContext("abc", MODEL, "replay")


def planned(parent: Path) -> RecordingPlan:
    """Return the plan of a recording below a folder; its own folder is there."""
    plan = plan_recording(ServeSettings(record=parent), CONTEXT, PreprocessConfig())
    assert plan is not None
    return plan


def opened(recording: RecordingPlan) -> SessionRun:
    """Open a run that is recorded."""
    prepared = PreparedRun(CONTEXT, Inputs("replay", (ListSource([]),)), recording, outlets=False, claim=Claim())
    model = ServedModel(MODEL, PreprocessConfig(), InferenceThread(predict_certain), {})
    return SessionRun(prepared, model, 0, Delivery(lambda message: None, lambda call: call()))


def test_a_run_that_cannot_be_recorded_leaves_no_folder(tmp_path: Path) -> None:
    """Something stands in the place of the file."""
    recording = planned(tmp_path)
    recording.folder.session.mkdir()
    with pytest.raises(RecordingError):
        opened(recording)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_opened_keeps_its_folder(tmp_path: Path) -> None:
    """With both files, also where nothing came."""
    run = opened(planned(tmp_path))
    run.stop(10.0)
    run.close(10.0)
    assert sorted(path.name for path in (tmp_path / "abc").iterdir()) == ["predictions.jsonl", "session.xdf"]
