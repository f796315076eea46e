"""Claims about recorded sessions on disk: told, put into tables, and never found where they are not."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from clmer_server.archive.sessions import (
    LISTING_FILE,
    SessionFacts,
    StoredSession,
    details_as_json,
    facts_as_json,
    find_sessions,
    listing_entry,
    open_session,
    print_table,
    session_facts,
)
from clmer_server.archive.tables import (
    TrialRule,
    TrialSpan,
    trial_table,
    trials_from_markers,
    trials_from_table,
    window_table,
)
from clmer_server.cli import main
from clmer_streaming.errors import ClmerError, DatasetError, SettingsError
from clmer_streaming.recording.reader import RecordedPrediction, RecordingContents, SessionReader, read_contents
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.types import Chunk, Marker
from tests.support.recorded_sessions import CLIP, UNIX_TIME, record

LABELS = ("LVLA", "LVHA", "HVLA", "HVHA")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one recorded session, ``abc``."""
    folder = tmp_path_factory.mktemp("stored") / "recordings"
    record(folder, "abc", participant="P-01")
    return folder


def predictions(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "abc" / "predictions.jsonl").read_text().splitlines()]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def told(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return what a verb prints as JSON."""
    assert main(["session", *words, "--json", "--root", str(root)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_contents_are_those_of_a_full_reading(root: Path) -> None:
    """Samples are passed over; words and first stamps are all there."""
    path = root / "abc" / "session.xdf"
    contents, entries = read_contents(path), list(SessionReader(path).entries())
    assert contents.predictions == [json.loads(e.text) for e in entries if isinstance(e, RecordedPrediction)]
    assert contents.predictions == predictions(root)
    assert contents.markers == [e for e in entries if isinstance(e, Marker)]
    assert contents.t0 == next(float(e.t[0]) for e in entries if isinstance(e, Chunk) and e.source == "eeg")
    assert contents.closed
    assert contents.n_lost == 0


def test_a_list_tells_each_session_in_a_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = told(root, capsys, "list")["sessions"]
    assert (one["name"], one["participant"], one["consent_ref"], one["source"]) == ("abc", "P-01", "C-7", "live")
    assert one["unix_start"] == UNIX_TIME
    assert one["windows"] == len(predictions(root))
    assert one["valid_share"] == sum(p["valid"] for p in predictions(root)) / len(predictions(root))
    assert one["streams"] == ["Polar H10", "EmotivDataStream-EEG", "CLMER-Face", "CLMER-Markers"]
    assert one["markers"] == 7
    assert (one["verified"], one["closed"]) == ("no", True)
    assert 28 < one["duration_s"] <= 30
    assert one["bytes"] == sum(path.stat().st_size for path in (root / "abc").iterdir())
    assert main(["session", "list", "--root", str(root)]) == 0
    assert "P-01" in capsys.readouterr().out


def test_show_tells_one_session_in_detail(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    details = told(root, capsys, "show", "abc")
    assert details["model"]["sha256"] == predictions(root)[0]["model"]["sha256"]
    assert details["marker_labels"]["clip/start"] == 1
    assert details["reasons"]["gap"] > 0
    assert main(["session", "show", "abc", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert "trained on simulated" in said
    assert "C-7" in said


def test_a_session_is_verified_until_its_file_changes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict holds for the bytes that were verified."""
    shutil.copytree(root / "abc", tmp_path / "abc")
    recording = tmp_path / "abc" / "session.xdf"
    assert main(["verify", str(recording)]) == 0
    assert session_facts(StoredSession(tmp_path / "abc")).verified == "yes"
    with recording.open("ab") as file:
        file.write(b"x")
    assert session_facts(StoredSession(tmp_path / "abc")).verified == "no"


def test_every_window_is_a_row_and_every_number_is_exact(root: Path, tmp_path: Path) -> None:
    assert main(["session", "export", "abc", "--root", str(root), "--to", str(tmp_path)]) == 0
    rows, expected = read_rows(tmp_path / "abc-windows.csv"), predictions(root)
    t0 = read_contents(root / "abc" / "session.xdf").t0
    assert [int(row["seq"]) for row in rows] == [p["seq"] for p in expected]
    for row, p in zip(rows, expected, strict=True):
        assert float(row["t_end"]) == p["t_end"]
        assert float(row["session_s"]) == p["t_end"] - t0
        assert float(row["unix_time"]) == pytest.approx(UNIX_TIME + p["t_end"] - t0, abs=1e-3)
        assert row["valid"] == str(p["valid"]).upper()
        assert row["reasons"].split() == p["reasons"]
        assert {name: float(row[f"p_{name}"]) for name in LABELS if row[f"p_{name}"]} == (p["probs"] or {})
        for name in ("valence", "arousal", "confidence", "entropy"):
            assert (float(row[name]) if row[name] else None) == p[name]
        assert row["eeg_used"] == str(p["modalities"]["eeg"]["used"]).upper()
        assert (row["artefact_sha256"], row["trained_on"]) == (p["model"]["sha256"], "simulated")
        assert (row["calibration_face"], int(row["crc"])) == (p["calibration"]["face"], p["crc"])
    assert any(not row["p_LVLA"] for row in rows)
    assert any(row["p_LVLA"] for row in rows)


def test_parquet_holds_what_csv_holds_with_types(root: Path, tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        assert main(["session", "export", "abc", "--root", str(root), "--to", str(tmp_path), "--format", kind]) == 0
    table = pyarrow.parquet.read_table(tmp_path / "abc-windows.parquet")
    rows = read_rows(tmp_path / "abc-windows.csv")
    assert table.column_names == list(rows[0])
    assert str(table.schema.field("valid").type) == "bool"
    assert str(table.schema.field("seq").type) == "int64"
    assert str(table.schema.field("p_LVLA").type) == "double"
    assert table["label"].to_pylist() == [row["label"] or None for row in rows]
    assert table["p_LVLA"].to_pylist() == [float(row["p_LVLA"]) if row["p_LVLA"] else None for row in rows]


def test_a_file_that_is_there_is_not_written_over(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "abc-windows.csv").write_text("mine")
    options = ["session", "export", "abc", "--root", str(root), "--to", str(tmp_path)]
    assert main(options) == 2
    assert "there already" in capsys.readouterr().err
    assert (tmp_path / "abc-windows.csv").read_text() == "mine"
    assert main([*options, "--replace"]) == 0
    assert (tmp_path / "abc-windows.csv").read_text() != "mine"


def test_trials_between_interval_markers_have_the_means_of_the_windows_within(root: Path, tmp_path: Path) -> None:
    """Computed once more from the file of predictions."""
    options = ["--root", str(root), "--to", str(tmp_path), "--format", "trials"]
    assert main(["session", "export", "abc", *options]) == 0
    (row,) = read_rows(tmp_path / "abc-trials.csv")
    t0 = read_contents(root / "abc" / "session.xdf").t0
    begin, end = t0 + CLIP[0], t0 + CLIP[1]
    inside = [p for p in predictions(root) if p["t_start"] >= begin and p["t_end"] <= end]
    values = [p["probs"]["HVLA"] for p in inside if p["valid"]]
    assert (row["name"], int(row["windows"]), len(inside) > 2) == ("clip", len(inside), True)
    assert float(row["p_HVLA_mean"]) == pytest.approx(np.mean(values), rel=1e-12)
    assert float(row["p_HVLA_sd"]) == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert (row["artefact_sha256"], row["trained_on"]) == (inside[0]["model"]["sha256"], "simulated")
    fallbacks = sum("modality_fallback" in p["reasons"] for p in inside)
    assert int(row["reason_modality_fallback"]) == fallbacks
    assert float(row["duration_s"]) == pytest.approx(4.0, abs=0.01)


def facts_of(root: Path, windows: list[tuple[float, float, float | None]]) -> SessionFacts:
    """Return a session of windows with start, end and P(LVLA), where that is None: not valid."""
    real = session_facts(open_session(root, "abc"))
    first = next(p for p in real.contents.predictions if p["valid"])
    answers = [
        {
            **first,
            "t_start": start,
            "t_end": end,
            "valid": p is not None,
            "probs": None if p is None else {"LVLA": p, "LVHA": 1 - p, "HVLA": 0.0, "HVHA": 0.0},
            "valence": None if p is None else 0.0,
            "reasons": ["gap"] if p is None else [],
        }
        for start, end, p in windows
    ]
    return SessionFacts(real.stored, RecordingContents(header=real.contents.header, predictions=answers), "no")


def test_a_window_counts_when_it_lies_wholly_inside_edges_included(root: Path) -> None:
    """0.2, 0.4 and 0.9: the mean is 0.5, the standard deviation the root of 0.13; 0.7 begins a moment too early."""
    inside = [(10.0, 12.0, 0.2), (12.0, 14.0, 0.4), (14.0, 16.0, None), (18.0, 20.0, 0.9)]
    facts = facts_of(root, [(9.999, 11.999, 0.7), *inside, (19.0, 21.0, 0.7)])
    spans = [TrialSpan("a", 10.0, 20.0, {"mood": "good"}), TrialSpan("none", 30.0, 40.0, {"mood": ""})]
    table = trial_table(facts, spans)
    first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (first["windows"], first["windows_valid"], first["valid_share"]) == (4, 3, 0.75)
    assert first["p_LVLA_mean"] == pytest.approx(0.5)
    assert first["p_LVLA_sd"] == pytest.approx(math.sqrt(0.13))
    assert (first["reason_gap"], first["reason_eeg_flat"], first["mood"]) == (1, 0, "good")
    assert (second["windows"], second["valid_share"], second["p_LVLA_mean"], second["p_LVLA_sd"]) == (
        0,
        None,
        None,
        None,
    )


def test_one_valid_window_has_a_mean_and_no_spread(root: Path) -> None:
    table = trial_table(facts_of(root, [(0.0, 2.0, 0.25)]), [TrialSpan("a", 0.0, 5.0)])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["p_LVLA_mean"], row["p_LVLA_sd"]) == (0.25, None)


def markers(*labels: str) -> list[Marker]:
    """Return markers at 1 s, 2 s, ..."""
    return [Marker(float(n), str(n), label) for n, label in enumerate(labels, start=1)]


@pytest.mark.parametrize(
    ("labels", "rule", "expected"),
    [
        (("a/start", "b/start", "a/end", "b/end"), TrialRule(), [("a", 1, 3), ("b", 2, 4)]),
        (("go 1", "x", "end", "go 2", "end"), TrialRule("go*", "end"), [("go 1", 1, 3), ("go 2", 4, 5)]),
        (("go 1", "x", "go 2"), TrialRule("go ?", trial_s=0.5), [("go 1", 1, 1.5), ("go 2", 3, 3.5)]),
        (("a/start", "a/start", "a/end"), TrialRule(), [("a", 2, 3)]),
    ],
)
def test_trials_are_found_by_the_rule(
    labels: tuple[str, ...], rule: TrialRule, expected: list[tuple[str, float, float]]
) -> None:
    spans, notes = trials_from_markers(markers(*labels), rule)
    assert [(span.name, span.t_start, span.t_end) for span in spans] == expected
    assert len(notes) == (1 if labels[:2] == ("a/start", "a/start") else 0)


def test_where_no_marker_begins_a_trial_those_that_are_there_are_named() -> None:
    with pytest.raises(SettingsError, match="'x', 'y'"):
        trials_from_markers(markers("x", "y", "x"), TrialRule())


def test_a_table_of_trials_counts_from_the_first_sample_and_keeps_its_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("trial,onset,duration,mood\none,1.5,2,good\n,4,1,bad\n")
    spans = trials_from_table(tmp_path / "t.csv", 100.0)
    assert spans == [TrialSpan("one", 101.5, 103.5, {"mood": "good"}), TrialSpan("2", 104.0, 105.0, {"mood": "bad"})]
    (tmp_path / "lsl.csv").write_text("t_start,duration\n101.5,2\n")
    assert trials_from_table(tmp_path / "lsl.csv", 100.0) == [TrialSpan("1", 101.5, 103.5)]


@pytest.mark.parametrize(
    "text", ["onset,duration\nx,1\n", "onset\n1\n", "onset,duration\n1,0\n", "", "onset,duration\n"]
)
def test_a_table_that_cannot_be_read_is_told_with_its_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"t\.csv"):
        trials_from_table(tmp_path / "t.csv", 0.0)


