"""From recordings and their tables to a store of windows: the live path's bits, resumed, and accounted for."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_model.config import LABELS_VA4
from clmer_model.data.examples import make_examples
from clmer_model.data.prepare import PrepareConfig, prepare_arrays, prepare_sessions
from clmer_model.data.sessions import find_trials
from clmer_model.data.store import INDEX, open_store
from clmer_model.data.tables import EegReading, Recording, TrialRow
from clmer_server.cli import main
from clmer_streaming.config import SlotSeriesConfig, WindowConfig
from clmer_streaming.errors import DatasetError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate_cohort, write_dataset
from clmer_streaming.types import Marker
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import read_xdf
from clmer_streaming.xdf.writer import XdfWriter
from tests.streaming.sources.test_session_replay import session_file
from tests.support.model_windows import CONFIG
from tests.support.tiny_training import unwatched

PEOPLE = SimulationConfig(seed=3, preset="easy", trial_s=5.0, rest_s=2.0)
ALL = PrepareConfig(CONFIG, every=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two simulated people with two trials each."""
    folder = tmp_path_factory.mktemp("data")
    assert len(list(write_dataset(simulate_cohort(2, PEOPLE, n_trials=2), folder))) == 2
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """The same, to be altered."""
    return Path(shutil.copytree(made, tmp_path / "data"))


def test_the_store_has_the_very_windows_of_the_live_path(made: Path, tmp_path: Path) -> None:
    """Read back from XDF and disk, series, masks and labels are those of the items that a live session would push."""
    prepare_sessions(made, tmp_path / "store", ALL, unwatched)
    store = open_store(tmp_path / "store")
    for number, session in enumerate(simulate_cohort(2, PEOPLE, n_trials=2)):
        live = make_examples(session.items(64), CONFIG, LABELS_VA4, person=number)
        stored = store.examples.of_people([number])
        assert len(live) == len(stored) > 10
        for name in CONFIG.modalities:
            assert np.array_equal(live.series[name], stored.series[name])
            assert np.array_equal(live.mask[name], stored.mask[name])
        assert np.array_equal(live.label, stored.label)
    assert store.labels == LABELS_VA4
    assert store.people == ("S000", "S001")
    assert [store.stimuli[k].rpartition("-")[0] for k in store.stimulus] == [
        store.labels[k] for k in store.examples.label
    ]
    assert len(np.unique(store.examples.trial)) == len(store.trials) == 4
    assert store.trained_on == "simulated"
    assert isinstance(store.examples.series["eeg"], np.memmap)


def test_a_session_recorded_by_clmer_gives_the_same_windows(root: Path, tmp_path: Path) -> None:
    """Our own recordings replay in file order; marker words and stimuli are the same."""
    prepare_sessions(root, tmp_path / "foreign", ALL, unwatched)
    for session, path in zip(simulate_cohort(2, PEOPLE, n_trials=2), sorted(root.glob("*.xdf")), strict=True):
        session_file(path, list(session.items(64)))
    prepare_sessions(root, tmp_path / "own", ALL, unwatched)
    foreign, own = open_store(tmp_path / "foreign"), open_store(tmp_path / "own")
    assert foreign.key != own.key
    for name in CONFIG.modalities:
        assert np.array_equal(foreign.examples.series[name], own.examples.series[name])
    assert np.array_equal(foreign.examples.trial, own.examples.trial)


