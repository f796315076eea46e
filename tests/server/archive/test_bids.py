"""Claims about a session as a BIDS folder: read back by MNE, it is what was recorded, and says where it is not."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bids_validator import BIDSValidator

from clmer_server.archive.bids.eeg import edf_content, regular_signals
from clmer_server.cli import main
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.face.layout import FACE_CH_NAMES, face_to_row
from clmer_streaming.recording.reader import SessionReader, read_contents
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.types import Chunk, FaceFlag, FaceSample, Gap, Item, Marker, StreamInfo
from tests.support.recorded_sessions import CLIP, ECG, GAP, SECONDS, record

STEM = "sub-P01/ses-abc/eeg/sub-P01_ses-abc_task-emotion"
CAMERA = StreamInfo("face", "face", "CLMER-Face", FACE_CH_NAMES, 30.0)
HEADSET = StreamInfo("eeg", "eeg", "Headset", ("Fz", "Cz"), 100.0, unit="uV")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded session with a gap of two seconds, an ECG and markers."""
    return record(tmp_path_factory.mktemp("bids") / "recordings", "abc", participant="P-01")


@pytest.fixture(scope="module")
def dataset(recorded: Path) -> Path:
    """Its BIDS folder."""
    root, out = recorded.parents[1], recorded.parents[2] / "bids"
    assert main(["session", "export", "abc", "--root", str(root), "--to", str(out), "--format", "bids"]) == 0
    return out


def read_tsv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def read_edf(path: Path) -> Any:
    import mne

    return mne.io.read_raw_edf(path, preload=True, verbose="ERROR")


