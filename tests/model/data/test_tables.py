"""The tables of a data set: what they may say, and what is told of a mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clmer_model.data.tables import LABELS_VA9, SCHEMES, EegReading, ordered_labels, read_tables
from clmer_streaming.errors import DatasetError

MANIFEST = "file,participant\na.xdf,P1\nb.xdf,P2\n"
TRIALS = "file,t_start,t_end,label,stimulus\na.xdf,1,13,moved,clip\na.xdf,20,32,angry,car\nb.xdf,5,17,moved,clip\n"


def dataset(folder: Path, manifest: str = MANIFEST, trials: str = TRIALS) -> Path:
    """Write both tables and two empty files to stand for the recordings."""
    for name in ("a.xdf", "b.xdf"):
        (folder / name).touch()
    (folder / "manifest.csv").write_text(manifest, encoding="utf-8")
    (folder / "trials.csv").write_text(trials, encoding="utf-8")
    return folder


def test_tables_are_read_with_their_row_numbers(tmp_path: Path) -> None:
    """Rows count as in a spreadsheet; trials without a name are numbered within their file."""
    tables = read_tables(dataset(tmp_path), None)
    assert [(r.row, r.name, r.participant, r.session) for r in tables.recordings] == [
        (2, "a.xdf", "P1", "1"),
        (3, "b.xdf", "P2", "1"),
    ]
    assert [(t.row, t.file, t.trial, t.label, t.stimulus) for t in tables.trials] == [
        (2, "a.xdf", "1", "moved", "clip"),
        (3, "a.xdf", "2", "angry", "car"),
        (4, "b.xdf", "1", "moved", "clip"),
    ]
    assert tables.unused == ()


def test_tables_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    """A byte order mark, semicolons, empty lines and columns of the lab's own; the last are told."""
    manifest = "\ufefffile;Participant;age\r\na.xdf; P1 ;33\r\n;;\r\nb.xdf;P2;\r\n"
    tables = read_tables(dataset(tmp_path, manifest), None)
    assert [(r.row, r.participant) for r in tables.recordings] == [(2, "P1"), (4, "P2")]
    assert tables.unused == ("manifest.csv: age",)


def test_what_the_manifest_leaves_empty_holds_for_all(tmp_path: Path) -> None:
    """A cell that says something goes before it, a no too."""
    manifest = "file,participant,eeg,eeg_map_force,eeg_rate\na.xdf,P1,,,\nb.xdf,P2,Right,no,250\n"
    given = EegReading("Left", "AF3=1", eeg_map_force=True, eeg_rate=125.0, eeg_unit="V")
    first, second = read_tables(dataset(tmp_path, manifest), None, given).recordings
    read = [(r.eeg, r.eeg_map, r.eeg_map_force, r.eeg_rate, r.eeg_unit) for r in (first, second)]
    assert read == [("Left", "AF3=1", True, 125.0, "V"), ("Right", "AF3=1", False, 250.0, "V")]


TWO = "file,participant,eeg\na.xdf,P1,Left\na.xdf,P2,Right\nb.xdf,P3,\n"


def test_two_people_of_one_recording_are_two_rows(tmp_path: Path) -> None:
    """Trials of the file are everybody's; ``participant`` says whose they are where they are one person's."""
    tables = read_tables(dataset(tmp_path, TWO), None)
    assert [(r.name, r.file, r.participant, r.eeg) for r in tables.recordings] == [
        ("a.xdf (Left)", "a.xdf", "P1", "Left"),
        ("a.xdf (Right)", "a.xdf", "P2", "Right"),
        ("b.xdf", "b.xdf", "P3", "auto"),
    ]
    assert [(t.file, t.trial, t.label) for t in tables.trials] == [
        ("a.xdf (Left)", "1", "moved"),
        ("a.xdf (Right)", "1", "moved"),
        ("a.xdf (Left)", "2", "angry"),
        ("a.xdf (Right)", "2", "angry"),
        ("b.xdf", "1", "moved"),
    ]
    trials = "file,participant,t_start,t_end,label\na.xdf,P2,1,13,moved\na.xdf,P1,1,13,angry\nb.xdf,,5,17,moved\n"
    tables = read_tables(dataset(tmp_path, TWO, trials), None)
    assert [(t.file, t.label) for t in tables.trials] == [
        ("a.xdf (Right)", "moved"),
        ("a.xdf (Left)", "angry"),
        ("b.xdf", "moved"),
    ]