def test_two_people_of_one_recording_are_two_of_the_store(made: Path, tmp_path: Path) -> None:
    """One file with the EEG of both: the column eeg says whose is whose; without it the file is refused."""
    first, second = (read_xdf(made / f"S00{n}.xdf").streams for n in (0, 1))
    (eeg,) = (stream for stream in second if stream.type == "EEG")
    root = tmp_path / "data"
    root.mkdir()
    with XdfWriter(root / "both.xdf") as xdf:
        for stream in first:
            xdf.write_samples(xdf.add_stream_xml(stream.xml), stream.t, stream.strings or stream.x[:])
        spec = XdfStreamSpec("Second", "EEG", eeg.ch_names, eeg.sfreq, units=eeg.units, source_id="second")
        xdf.write_samples(xdf.add_stream(spec), eeg.t, eeg.x[:])
    (name,) = (stream.name for stream in first if stream.type == "EEG")
    (root / "manifest.csv").write_text(f"file,participant,eeg\nboth.xdf,S000,{name}\nboth.xdf,S001,Second\n")
    trials = [line for line in (made / "trials.csv").read_text().splitlines() if "S001" not in line]
    (root / "trials.csv").write_text("\n".join(trials).replace("S000.xdf", "both.xdf"))
    prepare_sessions(root, tmp_path / "store", ALL, unwatched)
    prepare_sessions(made, tmp_path / "alone", ALL, unwatched)
    store, alone = open_store(tmp_path / "store"), open_store(tmp_path / "alone")
    assert store.people == ("S000", "S001")
    assert np.array_equal(store.examples.of_people([0]).series["eeg"], alone.examples.of_people([0]).series["eeg"])
    assert len(store.examples.of_people([1])) > 10
    (root / "manifest.csv").write_text("file,participant\nboth.xdf,S000\n")
    with pytest.raises(DatasetError, match=r"manifest\.csv, row 2") as caught:
        prepare_sessions(root, tmp_path / "unclear", ALL, unwatched)
    assert "--eeg Second; in manifest.csv such options are columns" in caught.value.mend
    by_option = dataclasses.replace(ALL, reading=EegReading("Second"))
    prepare_sessions(root, tmp_path / "option", by_option, unwatched)
    of_option, of_column = open_store(tmp_path / "option").examples, store.examples.of_people([1])
    assert np.array_equal(of_option.series["eeg"], of_column.series["eeg"])


def test_every_window_is_kept_or_left_out_for_a_reason(made: Path, tmp_path: Path) -> None:
    """The counts add up to all windows of the recordings."""
    index = prepare_sessions(made, tmp_path / "store", dataclasses.replace(ALL, every=4), unwatched)
    for told, session in zip(index["recordings"], simulate_cohort(2, PEOPLE, n_trials=2), strict=True):
        preprocessor = Preprocessor(CONFIG)
        n_windows = sum(len(preprocessor.push(item)) for item in session.items(64))
        assert told["windows"] + sum(told["left_out"].values()) == n_windows
        assert {"outside trials", "across the edge of a trial", "between those kept (--every)"} >= set(told["left_out"])
        assert told["left_out"]["between those kept (--every)"] > told["windows"]


def test_what_was_not_measured_is_left_out_with_its_reasons(root: Path, tmp_path: Path) -> None:
    """A trial that begins before the filters have settled, without a face: the reasons stand in the report."""
    session = next(simulate_cohort(1, PEOPLE, n_trials=2))
    items = [item for item in session.items(64) if getattr(item, "source", "") != session.face_info.source]
    session_file(root / "S000.xdf", items)
    t0 = session.t0
    rows = f"S000.xdf,{t0},{t0 + 8},LVLA\nS001.xdf,{t0},{t0 + 8},HVHA\n"
    (root / "trials.csv").write_text("file,t_start,t_end,label\n" + rows, encoding="utf-8")
    told = prepare_sessions(root, tmp_path / "store", ALL, unwatched)["recordings"]
    unmeasured = [reason for reason in told[0]["left_out"] if reason.startswith("nothing measured")]
    assert unmeasured == ["nothing measured: warming_up, face_missing"]
    assert told[1]["notes"]  # its clock began elsewhere
    assert "no window lies in" in told[1]["notes"][0]


