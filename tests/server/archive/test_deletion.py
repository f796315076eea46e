"""Claims about deletion: a session goes with all that was made from it, nothing else does, and what stays is named."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clmer_model.data.store import open_store, write_json
from clmer_model.training.optimizer import RESUME_NAME, ResumeFile, ResumeState
from clmer_model.training.splits import Split, split_to_dict
from clmer_server.archive.deletion import apply_retention, expired_sessions
from clmer_server.cli import main
from clmer_server.settings import NamedSession, ServeSettings
from clmer_streaming.recording.writer import SessionWriter
from tests.support.paths import RECORDING
from tests.support.recorded_sessions import UNIX_TIME, record
from tests.support.serving import serving

DAY_S = 86400.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings, and a laboratory's folder with what was made from them."""
    folder = tmp_path_factory.mktemp("deletion")
    recording = record(folder / "recordings", "abc", participant="P-01")
    (folder / "lab").mkdir()
    shutil.copy(RECORDING, folder / "lab" / "other.xdf")
    shutil.copy(recording, folder / "lab" / "P01.xdf")
    prepare(folder, "of-a-copy", "P01.xdf")
    prepare(folder, "of-another", "other.xdf")
    return folder


def prepare(folder: Path, name: str, file: str) -> None:
    """Make a store of the first trials of a file, with a split file and a report of scores beside it."""
    lab, store = folder / "lab", folder / "work" / name
    (lab / "manifest.csv").write_text(f"file,participant\n{file},P01\n")
    rows = "".join(f"{file},{start},{start + 5},{label}\n" for start, label in ((5529, "one"), (5535, "two")))
    (lab / "trials.csv").write_text(f"file,t_start,t_end,label\n{rows}")
    assert main(["prepare", "--dataset", "sessions", "--root", str(lab), "--out", str(store), "--every", "1"]) == 0
    opened = open_store(store)
    n = len(opened.examples)
    assert n > 10
    split = Split("random", 1, *(np.arange(n)[part::3] for part in range(3)))
    report = folder / "work" / f"report-{name}"
    write_json(report / "splits" / "random-1.json", split_to_dict(split, opened, 1))
    write_json(report / "report.json", {"store": opened.key})


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same, to be deleted from."""
    return Path(shutil.copytree(made, tmp_path / "all"))


def delete(folder: Path, *more: str) -> int:
    return main(["session", "delete", "abc", "--root", str(folder / "recordings"), *more])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_session_goes_with_stores_splits_and_copies_and_nothing_else_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)
    work = ("--work", str(folder / "work"), "--work", str(folder / "lab"))
    assert delete(folder, "--yes", *work) == 0
    said = capsys.readouterr().out
    gone = before - names(folder)
    assert {"recordings/abc", "recordings/abc/session.xdf", "lab/P01.xdf"} <= gone
    assert {"work/of-a-copy/index.json", "work/report-of-a-copy/splits/random-1.json"} <= gone
    assert any(name.startswith("work/of-a-copy/windows-") and name.endswith("series_eeg.npy") for name in gone)
    outside = {name for name in gone if not name.startswith(("recordings/abc", "work/of-a-copy/"))}
    assert outside == {"lab/P01.xdf", "work/report-of-a-copy/splits/random-1.json"}
    assert open_store(folder / "work" / "of-another").people == ("P01",)
    for name in ("recordings/abc", "lab/P01.xdf", "work/of-a-copy/index.json"):
        assert f"remove  {folder / name}" in said
    assert f"{folder / 'work' / 'report-of-a-copy' / 'report.json'}: scores" in said


def test_a_store_of_the_recording_itself_is_found_by_its_hash(folder: Path) -> None:
    """Named after anything, in a folder of its own; a part of a preparation that was broken off, too."""
    (index,) = (folder / "work" / "of-a-copy").glob("index.json")
    plain = json.loads(index.read_text())
    part = folder / "work" / "of-another" / "parts" / "0123"
    part.mkdir(parents=True)
    (part / "told.json").write_text(json.dumps({"windows": 1, "sha256": plain["recordings"][0]["sha256"]}))
    assert delete(folder, "--yes", "--work", str(folder / "work")) == 0
    assert not index.exists()
    assert not part.exists()
    assert (folder / "work" / "of-another" / "index.json").is_file()
    assert (folder / "lab" / "P01.xdf").is_file()  # not among the folders that were named


def test_without_folders_to_look_in_only_the_session_goes_and_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)
    assert delete(folder, "--yes") == 0
    assert all(name.startswith("recordings/abc") for name in before - names(folder))
    assert "not looked for" in capsys.readouterr().out


def test_what_stays_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exported tables, models that learnt from it, a training that was interrupted, rows of a manifest."""
    key = json.loads((folder / "work" / "of-a-copy" / "index.json").read_text())["key"]
    write_json(folder / "work" / "model" / "checkpoint.json", {"training": {"store": key}})
    for name, examples in (("unfinished", key), ("of-others", "another key")):
        (folder / "work" / name).mkdir()
        ResumeFile(folder / "work" / name, {}, examples).write(ResumeState("fit", {"w": torch.zeros(1)}), 0)
    (folder / "lab" / "manifest.csv").write_text("file,participant\nother.xdf,P01\nP01.xdf,P01\n")
    root = folder / "recordings"
    assert main(["session", "export", "abc", "--root", str(root), "--to", str(folder / "out")]) == 0
    assert delete(folder, "--yes", "--work", str(folder / "work"), "--work", str(folder / "lab")) == 0
    said = capsys.readouterr().out
    assert f"stays   {folder / 'out' / 'abc-windows.csv'}: exported as csv" in said
    assert f"stays   {folder / 'work' / 'model'}: a model that was trained on it" in said
    assert f"stays   {folder / 'work' / 'unfinished' / RESUME_NAME}: an interrupted training on it" in said
    assert "of-others" not in said
    assert f"{folder / 'lab' / 'manifest.csv'}, row 3: names it" in said
    assert "row 2" not in said
    assert (folder / "out" / "abc-windows.csv").is_file()


