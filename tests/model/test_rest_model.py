"""A model that wants EEG measured against rest: its file, a session that it answers, and the replay of that session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_model.export import export
from clmer_server.cli import main
from clmer_server.session.config import SessionConfig
from clmer_server.session.session import Session
from tests.support.calibration_run import HeldSource, eeg
from tests.support.model_windows import CONFIG, small_checkpoint
from tests.support.recorded import assert_same_answers, predicted, predictions_of
from tests.support.recorded_sessions import record_run

WAIT_S = 60.0


@dataclass(frozen=True)
class Recorded:
    """The model, and a session that it answered."""

    model: Path
    folder: Path

    @property
    def states(self) -> list[str | None]:
        """What the EEG of each recorded prediction was measured against."""
        return states_of(predictions_of(self.folder))


def states_of(predictions: list[dict[str, Any]]) -> list[str | None]:
    return [prediction["calibration"]["eeg"] for prediction in predictions]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Seventy seconds, in which the rest is measured in the first sixty."""
    root = tmp_path_factory.mktemp("wants-rest")
    wanted = replace(CONFIG, eeg_calibration="rest")
    export(replace(small_checkpoint(), preprocess=wanted), root / "tiny.ts")
    return Recorded(root / "tiny.ts", record(find_artifact(str(root / "tiny.ts")), root / "rec"))


def record(artifact: ArtifactFile, parent: Path) -> Path:
    """Record a session with a model, and return its folder."""
    source = HeldSource(eeg(70.0))

    def measure(session: Session) -> None:
        session.controls.calibrate("rest", 60.0)
        source.go.set()

    config = SessionConfig(name="abc", record=parent)
    return record_run(config, source, artifact=artifact, started=measure).parent


def test_the_file_says_that_it_wants_rest_and_the_session_gives_it(recorded: Recorded) -> None:
    """First nothing to measure against, which is a warning; behind the rest, the rest."""
    assert find_artifact(str(recorded.model)).meta.preprocess.eeg_calibration == "rest"
    states = recorded.states
    assert states == sorted(states, key=str)
    assert states.count("rest") >= 10
    warned = ["uncalibrated" in prediction["reasons"] for prediction in predictions_of(recorded.folder)]
    assert any(warned)
    assert not any(warned[states.index("rest") :])


def test_the_session_verifies_to_the_last_bit(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """Verification has no other knowledge of the rest than the recording."""
    assert main(["verify", str(recorded.folder), "--model", str(recorded.model)]) == 0
    n = len(recorded.states)
    assert f"{n} windows, {n} equal bit for bit; largest probability difference 0\n" in capsys.readouterr().out


def test_a_replay_gives_the_same_events(recorded: Recorded, tmp_path: Path) -> None:
    """Of every window, with what its EEG was measured against."""
    replayed = predicted(recorded.folder / "session.xdf", tmp_path, model=recorded.model)
    assert_same_answers(predictions_of(recorded.folder), replayed)
    assert states_of(replayed) == recorded.states