def test_a_broken_off_run_goes_on_where_it_was(made: Path, tmp_path: Path) -> None:
    """The first recording, finished before the break, is taken over as it lies; the end is that of a run in one go."""

    def broken(recordings: Iterable[Recording], total: int) -> Iterator[Recording]:
        yield from itertools.islice(recordings, total - 1)
        raise KeyboardInterrupt

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    prepare_sessions(made, whole, ALL, unwatched)
    with pytest.raises(KeyboardInterrupt):
        prepare_sessions(made, resumed, ALL, broken)
    with pytest.raises(DatasetError, match="no finished one"):
        open_store(resumed)
    (part,) = (resumed / "parts").iterdir()
    marks = np.load(part / "t_end.npy")
    np.save(part / "t_end.npy", marks + 1000.0)  # to know it again
    prepare_sessions(made, resumed, ALL, unwatched)
    assert not (resumed / "parts").exists()
    expected, found = open_store(whole), open_store(resumed)
    for name in CONFIG.modalities:
        assert np.array_equal(expected.examples.series[name], found.examples.series[name])
    kept = np.load(next(resumed.glob("windows-*")) / "t_end.npy")
    assert np.array_equal(kept[: len(marks)], marks + 1000.0)


def test_only_what_has_changed_is_made_again(root: Path, tmp_path: Path) -> None:
    """The same settings: nothing is written. Another label: the windows stay. Another hop: all are other windows."""
    out = tmp_path / "store"
    read: list[str] = []

    def listed(recordings: Iterable[Recording], total: int) -> Iterator[Recording]:
        read.append(f"asked for {total}")
        return iter(recordings)

    first = prepare_sessions(root, out, ALL, listed)
    written = (out / INDEX).stat().st_mtime_ns
    assert prepare_sessions(root, out, ALL, listed) == first
    assert (out / INDEX).stat().st_mtime_ns == written
    assert read == ["asked for 2"]

    label = open_store(out).examples.label.copy()
    swaps = {"HVHA": "moved", "LVHA": "angry", "HVLA": "nervous", "LVLA": "calm"}
    lines = (root / "trials.csv").read_text(encoding="utf-8").splitlines()
    lines = [
        ",".join([*cells[:4], swaps.get(cells[4], cells[4]), *cells[5:]]) for cells in (ln.split(",") for ln in lines)
    ]
    (root / "trials.csv").write_text("\n".join(lines), encoding="utf-8")
    second = prepare_sessions(root, out, ALL, listed)
    assert second["key"] != first["key"]
    assert [told["part"] for told in second["recordings"]] == [told["part"] for told in first["recordings"]]
    store = open_store(out)
    names = [swaps[LABELS_VA4[k]] for k in label]
    assert [store.labels[k] for k in store.examples.label] == names
    assert len(list(out.glob("windows-*"))) == 1

    slower = PrepareConfig(dataclasses.replace(CONFIG, window=WindowConfig(hop_s=1.0)), every=1)
    third = prepare_sessions(root, out, slower, listed)
    assert not {told["part"] for told in third["recordings"]} & {told["part"] for told in second["recordings"]}


def marker(t: float, label: str) -> Marker:
    return Marker(t, "1", label)


def trial(row: int, **said: Any) -> TrialRow:
    return TrialRow(row, "a.xdf", str(row), "moved", "", **said)


def test_trials_are_found_by_markers_in_the_order_of_the_rows() -> None:
    """The second row with the same start is its second marker; a stop is the next one behind the start."""
    markers = [marker(5.0, "end"), marker(1.0, "go"), marker(11.0, "go"), marker(16.0, "end")]
    rows = [trial(2, start="go", stop="end"), trial(3, start="go", duration_s=3.0), trial(4, t_start=20.0, t_end=25.0)]
    found, missing = find_trials(rows, markers)
    assert [(span.t_start, span.t_end) for span in found.values()] == [(1.0, 5.0), (11.0, 14.0), (20.0, 25.0)]
    assert missing == ()