def calibrated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Work in a folder in which two participants have been calibrated; return the files of them."""
    monkeypatch.chdir(folder)
    kept = [folder / "participants" / f"{who}{end}.json" for who in ("P-01", "P-02") for end in ("", ".rest")]
    kept[0].parent.mkdir()
    for path in kept:
        path.write_text("{}")
    return kept


def test_the_calibration_of_a_participant_stays_and_all_of_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The neutral face and the EEG at rest; another session of theirs, too, and nothing of anybody else."""
    kept = calibrated(folder, monkeypatch)
    shutil.copytree(folder / "recordings" / "abc", folder / "recordings" / "later")
    assert delete(folder, "--yes") == 0
    said = capsys.readouterr().out
    for name in ("P-01.json", "P-01.rest.json"):
        assert f"stays   participants/{name}: calibration of P-01" in said
    assert f"stays   {folder / 'recordings' / 'later'}: another session of P-01" in said
    assert "P-02" not in said
    assert all(path.is_file() for path in kept)


def test_who_withdraws_can_have_the_calibration_deleted_as_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = calibrated(folder, monkeypatch)
    assert delete(folder, "--yes", "--with-calibration") == 0
    assert "remove  participants/P-01.rest.json" in capsys.readouterr().out
    assert [path.is_file() for path in kept] == [False, False, True, True]
    assert not (folder / "recordings" / "abc").exists()


def test_a_session_of_nobody_has_no_calibration_to_delete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "abc").mkdir()
    SessionWriter(tmp_path / "abc" / "session.xdf", {"clock": {"lsl_time": 1.0, "unix_time": UNIX_TIME}}).close()
    assert main(["session", "delete", "abc", "--yes", "--with-calibration", "--root", str(tmp_path)]) == 2
    assert "a session with a participant" in capsys.readouterr().err
    assert (tmp_path / "abc").is_dir()


def test_links_are_never_followed(folder: Path) -> None:
    """Neither out of the session nor out of a folder that is searched; the links themselves go with the session."""
    elsewhere = folder / "elsewhere"
    shutil.copytree(folder / "work" / "of-a-copy", elsewhere / "store")
    shutil.copy(folder / "lab" / "P01.xdf", elsewhere)
    (folder / "work" / "linked").symlink_to(elsewhere)
    (folder / "work" / "linked.xdf").symlink_to(elsewhere / "P01.xdf")
    (folder / "recordings" / "abc" / "linked").symlink_to(elsewhere)
    assert delete(folder, "--yes", "--work", str(folder / "work")) == 0
    assert {"P01.xdf", "store", "store/index.json"} <= names(elsewhere)
    assert (folder / "work" / "linked.xdf").is_symlink()
    assert not (folder / "recordings" / "abc").exists()


def test_an_index_that_names_a_folder_elsewhere_removes_nothing_there(folder: Path) -> None:
    """What is removed is what lies in the store, whatever its index says."""
    index = folder / "work" / "of-a-copy" / "index.json"
    plain = json.loads(index.read_text())
    index.write_text(json.dumps({**plain, "folder": "../of-another", "key": plain["key"]}))
    assert delete(folder, "--yes", "--work", str(folder / "work")) == 0
    assert open_store(folder / "work" / "of-another").people == ("P01",)