@pytest.mark.parametrize("name", ["", ".", "..", "...", "a/b", "../abc", "/etc", "a\0b", "abc\n", "x" * 65, "ü", "a b"])
@pytest.mark.parametrize("verb", ["show", "export", "delete"])
def test_a_name_that_leads_elsewhere_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    more = {"show": [], "export": ["--to", str(tmp_path / "out")], "delete": ["--yes"]}[verb]
    assert main(["session", verb, name, *more, "--root", str(root)]) == 2
    assert "session's name" in capsys.readouterr().err
    assert (root / "abc" / "session.xdf").is_file()
    assert not (tmp_path / "out").exists()


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    """Neither to a folder of a session nor to a recording."""
    (tmp_path / "linked").symlink_to(root / "abc")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "session.xdf").symlink_to(root / "abc" / "session.xdf")
    assert find_sessions(tmp_path) == []
    for name in ("linked", "half"):
        with pytest.raises(SettingsError, match="recorded session"):
            open_session(tmp_path, name)


def test_a_session_that_cannot_be_read_holds_up_no_list(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "abc", tmp_path / "abc")
    shutil.copytree(root / "abc", tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "session.xdf", 1500)
    assert main(["session", "list", "--json", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert [one["name"] for one in json.loads(said.out)["sessions"]] == ["abc"]
    assert "cut: cannot be read" in said.err


def test_a_list_tells_of_damaged_and_unfinished_sessions_what_a_full_reading_tells(root: Path, tmp_path: Path) -> None:
    """Each time that the file has become another one, and once more when it has not."""
    shutil.copytree(root / "abc", tmp_path / "abc")
    stored = StoredSession(tmp_path / "abc")
    content, half = stored.recording.read_bytes(), stored.recording.stat().st_size // 2
    told_of = []
    for changed in (
        content,
        content[:-1000],  # not closed
        content[:half],  # cut off
        content[:half] + bytes(400) + content[half + 400 :],  # damaged, of the same size
        content + b"x",
    ):
        stored.recording.write_bytes(changed)
        full = facts_as_json(session_facts(stored))
        for _ in range(2):
            assert listing_entry(stored) == {**full, "bytes": stored.n_bytes}
        told_of.append((full["closed"], full["windows"]))
    assert len(set(told_of)) >= 3


def test_a_recording_that_has_not_changed_is_not_read_again(root: Path, tmp_path: Path) -> None:
    """What is kept of it holds for its size and time alone; what is kept and damaged is found anew."""
    shutil.copytree(root / "abc", tmp_path / "abc")
    stored = StoredSession(tmp_path / "abc")
    first, stat = listing_entry(stored), stored.recording.stat()
    kept = stored.path / LISTING_FILE
    for text in ("", "[]", "{}", kept.read_text().replace('"windows"', '"winds"'), "\0", kept.read_text()[:-20]):
        kept.write_text(text)
        assert listing_entry(stored) == first
    stored.recording.write_bytes(bytes(stat.st_size))
    os.utime(stored.recording, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert listing_entry(stored) == first
    stored.recording.touch()
    with pytest.raises(ClmerError, match="XDF"):
        listing_entry(stored)


@pytest.fixture
def umask() -> Iterator[None]:
    """New files are for everybody to read, as on most machines."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_what_is_exported_is_for_its_owner_alone(root: Path, tmp_path: Path) -> None:
    """In a new folder; one that is there stays as it is."""
    options = ["session", "export", "abc", "--root", str(root), "--to"]
    (tmp_path / "shared").mkdir(mode=0o755)
    for to in (tmp_path / "new", tmp_path / "shared"):
        assert main([*options, str(to)]) == 0
        assert (to / "abc-windows.csv").stat().st_mode & 0o777 == 0o600
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "shared")] == [0o700, 0o755]
    (tmp_path / "other.txt").touch()
    assert (tmp_path / "other.txt").stat().st_mode & 0o077  # nothing else of the process is changed


def test_no_name_from_the_network_steers_the_terminal(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream may be called after a sequence that clears the screen; its letters are shown, the ESC is not."""
    line = facts_as_json(session_facts(open_session(root, "abc")))
    print_table([{**line, "streams": ["\x1b[2JEEG\x07"], "participant": "\x9b2J"}])
    table = capsys.readouterr().out
    assert "[2JEEG" in table
    assert all(letter.isprintable() for letter in table.replace("\n", ""))


def test_no_damage_breaks_a_list_or_a_table(root: Path, tmp_path: Path) -> None:
    """One byte changed within the words of a small recording, at three hundred places: read, or refused."""
    reader, path = SessionReader(root / "abc" / "session.xdf"), tmp_path / "bad" / "session.xdf"
    writer = SessionWriter(tmp_path / "small.xdf", {**reader.header, "settings": {"participant": "P-01"}})
    answers = [entry for entry in reader.entries() if isinstance(entry, RecordedPrediction)][20:23]
    for marker in read_contents(reader.path).markers:
        writer.write(marker)
    for answer in answers:
        writer.write_prediction(json.loads(answer.text)["t_end"], answer.text)
    writer.close()
    path.parent.mkdir()
    content, rng, n_read = (tmp_path / "small.xdf").read_bytes(), np.random.default_rng(0), 0
    for at in rng.integers(content.index(b'"record"'), len(content), 300).tolist():
        path.write_bytes(content[:at] + bytes([rng.integers(32, 127)]) + content[at + 1 :])
        with contextlib.suppress(ClmerError):
            facts = session_facts(StoredSession(path.parent))
            json.dumps([facts_as_json(facts), details_as_json(facts), listing_entry(facts.stored)])
            window_table(facts)
            trial_table(facts, [TrialSpan("a", 0.0, 1e5)])
            n_read += 1
    assert n_read > 200