def test_a_trial_without_its_markers_is_told_and_the_others_stay() -> None:
    """The row and the word that was looked for."""
    markers = [marker(1.0, "go"), marker(5.0, "end"), marker(9.0, "go")]
    rows = [trial(2, start="go", stop="end"), trial(3, start="go", stop="end"), trial(4, start="go", duration_s=1.0)]
    found, missing = find_trials(rows, markers)
    assert list(found) == [0]
    assert [sentence.split(":")[0] for sentence in missing] == ["trials.csv, row 3", "trials.csv, row 4"]
    assert "no marker 'end'" in missing[0]
    assert "no marker 'go'" in missing[1]


def test_overlapping_trials_are_refused() -> None:
    """Both rows are named."""
    with pytest.raises(DatasetError, match="rows 2 and 3"):
        find_trials([trial(2, t_start=1.0, t_end=5.0), trial(3, t_start=4.0, t_end=8.0)], [])


def test_a_recording_that_cannot_be_read_is_told_with_its_row(root: Path, tmp_path: Path) -> None:
    """The fault is that of the reader; file and row are added."""
    (root / "S001.xdf").write_bytes(b"no XDF")
    with pytest.raises(DatasetError, match=r"S001\.xdf; manifest\.csv, row 3"):
        prepare_sessions(root, tmp_path / "store", ALL, unwatched)


def test_a_store_that_was_altered_is_refused(made: Path, tmp_path: Path) -> None:
    """A missing array, an index of something else, arrays of another length."""
    out = tmp_path / "store"
    prepare_sessions(made, out, ALL, unwatched)
    (folder,) = out.glob("windows-*")
    np.save(folder / "series_eeg.npy", np.zeros((3, 14, 256), np.float32))
    with pytest.raises(DatasetError, match="windows of eeg"):
        open_store(out)
    (folder / "series_eeg.npy").unlink()
    with pytest.raises(DatasetError, match="series_eeg"):
        open_store(out)
    (out / INDEX).write_text("[]", encoding="utf-8")
    with pytest.raises(DatasetError, match="the index of a store"):
        open_store(out)