def test_every_file_has_a_name_of_bids(dataset: Path) -> None:
    names = [path.relative_to(dataset).as_posix() for path in dataset.rglob("*") if path.is_file()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [name for name in names if not BIDSValidator().is_bids(f"/{name}")] == []
    assert f"{STEM}_eeg.edf" in names
    assert json.loads((dataset / "dataset_description.json").read_text())["DatasetType"] == "raw"
    assert read_tsv(dataset / "participants.tsv") == [{"participant_id": "sub-P01", "pseudonym": "P-01"}]


def test_mne_reads_the_samples_that_were_recorded(recorded: Path, dataset: Path) -> None:
    """To within a step of the file; samples that the headset had lost are not among those compared."""
    raw = read_edf(dataset / f"{STEM}_eeg.edf")
    assert raw.ch_names == list(EPOC_CH_NAMES)
    assert raw.info["sfreq"] == 128.0
    chunks = [item for item in SessionReader(recorded).items() if isinstance(item, Chunk) and item.source == "eeg"]
    (info,) = [i for i in SessionReader(recorded).items() if isinstance(i, StreamInfo) and i.kind == "eeg"]
    x_uv, t0 = raw.get_data() * 1e6, chunks[0].t[0]
    rows = [info.ch_names.index(name) for name in EPOC_CH_NAMES]
    n_compared = 0
    for chunk in chunks:
        for t, column in zip(chunk.t.tolist(), chunk.x[rows].T, strict=True):
            step = np.ptp(x_uv, axis=1) / 65534
            n_compared += bool(np.all(np.abs(x_uv[:, round((t - t0) * 128)] - column) <= step))
    n_recorded = sum(chunk.t.size for chunk in chunks)
    assert n_compared >= 0.99 * n_recorded
    assert n_recorded == pytest.approx((SECONDS - (GAP[1] - GAP[0])) * 128, abs=32)


def test_a_gap_is_a_straight_line_and_is_said_in_both_files(dataset: Path) -> None:
    raw = read_edf(dataset / f"{STEM}_eeg.edf")
    (gap,) = [row for row in read_tsv(dataset / f"{STEM}_events.tsv") if row["trial_type"] == "gap"]
    assert float(gap["onset"]) == pytest.approx(GAP[0], abs=0.1)
    assert float(gap["duration"]) == pytest.approx(GAP[1] - GAP[0], abs=0.1)
    (said,) = [note for note in raw.annotations if note["description"] == "BAD_gap"]
    assert said["onset"] == pytest.approx(float(gap["onset"]), abs=1e-6)
    assert said["duration"] == pytest.approx(float(gap["duration"]), abs=1e-6)
    first, n = int(gap["sample"]), round(float(gap["duration"]) * 128)
    bridge = raw.get_data()[:, first - 1 : first + n + 1]
    step = np.ptp(raw.get_data(), axis=1)[:, np.newaxis] / 65534
    line = np.linspace(bridge[:, 0], bridge[:, -1], n + 2, axis=1)
    assert np.all(np.abs(bridge - line) <= 2 * step)


def test_markers_lie_at_the_sample_that_they_met(recorded: Path, dataset: Path) -> None:
    rows = [row for row in read_tsv(dataset / f"{STEM}_events.tsv") if row["trial_type"] == "marker"]
    marked = read_contents(recorded).markers
    assert [row["value"] for row in rows] == [marker.label for marker in marked]
    assert [float(row["lsl_time"]) for row in rows] == [marker.t for marker in marked]
    clip = next(row for row in rows if row["value"] == "clip/start")
    assert float(clip["onset"]) == pytest.approx(CLIP[0], abs=0.002)
    shown = {note["description"]: note["onset"] for note in read_edf(dataset / f"{STEM}_eeg.edf").annotations}
    assert shown["clip/start"] == pytest.approx(float(clip["onset"]), abs=1e-3)


def test_the_sidecars_say_what_is_known_and_nothing_else(dataset: Path) -> None:
    told = json.loads((dataset / f"{STEM}_eeg.json").read_text())
    assert (told["SamplingFrequency"], told["EEGReference"], told["SoftwareFilters"]) == (128.0, "n/a", "n/a")
    assert (told["EEGChannelCount"], told["RecordingType"]) == (14, "discontinuous")
    channels = read_tsv(dataset / f"{STEM}_channels.tsv")
    assert [row["name"] for row in channels] == list(EPOC_CH_NAMES)
    assert {(row["type"], row["units"], row["low_cutoff"]) for row in channels} == {("EEG", "uV", "n/a")}
    assert all(row["status"] == "good" for row in channels)


def test_a_physiological_stream_is_beside_it_on_the_same_time(dataset: Path) -> None:
    """The ECG is a ramp of sample numbers that begins half a second after the EEG."""
    told = json.loads((dataset / f"{STEM}_recording-ecg_physio.json").read_text())
    assert (told["SamplingFrequency"], told["Columns"], told["ECG"]["Units"]) == (64.0, ["ECG"], ECG.unit)
    assert told["StartTime"] == pytest.approx(0.5, abs=0.002)
    with gzip.open(dataset / f"{STEM}_recording-ecg_physio.tsv.gz", "rt") as file:
        values = [float(line) for line in file]
    assert values == [float(n) for n in range(len(values))]
    assert len(values) > 28 * 64


def test_numbers_at_odd_times_are_no_physiological_signal(tmp_path: Path) -> None:
    """A series on slots stays in the recording; one of a constant rate beside it is exported."""
    said = {"clock": {"lsl_time": 10.0, "unix_time": 1.7e9}, "preprocess": {"slot_series": [{"name": "Hog"}]}}
    (tmp_path / "recordings" / "abc").mkdir(parents=True)
    writer = SessionWriter(tmp_path / "recordings" / "abc" / "session.xdf", said)
    series = [
        dataclasses.replace(HEADSET, source=f"physio-{name}", kind="physio", type=name) for name in ("hog", "gsr")
    ]
    items: list[Item] = [HEADSET, *series, ramp(10.0, 0, 500)]
    items += [dataclasses.replace(ramp(10.0, 0, 500), source=info.source) for info in series]
    for item in items:
        writer.write(item)
    writer.close()
    options = ["--root", str(tmp_path / "recordings"), "--to", str(tmp_path / "bids"), "--format", "bids"]
    assert main(["session", "export", "abc", *options]) == 0
    (table,) = (tmp_path / "bids").rglob("*_physio.tsv.gz")
    assert "recording-gsr" in table.name
    assert "as HOG" in (tmp_path / "bids" / "README.md").read_text()


def faces(recorded: Path) -> list[FaceSample]:
    return [item for item in SessionReader(recorded).items() if isinstance(item, FaceSample)]


def read_track(folder: Path) -> tuple[list[str], list[list[str]]]:
    """Return the channels of a face in BIDS, and the rows of its frames."""
    stem = folder / "sub-P01" / "ses-abc" / "motion" / "sub-P01_ses-abc_task-emotion_tracksys-face"
    names = [row["name"] for row in read_tsv(Path(f"{stem}_channels.tsv"))]
    rows = [line.split("\t") for line in Path(f"{stem}_motion.tsv").read_text().splitlines()]
    assert {len(row) for row in rows} == {len(names)}
    return names, rows


def test_the_face_has_a_row_per_frame_at_its_own_time(recorded: Path, dataset: Path) -> None:
    """Every bit of it, and nothing between the frames."""
    names, rows = read_track(dataset)
    samples = faces(recorded)
    assert (names[:3], names[3:]) == (["LATENCY", "EEG_TIME", "LSL_TIME"], list(FACE_CH_NAMES[204:]))
    assert [float(row[2]) for row in rows] == [sample.t for sample in samples]
    latency = np.array([float(row[0]) for row in rows])
    assert latency == pytest.approx(np.array([sample.t - samples[0].t for sample in samples]), abs=1e-6)
    values = np.array([[math.nan if cell == "n/a" else float(cell) for cell in row[3:]] for row in rows], np.float32)
    assert np.array_equal(values, np.array([face_to_row(sample)[204:] for sample in samples]), equal_nan=True)


def test_a_frame_lies_in_the_eeg_where_its_stamp_lies(recorded: Path, dataset: Path) -> None:
    """As events do: by the stamps of the samples beside it."""
    _, rows = read_track(dataset)
    (signal,) = regular_signals(SessionReader(recorded).items(), "eeg", (2, 3))
    for row in rows[::100]:
        assert float(row[1]) == pytest.approx(signal.seconds_of(float(row[2])), abs=1e-6)


def test_the_sidecar_of_the_face_says_its_rate_and_its_channels(dataset: Path) -> None:
    names, rows = read_track(dataset)
    stem = dataset / "sub-P01" / "ses-abc" / "motion" / "sub-P01_ses-abc_task-emotion_tracksys-face"
    told = json.loads(Path(f"{stem}_motion.json").read_text())
    seconds = float(rows[-1][0])
    assert told["SamplingFrequencyEffective"] == pytest.approx((len(rows) - 1) / seconds, rel=1e-6)
    assert (told["SamplingFrequency"], told["TaskName"], told["MissingValues"]) == (30.0, "emotion", "n/a")
    kinds = [row["type"] for row in read_tsv(Path(f"{stem}_channels.tsv"))]
    assert [told[f"{kind}ChannelCount"] for kind in ("LATENCY", "MISC", "POS", "ORNT")] == [1, 41, 3, 3]
    assert (told["MotionChannelCount"], len(kinds)) == (len(names), len(names))
    frames = json.loads(Path(f"{stem}_channels.json").read_text())["reference_frame"]["Levels"]
    used = {row["reference_frame"] for row in read_tsv(Path(f"{stem}_channels.tsv"))}
    assert used - {"n/a"} <= frames.keys()
    scans = read_tsv(dataset / "sub-P01" / "ses-abc" / "sub-P01_ses-abc_scans.tsv")
    assert [row["filename"].partition("/")[0] for row in scans] == ["eeg", "motion"]


def test_the_points_of_a_face_are_exported_only_where_they_are_asked_for(recorded: Path, tmp_path: Path) -> None:
    """They can identify a person."""
    options = ["session", "export", "abc", "--root", str(recorded.parents[1]), "--to", str(tmp_path / "out")]
    assert main([*options, "--landmarks"]) == 2
    assert main([*options, "--landmarks", "--format", "bids"]) == 0
    names, rows = read_track(tmp_path / "out")
    assert names[3:] == list(FACE_CH_NAMES)
    sample = faces(recorded)[-1]
    assert [float(cell) for cell in rows[-1][3:207]] == pytest.approx(sample.landmarks.ravel().tolist(), rel=1e-6)


def test_predictions_are_a_derivative(recorded: Path, dataset: Path) -> None:
    path = dataset / "derivatives" / "clmer" / f"{STEM}_desc-clmer_predictions.tsv"
    rows, expected = read_tsv(path), read_contents(recorded).predictions
    assert [int(row["crc"]) for row in rows] == [p["crc"] for p in expected]
    assert {float(row["duration"]) for row in rows} == {2.0}
    onsets = [float(row["onset"]) for row in rows]
    assert onsets == sorted(onsets)


def test_a_session_is_not_written_over_and_a_foreign_folder_is_left_alone(
    recorded: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["session", "export", "abc", "--root", str(recorded.parents[1]), "--format", "bids", "--to"]
    assert main([*options, str(dataset)]) == 2
    assert "--replace" in capsys.readouterr().err
    (tmp_path / "thesis.doc").write_text("")
    assert main([*options, str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def ramp(t0: float, first: int, n: int) -> Chunk:
    """Return sample numbers at 100 Hz from ``t0`` on; the second channel has a hole."""
    x = np.arange(first, first + n, dtype=np.float64) * np.ones((2, 1))
    x[1, 5] = np.nan
    return Chunk("eeg", t0 + np.arange(n) / 100.0, x)


def nobody() -> FaceSample:
    """Return a frame in which nobody was seen."""
    lacking = np.full(68 * 3, np.nan)
    parts = lacking.reshape(68, 3), lacking[:34].reshape(17, 2), lacking[:2], lacking[:6]
    return FaceSample(0.0, *parts, 0.0, FaceFlag.MISSING)


def test_a_long_absence_begins_a_new_signal_and_a_short_one_stays_open() -> None:
    """Two seconds away: 200 samples are missing. A quarter of an hour: another signal."""
    items: list[Item] = [HEADSET, ramp(10.0, 0, 1000), ramp(22.0, 1000, 1000), ramp(1000.0, 2000, 1000)]
    first, second = regular_signals(items, "eeg")
    assert [(gap.first, gap.n) for gap in first.gaps] == [(1000, 200)]
    assert (first.t.size, second.t.size) == (2200, 1000)
    assert np.isnan(first.x[:, 1000:1200]).all()
    assert first.x[0, 1200] == 1000.0
    assert first.seconds_of(22.0) == pytest.approx(12.0, abs=1e-3)
    assert second.t0 == pytest.approx(1000.0, abs=1e-3)


def test_the_delay_of_a_device_is_taken_off_its_stamps() -> None:
    """As the signal path does; a marker then lies at the sample that it met."""
    late = dataclasses.replace(HEADSET, delay_s=0.25)
    (signal,) = regular_signals([late, ramp(10.25, 0, 1000)], "eeg")
    assert signal.t0 == pytest.approx(10.0, abs=1e-6)
    assert signal.seconds_of(12.0) == pytest.approx(2.0, abs=1e-3)


def test_a_restarted_stream_with_other_channels_is_another_signal() -> None:
    other = StreamInfo("eeg", "eeg", "Headset", ("Fz", "Pz"), 100.0, unit="uV")
    items: list[Item] = [HEADSET, ramp(10.0, 0, 500), Gap(15.0, 16.0, "eeg", "stream_restarted"), HEADSET]
    items += [ramp(16.0, 500, 500), other, ramp(21.0, 1000, 500)]
    one, another = regular_signals(items, "eeg")
    assert ([gap.reason for gap in one.gaps], one.info.ch_names) == (["stream_restarted"], ("Fz", "Cz"))
    assert another.info.ch_names == ("Fz", "Pz")


def test_what_a_channel_lacks_is_filled_and_counted() -> None:
    (signal,) = regular_signals([HEADSET, ramp(10.0, 0, 1050)], "eeg")
    content = edf_content(signal, {0: "Fz", 1: "Cz"})
    assert content.x_uv[1].tolist()[:1050] == list(range(1050))
    assert content.x_uv[0, 1050:].tolist() == [1049.0] * 50
    assert (content.n_padded, int(content.filled[0].sum()), int(content.filled[1].sum())) == (50, 50, 51)


def test_each_run_has_its_own_files_and_its_own_markers(tmp_path: Path) -> None:
    """A session without a pseudonym, whose headset was away for a quarter of an hour."""
    header = {"clock": {"lsl_time": 10.0, "unix_time": 1.7e9}, "source": "live", "model": {"labels": ["a"]}}
    (tmp_path / "recordings" / "s.1").mkdir(parents=True)
    writer = SessionWriter(tmp_path / "recordings" / "s.1" / "session.xdf", header)
    early, late = Marker(12.0, "1", "early\tone"), Marker(1001.0, "2", "late@@x")
    faces = [dataclasses.replace(nobody(), t=t) for t in (11.0, 1002.5, 1003.0)]
    items: list[Item] = [HEADSET, CAMERA, ramp(10.0, 0, 1000), early, faces[0], ramp(1000.0, 1000, 1000), late]
    for item in (*items, *faces[1:]):
        writer.write(item)
    writer.close()
    out = tmp_path / "out"
    options = ("--root", str(tmp_path / "recordings"), "--to", str(out), "--format", "bids", "--task", "rest")
    assert main(["session", "export", "s.1", *options]) == 0
    stem = out / "sub-anons1" / "ses-s1" / "eeg" / "sub-anons1_ses-s1_task-rest"
    for run, value, onset, annotation in ((1, "early one", 2.0, "early one"), (2, "late@@x", 1.0, "late@ @x")):
        (row,) = [r for r in read_tsv(Path(f"{stem}_run-{run}_events.tsv")) if r["trial_type"] == "marker"]
        assert row["value"] == value
        assert float(row["onset"]) == pytest.approx(onset, abs=1e-3)
        raw = read_edf(Path(f"{stem}_run-{run}_eeg.edf"))
        assert [note["description"] for note in raw.annotations] == [annotation]
        (path,) = out.glob(f"**/*_tracksys-face_run-{run}_motion.tsv")
        frames = [line.split("\t") for line in path.read_text().splitlines()]
        assert {cell for frame in frames for cell in frame[3:-3]} == {"n/a"}  # nobody was seen
        latency_s, eeg_s = ([0.0], [1.0]) if run == 1 else ([0.0, 0.5], [2.5, 3.0])
        assert [float(frame[0]) for frame in frames] == latency_s
        assert [float(frame[1]) for frame in frames] == pytest.approx(eeg_s, abs=1e-3)
        ramp_uv = raw.get_data()[0] * 1e6
        assert ramp_uv == pytest.approx(np.arange(1000.0) + 1000 * (run - 1), abs=1000 / 65534)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
        assert [name for name in names if not BIDSValidator().is_bids(f"/{name}")] == []


@pytest.mark.parametrize(("kind", "library"), [("bids", "edfio"), ("bids", "mne"), ("parquet", "pyarrow")])
def test_a_library_that_is_not_there_is_named_with_its_cure(
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    library: str,
) -> None:
    out = recorded.parents[2] / "lacking"
    monkeypatch.setitem(sys.modules, library, None)  # what an import then finds is what it finds without an install
    options = ("--root", str(recorded.parents[1]), "--to", str(out), "--format", kind)
    assert main(["session", "export", "abc", *options]) == 2
    assert f'".[{kind}]"' in capsys.readouterr().err
    assert not out.exists()
