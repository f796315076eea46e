"""Claims about ``clmer verify``: equal is said to be equal, and the first difference is named."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clmer_server.cli import main
from clmer_server.session.config import SessionConfig
from clmer_streaming.recording.reader import Entry, RecordedPrediction, SessionReader
from clmer_streaming.recording.records import Lost
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk
from tests.support.paths import RECORDING
from tests.support.recorded_sessions import record_run
from tests.support.session_parts import ListSource

N_ITEMS = 600  # of the example: some ten seconds
N = 20  # windows in them
WAIT_S = 30.0

Change = Callable[[Entry], Entry | None]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of the beginning of the example, recorded."""
    items = itertools.islice(ReplaySource(RECORDING).items(), N_ITEMS)
    config = SessionConfig(name="abc", record=tmp_path_factory.mktemp("verify"))
    return record_run(config, ListSource(list(items)))


def altered(recording: Path, path: Path, change: Change, header: dict[str, Any] | None = None) -> Path:
    """Write a recording once more, with changes; an entry for which ``change`` gives None is left out."""
    reader = SessionReader(recording)
    writer = SessionWriter(path, {**reader.header, **(header or {})})
    for entry in reader.entries():
        new = change(entry)
        if isinstance(new, RecordedPrediction):
            writer.write_prediction(json.loads(new.text)["t_end"], new.text)
        elif isinstance(new, Lost):
            writer.write_lost(new.n_items)
        elif new is not None:
            writer.write(new)
    writer.close()
    return path


def with_prediction(number: int, **fields: Any) -> Change:
    """Return a change of the prediction with this number."""

    def change(entry: Entry) -> Entry:
        if not isinstance(entry, RecordedPrediction):
            return entry
        prediction = json.loads(entry.text)
        return RecordedPrediction(json.dumps({**prediction, **fields})) if prediction["seq"] == number else entry

    return change


def test_a_recorded_replay_verifies(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every window was alone at the model then and is now: the numbers are the same bits."""
    assert main(["verify", str(recording)]) == 0
    expected = f"{recording}: {N} windows, {N} equal bit for bit; largest probability difference 0\n"
    assert capsys.readouterr().out == expected


def test_a_sample_that_changed_is_found(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One microvolt in one sample of one channel changes the window that holds it, and is named with its time."""
    chunks = 0

    def change(entry: Entry) -> Entry:
        nonlocal chunks
        if isinstance(entry, Chunk) and (chunks := chunks + 1) == 100:
            x = entry.x.copy()
            x[5, 0] += 1.0
            return Chunk(entry.source, entry.t, x)
        return entry

    path = altered(recording, tmp_path / "s.xdf", change)
    assert main(["verify", str(path)]) == 1
    said = capsys.readouterr().out
    assert f"{N} windows, {N} equal" not in said
    assert "differs: window ending at" in said
    assert "crc" in said


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"valid": False}, "valid: False recorded, True now"),
        ({"crc": 1}, "crc: 1 recorded"),
        ({"valence": 0.123}, "valence: 0.123 recorded"),
        ({"reasons": ["eeg_flat"]}, "reasons: ['eeg_flat'] recorded"),
        ({"seq": 7}, "seq: 7 recorded, 12 now"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_answer_that_changed_is_found_and_its_field_is_named(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], named: str
) -> None:
    path = altered(recording, tmp_path / "s.xdf", with_prediction(12, **fields))
    assert main(["verify", str(path)]) == 1
    assert named in capsys.readouterr().out


def test_numbers_of_shared_calls_may_differ_a_little(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below the limit it is said, and is no difference; above it is one."""
    texts = (e.text for e in SessionReader(recording).entries() if isinstance(e, RecordedPrediction))
    valence = json.loads(list(texts)[12])["valence"]
    near = altered(recording, tmp_path / "near.xdf", with_prediction(12, valence=valence + 5e-7, batch=2))
    far = altered(recording, tmp_path / "far.xdf", with_prediction(12, valence=valence + 5e-6, batch=2))
    assert main(["verify", str(near)]) == 0
    said = capsys.readouterr().out
    assert "largest probability difference 5e-07" in said
    assert "1 shared a call of the model" in said
    assert main(["verify", str(far)]) == 1


def test_a_hole_in_the_recording_is_no_success(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows before it are compared; behind it nothing can be said."""
    chunks = 0

    def change(entry: Entry) -> Entry:
        nonlocal chunks
        lost = isinstance(entry, Chunk) and (chunks := chunks + 1) == 100
        return Lost(1) if lost else entry

    path = altered(recording, tmp_path / "s.xdf", change)
    assert main(["verify", str(path)]) == 1
    said = capsys.readouterr().out
    assert "1 items are missing" in said
    assert 0 < int(said.split(": ")[1].split()[0]) < N


def test_a_session_of_another_model_is_refused(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless its file is named; a file with another hash is not taken for it."""
    model = {**SessionReader(recording).header["model"], "sha256": "1" * 64}
    path = altered(recording, tmp_path / "s.xdf", lambda entry: entry, {"model": model})
    assert main(["verify", str(path)]) == 2
    assert f"SHA-256 {'1' * 64}" in capsys.readouterr().err
    assert main(["verify", str(path), "--model", "clmer-va4"]) == 2
    assert "the model that answered" in capsys.readouterr().err


def test_a_folder_is_verified_with_all_its_sessions(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that differs does not hide the others."""
    for name, change in (("a", with_prediction(3, crc=0)), ("b", with_prediction(-1))):
        (tmp_path / name).mkdir()
        altered(recording, tmp_path / name / "session.xdf", change)
    assert main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"{N - 1} equal" in said
    assert f"{N} equal" in said


def test_a_file_of_another_program_is_not_verified(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It holds no answers to compare with."""
    assert main(["verify", str(RECORDING)]) == 2
    assert "a session that clmer recorded" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 2