def test_options_about_the_eeg_are_checked_as_those_of_the_service(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that cannot be is refused before anything is read; a data set of arrays has no streams."""
    words = ["prepare", "--out", str(tmp_path / "store"), "--dataset"]
    assert main([*words, "sessions", "--root", str(root), "--eeg-rate", "-1"]) == 2
    assert "eeg_rate: Input should be greater than 0" in capsys.readouterr().err
    assert main([*words, "arrays", "a.npz", "--eeg", "mine"]) == 2
    assert "--eeg" in capsys.readouterr().err
    assert main([*words, "sessions", "--root", str(root), "--eeg", "nobody"]) == 2
    assert "an EEG stream 'nobody'" in capsys.readouterr().err


def arrays(n: int = 6) -> dict[str, Any]:
    return {
        "eeg": np.arange(n * 14 * 256, dtype=np.float64).reshape(n, 14, 256),
        "landmarks": np.ones((n, 8, 68, 3)),
        "aus": np.ones((n, 8, 17, 2)),
        "label": ["angry", "moved"] * (n // 2),
        "person": [10, 10, 10, 11, 11, 11],
        "trial": [1, 1, 2, 1, 1, 2],
    }


def test_plain_arrays_become_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trials are told apart by person; NaN is masked and becomes 0."""
    given = arrays()
    given["eeg"][2, 5, 7] = np.nan
    np.savez(tmp_path / "lab.npz", **given)
    command = ["prepare", "--dataset", "arrays", str(tmp_path / "lab.npz"), "--out", str(tmp_path / "store")]
    assert main(command) == 0
    assert "6 windows, 2 people, 4 trials, no stimuli" in capsys.readouterr().out
    store = open_store(tmp_path / "store")
    assert store.trained_on == "lab"
    assert store.people == ("10", "11")
    assert store.examples.trial.tolist() == [0, 0, 1, 2, 2, 3]
    assert store.examples.label.tolist() == [0, 1] * 3
    assert not store.examples.mask["eeg"][2, 5]
    assert store.examples.mask["eeg"].sum() == 6 * 14 - 1
    assert not store.examples.series["eeg"][2, 5].any()
    assert store.examples.series["eeg"][1, 0, 0] == 14 * 256


def test_plain_arrays_hold_further_series(tmp_path: Path) -> None:
    """Signals are (windows, channels, times) at their rate, numbers on slots (windows, slots, channels)."""
    gsr = np.arange(6 * 64, dtype=np.float64).reshape(6, 1, 64)
    belts, tracker = np.zeros((6, 2, 100)), np.ones((6, 8, 3))
    tracker[4, 2, 1] = np.nan
    further: dict[str, Any] = {"gsr": gsr, "belts": belts, "channels_belts": ["chest", "belly"], "tracker": tracker}
    np.savez(tmp_path / "lab.npz", **arrays(), **further)
    command = ["prepare", "--dataset", "arrays", str(tmp_path / "lab.npz"), "--out", str(tmp_path / "store")]
    options = ["--physio", "gsr,belts", "--physio-rate", "belts=50", "--physio-band", "belts=0-5", "--slots", "tracker"]
    assert main([*command, *options]) == 0
    store = open_store(tmp_path / "store")
    assert store.preprocess.modalities == ("eeg", "landmarks", "aus", "gsr", "belts", "tracker")
    assert [(s.name, s.ch_names, s.sfreq, s.band) for s in store.preprocess.physio] == [
        ("gsr", ("GSR",), 32.0, (0.05, 3.0)),
        ("belts", ("chest", "belly"), 50.0, (0.0, 5.0)),
    ]
    assert store.preprocess.slot_series == (SlotSeriesConfig("tracker", ("TRACKER1", "TRACKER2", "TRACKER3")),)
    assert np.array_equal(store.examples.series["gsr"], gsr)
    assert np.flatnonzero(~store.examples.mask["tracker"].ravel()).tolist() == [4 * 8 + 2]


@pytest.mark.parametrize(
    ("further", "options", "expected"),
    [
        ({}, ["--physio", "gsr"], "an array 'gsr'"),
        ({"gsr": np.zeros((6, 1, 65))}, ["--physio", "gsr"], "gsr (6, 1, 64)"),
        ({"gsr": np.zeros((6, 64))}, ["--physio", "gsr"], "gsr (windows, channels, times)"),
        ({"hog": np.zeros((6, 9, 5))}, ["--slots", "hog"], "hog (6, 8, 5)"),
        ({"hog": np.zeros((6, 8, 2)), "channels_hog": ["a", "a"]}, ["--slots", "hog"], "2 different labels"),
        ({"hog": np.zeros((6, 8, 5))}, ["--slots", "hog=CLMER-HOG"], "the names of arrays"),
        ({"hog": np.zeros((6, 8, 5))}, ["--slots", "hog", "--physio", "HOG"], "a series in --physio or in --slots"),
        ({"aus2": np.zeros((6, 8, 5))}, ["--slots", "AUs"], "a name of its own"),
    ],
)
def test_further_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], further: dict[str, Any], options: list[str], expected: str
) -> None:
    """What was expected stands in one line, and no store is made."""
    np.savez(tmp_path / "lab.npz", **arrays(), **further)
    command = ["prepare", "--dataset", "arrays", str(tmp_path / "lab.npz"), "--out", str(tmp_path / "store")]
    assert main([*command, *options]) != 0
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": None}, "an array 'label'"),
        ({"aus": None}, "an array 'aus'"),
        ({"trial": [1, 2]}, "arrays of one length"),
        ({"eeg": np.zeros((6, 14, 128))}, "eeg (6, 14, 256)"),
        ({"mask_eeg": np.ones((6, 3))}, "mask_eeg (6, 14)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    """The array and its shape are named."""
    given = {name: values for name, values in {**arrays(), **change}.items() if values is not None}
    np.savez(tmp_path / "lab.npz", **given)
    with pytest.raises(DatasetError) as caught:
        prepare_arrays(tmp_path / "lab.npz", tmp_path / "store", CONFIG)
    assert expected in caught.value.expected


NOISE = np.random.default_rng(0).standard_normal((6, 14, 256)) * 10.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": ["angry"] * 6}, "two classes or more"),
        ({"label": [1.0, 2.0, np.nan, 1.0, 2.0, 1.0]}, "a label for each window"),
        ({"label": ["angry", "", "moved", "angry", "moved", "angry"]}, "a label for each window"),
        ({"label": [1.5, 2.5, 3.0, 4.5, 5.5, 6.0]}, "classes as labels"),
        ({"label": np.eye(2)[[0, 1, 0, 1, 0, 1]]}, "label (windows,)"),
        ({"eeg": np.full((6, 14, 256), np.nan)}, "eeg measured in some window"),
        ({"eeg": np.full((6, 14, 256), 7.0)}, "eeg that changes"),
        ({"eeg": NOISE * 1e6}, "eeg in microvolts"),
        ({"eeg": NOISE * 1e-6}, "eeg in microvolts"),
        ({"person": [1.0, 1.0, 1.0, np.nan, 2.0, 2.0]}, "a person for each window"),
    ],
)
def test_arrays_that_no_model_can_learn_from_are_refused(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    """One class, missing labels, ratings, columns of 0 and 1, and EEG that is none, is dead or in another unit."""
    np.savez(tmp_path / "lab.npz", **{**arrays(), "eeg": NOISE, **change})
    with pytest.raises(DatasetError) as caught:
        prepare_arrays(tmp_path / "lab.npz", tmp_path / "store", CONFIG)
    assert expected in caught.value.expected
    assert caught.value.mend


def test_one_person_in_another_unit_is_named(tmp_path: Path) -> None:
    """The EEG of person 11 is in volts, that of person 10 in microvolts."""
    eeg = NOISE.copy()
    eeg[3:] *= 1e-6
    np.savez(tmp_path / "lab.npz", **{**arrays(), "eeg": eeg})
    with pytest.raises(DatasetError) as caught:
        prepare_arrays(tmp_path / "lab.npz", tmp_path / "store", CONFIG)
    assert "person 11" in caught.value.found


def test_dead_channels_and_numbered_labels_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are kept, with a sentence each."""
    eeg = NOISE.copy()
    eeg[:, 3], eeg[:, 5] = np.nan, 2.0
    given = {**arrays(), "eeg": eeg, "label": [1, 2, 3, 1, 2, 3]}
    np.savez(tmp_path / "lab.npz", **given)
    command = ["prepare", "--dataset", "arrays", str(tmp_path / "lab.npz"), "--out", str(tmp_path / "store")]
    assert main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "eeg: never measured: FC5" in printed
    assert "eeg: constant in every window: P7" in printed
    assert "labels are the numbers 1, 2, 3, taken as 3 classes without an order" in printed


def test_arrays_of_any_number_of_channels_become_a_store(tmp_path: Path) -> None:
    """Without labels channels have numbers; with them they have their names; EEG alone is enough."""
    given = {name: values for name, values in arrays().items() if name in ("label", "person", "trial")}
    command = ["prepare", "--dataset", "arrays", "--modalities", "eeg", str(tmp_path / "lab.npz")]
    for n_channels, labels, expected in ((3, None, ("0", "1", "2")), (2, ["Fz", "Cz"], ("Fz", "Cz"))):
        further = {} if labels is None else {"channels_eeg": labels}
        np.savez(tmp_path / "lab.npz", **given, eeg=NOISE[:, :n_channels], **further)
        out = tmp_path / f"store{n_channels}"
        assert main([*command, "--out", str(out)]) == 0
        store = open_store(out)
        assert store.preprocess.signal.ch_names == expected
        assert store.examples.series["eeg"].shape == (6, n_channels, 256)