def test_files_that_are_something_else_are_left_alone(folder: Path) -> None:
    """Names as ours, contents as nobody expects them."""
    odd = folder / "work" / "odd"
    texts = ("{}", "[1]", "no JSON", '{"key": "k", "recordings": ["a", 1, null]}', '{"key": [], "recordings": {}}',
             '{"store": {}, "rows": 1, "training": 5}', "\udcff")  # fmt: skip
    ours = ("index.json", "told.json", "checkpoint.json", "manifest.csv", "other.json", "model.ts", RESUME_NAME)
    for number, text in enumerate(texts):
        for name in (*ours, "x.xdf"):
            path = odd / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, errors="surrogateescape")
    before = names(odd)
    assert delete(folder, "--yes", "--work", str(folder / "work")) == 0
    assert names(odd) == before


@pytest.mark.parametrize(("answer", "gone"), [("abc\n", True), ("yes\n", False), ("", False)])
def test_it_is_asked_first(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool) -> None:
    """Only the session's own name is a yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert delete(folder) == (0 if gone else 1)
    assert (folder / "recordings" / "abc").exists() is not gone


def test_a_session_that_is_being_recorded_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "abc").mkdir()
    writer = SessionWriter(tmp_path / "abc" / "session.xdf", {"clock": {"lsl_time": 1.0, "unix_time": UNIX_TIME}})
    writer.flush()
    assert main(["session", "delete", "abc", "--yes", "--root", str(tmp_path)]) == 2
    assert "being written" in capsys.readouterr().err
    writer.close()
    assert main(["session", "delete", "abc", "--yes", "--root", str(tmp_path)]) == 0
    assert not (tmp_path / "abc").exists()


def test_sessions_are_too_old_behind_the_days_of_the_settings(folder: Path) -> None:
    root = folder / "recordings"
    assert expired_sessions(root, 30, UNIX_TIME + 29.9 * DAY_S) == []
    assert [stored.name for stored in expired_sessions(root, 30, UNIX_TIME + 30.1 * DAY_S)] == ["abc"]
    assert expired_sessions(folder / "none", 30, time.time()) == []


def test_what_is_too_old_goes_only_where_the_settings_say_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its stores, and never a session that is to be played: by the command line, or by a table of several."""
    root, late = folder / "recordings", UNIX_TIME + 40 * DAY_S
    apply_retention(ServeSettings(record=root), late)
    apply_retention(ServeSettings(record=root, retention_days=41), late)
    apply_retention(ServeSettings(record=root, retention_days=30, replay=root / "abc" / "session.xdf"), late)
    assert (root / "abc" / "session.xdf").is_file()
    tables: list[dict[str, Any]] = [
        {"replay": root / "abc" / "session.xdf"},
        {"camera": str(root / "abc" / "face.avi")},
        {"replay": RECORDING, "video": root / "abc" / "face.avi"},
    ]
    for table in tables:
        settings = ServeSettings(record=root, retention_days=30, sessions=(NamedSession(name="one", **table),))
        apply_retention(settings, late)
        assert (root / "abc" / "session.xdf").is_file()
    apply_retention(ServeSettings(record=root, retention_days=30, work=(folder / "work",)), late)
    assert not (root / "abc").exists()
    assert not (folder / "work" / "of-a-copy" / "index.json").exists()
    assert "deleted    abc: older than 30 days" in capsys.readouterr().out


def test_what_goes_for_its_age_is_told_without_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts alone, since a service manager keeps what is printed: calibrations and copies bear the pseudonym."""
    calibrated(folder, monkeypatch)
    root, late = folder / "recordings", UNIX_TIME + 40 * DAY_S
    shutil.copytree(root / "abc", root / "later")
    apply_retention(ServeSettings(record=root, retention_days=30, work=(folder / "lab", folder / "none")), late)
    assert {path.name for path in root.iterdir()} == {"abc", "later"}  # no folder to look in
    warned = capsys.readouterr().err
    assert "abc is too old and cannot be deleted: clmer session delete abc says why" in warned
    apply_retention(ServeSettings(record=root, retention_days=30, work=(folder / "lab",)), late)
    told = capsys.readouterr().out
    assert "abc: older than 30 days; deleted with it, made from it: 1; left, exports and the like: " in told
    assert not any(name in warned + told for name in ("P-01", "P01"))


@pytest.mark.deep
def test_the_service_deletes_what_is_too_old_as_it_starts(folder: Path) -> None:
    """The new session is recorded beside."""
    root = folder / "recordings"
    options = ("--replay", RECORDING, "--speed", "max", "--record", root, "--device", "cpu", "--retention-days", "30")
    with serving(folder, *options) as service:
        service.end()
    assert not (root / "abc").exists()
    assert len(list(root.iterdir())) == 1