@pytest.mark.parametrize(
    ("manifest", "trials", "expected"),
    [
        (TWO.replace("Right", "Left"), TRIALS, r"once for each EEG stream.*manifest\.csv, row 3"),
        (TWO, "file,participant,start,stop,label\na.xdf,P9,1,13,moved\n", r"a participant .*'P9' in .*csv, row 2"),
    ],
)
def test_whose_recording_it_is_has_to_be_clear(tmp_path: Path, manifest: str, trials: str, expected: str) -> None:
    """The same stream twice, and a participant that the manifest does not name for the file."""
    with pytest.raises(DatasetError, match=re.compile(expected, re.DOTALL)):
        read_tables(dataset(tmp_path, manifest, trials), None)


def test_ratings_become_labels(tmp_path: Path) -> None:
    """Valence 5 is low and 5.5 high of two levels; 3 is medium and 6 high of three."""
    trials = "file,start,duration,valence,arousal\na.xdf,go,12,5,5.5\nb.xdf,go,12,6,3\n"
    assert [t.label for t in read_tables(dataset(tmp_path, trials=trials), None).trials] == ["LVHA", "HVLA"]
    assert [t.label for t in read_tables(tmp_path, "va9").trials] == ["MVMA", "HVMA"]
    assert [t.label for t in read_tables(tmp_path, "v2").trials] == ["LV", "HV"]
    assert {SCHEMES["va9"](v, a) for v in (1.0, 3.0, 9.0) for a in (1.0, 3.0, 9.0)} == set(LABELS_VA9)


def test_classes_stand_in_the_order_of_the_model() -> None:
    """Quadrants by 2V + A, all four of them; labels of one's own by name."""
    assert ordered_labels(["HVHA", "LVHA"]) == ("LVLA", "LVHA", "HVLA", "HVHA")
    assert ordered_labels(["nervous", "angry", "moved"]) == ("angry", "moved", "nervous")


@pytest.mark.parametrize(
    ("manifest", "trials", "expected", "found"),
    [
        ("file\na.xdf\n", TRIALS, "a column participant", "manifest.csv, row 1"),
        ("file,participant\na.xdf,\n", TRIALS, "a value for participant", "manifest.csv, row 2"),
        (MANIFEST + "c.xdf,P3\n", TRIALS, "a file that is there", "manifest.csv, row 4"),
        (MANIFEST + "a.xdf,P3\n", TRIALS, "each file once", "manifest.csv, row 4"),
        ("file,participant,eeg_unit\na.xdf,P1,nV\n", TRIALS, "eeg_unit V, mV, uV", "manifest.csv, row 2"),
        (MANIFEST, TRIALS + "c.xdf,1,2,moved,clip\n", "a file that manifest.csv names", "trials.csv, row 5"),
        (MANIFEST, TRIALS + "b.xdf,30,42,,clip\n", "a value for label", "trials.csv, row 5"),
        (MANIFEST, TRIALS + "b.xdf,soon,42,moved,clip\n", "a number for t_start", "trials.csv, row 5"),
        (MANIFEST, TRIALS + "b.xdf,42,30,moved,clip\n", "ends behind its start", "trials.csv, row 5"),
        (MANIFEST, TRIALS + "b.xdf,,30,moved,clip\n", "t_start and t_end, or markers", "trials.csv, row 5"),
        (MANIFEST, "file,start,stop,valence,arousal\na.xdf,go,end,11,5\n", "valence of 1 to 9", "trials.csv, row 2"),
        (MANIFEST, "file,label\n", "trials", "trials.csv"),
    ],
)
def test_a_mistake_is_told_with_file_and_row(
    tmp_path: Path, manifest: str, trials: str, expected: str, found: str
) -> None:
    """What was expected, and where the mistake stands."""
    with pytest.raises(DatasetError) as caught:
        read_tables(dataset(tmp_path, manifest, trials), None)
    assert expected in caught.value.expected
    assert found in caught.value.found


def test_a_folder_without_tables_is_told(tmp_path: Path) -> None:
    """The table that is missing is named."""
    with pytest.raises(DatasetError, match=r"manifest\.csv"):
        read_tables(tmp_path, None)
