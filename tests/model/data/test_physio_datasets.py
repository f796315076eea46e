"""Further series in data sets of sessions: from recordings with ECG and a belt to a service that uses them."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.data.prepare import SeriesRequest, declare_series
from clmer_model.data.store import open_store, read_index
from clmer_server.cli import main
from clmer_streaming.config import PhysioConfig, PreprocessConfig, physio_source
from clmer_streaming.errors import DatasetError, SettingsError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import SimulatedSession, simulate_cohort, stream_specs, write_dataset
from clmer_streaming.sources.session_replay import SessionReplaySource
from clmer_streaming.sources.transform import SeriesNames, TransformedSource
from clmer_streaming.types import Chunk, FloatArray, Item, StreamInfo, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.streaming.sources.test_session_replay import session_file
from tests.support.serving import serving
from tests.support.signals import EEG_INFO, cut, eeg_like, stamps

POLAR = XdfStreamSpec("Polar H10", "ECG", ("",), 250.0, units=("mV",))
BELT = XdfStreamSpec("Belt", "Respiration", ("chest", "belly"), 32.0, units=("a.u.", "a.u."))
PEOPLE = SimulationConfig(seed=3, preset="easy", trial_s=5.0, rest_s=2.0)
SERIES = "ecg=Polar H10,breath=respiration"


def of_session(session: SimulatedSession, spec: XdfStreamSpec) -> tuple[FloatArray, FloatArray]:
    """Return stamps (n,) and sines of 1 Hz and more (C, n) on an offset, as long as the session's EEG."""
    t = np.arange(session.eeg_t[0], session.eeg_t[-1], 1.0 / spec.sfreq)
    return t, np.stack([3.0 + np.sin(2 * np.pi * (k + 1) * (t - t[0])) for k in range(len(spec.ch_names))])


def record(session: SimulatedSession, path: Path, *further: XdfStreamSpec) -> None:
    """Write a simulated session with further streams beside it."""
    eeg, face, markers = stream_specs(session)
    with XdfWriter(path) as xdf:
        ids = [xdf.add_stream(spec) for spec in (eeg, face, markers, *further)]
        xdf.write_samples(ids[0], session.eeg_t, session.eeg_x)
        xdf.write_samples(ids[1], session.face.t, session.face.rows.T)
        said = np.asarray([marker.label for marker in session.markers], dtype=object)
        xdf.write_samples(ids[2], np.asarray([marker.t for marker in session.markers]), said)
        for stream_id, spec in zip(ids[3:], further, strict=True):
            xdf.write_samples(stream_id, *of_session(session, spec))


def dataset(folder: Path, n_people: int) -> Path:
    """Write a data set whose recordings hold ECG and a belt, the last one the belt alone."""
    sessions = list(simulate_cohort(n_people, PEOPLE, n_trials=4))
    paths = list(write_dataset(iter(sessions), folder))
    for session, path in zip(sessions, paths, strict=True):
        further = (BELT,) if path == paths[-1] else (POLAR, BELT)
        record(session, path, *further)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people."""
    return dataset(tmp_path_factory.mktemp("data"), 2)


def test_a_data_set_takes_series_by_the_names_of_their_streams(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rate and band are the usual ones; millivolts become microvolts; the person without ECG has its mask down."""
    out = tmp_path / "store"
    assert main(["prepare", "--dataset", "sessions", "--root", str(root), "--out", str(out), "--physio", SERIES]) == 0
    assert "S001.xdf: No stream 'Polar H10' for the series 'ecg'" in capsys.readouterr().out
    store = open_store(out)
    assert store.preprocess.modalities == ("eeg", "landmarks", "aus", "ecg", "breath")
    ecg, breath = store.preprocess.physio
    assert ecg == PhysioConfig("ecg", ("ECG",), 128.0, (0.5, 40.0), settle_s=1.0)
    assert (breath.ch_names, breath.sfreq, breath.band) == (("chest", "belly"), 32.0, (0.1, 2.0))
    first, last = (store.examples.of_people([person]) for person in (0, 1))
    assert first.series["ecg"].shape[1:] == (1, 256)
    assert first.series["breath"].shape[1:] == (2, 64)
    assert first.mask["ecg"].all()
    assert not last.mask["ecg"].any()
    assert last.mask["breath"][last.trial > last.trial.min()].all()  # the filter has settled by then
    assert float(np.abs(first.series["ecg"]).max()) == pytest.approx(1000.0, rel=0.1)
    index = read_index(out)
    assert index is not None
    assert index["physio"] == {"ecg": "Polar H10", "breath": "respiration"}


def test_another_stream_for_a_series_makes_the_windows_anew(root: Path, tmp_path: Path) -> None:
    """The key of the store holds which stream gave a series."""
    keys = set()
    for number, series in enumerate(("breath=Belt", "breath=respiration")):
        out = tmp_path / str(number)
        assert (
            main(["prepare", "--dataset", "sessions", "--root", str(root), "--out", str(out), "--physio", series]) == 0
        )
        keys.add(open_store(out).key)
    assert len(keys) == 2


def test_rates_and_bands_are_given_where_they_are_not_usual(root: Path) -> None:
    """A name that is not known needs a rate and is not filtered; a slow stream narrows the usual band."""
    recordings = [root / "S000.xdf"]
    (other,) = declare_series([SeriesRequest("effort", "belt", 64.0)], recordings)
    assert other == PhysioConfig("effort", ("chest", "belly"), 64.0)
    (narrow,) = declare_series([SeriesRequest("ecg", "belt", band=(1.0, 5.0))], recordings)
    assert isinstance(narrow, PhysioConfig)
    assert (narrow.band, narrow.settle_s) == ((1.0, 5.0), 0.5)
    (slow,) = declare_series([SeriesRequest("ecg", "belt")], recordings)
    assert isinstance(slow, PhysioConfig)
    assert slow.band is not None
    assert slow.band == pytest.approx((0.5, 12.8))
    with pytest.raises(SettingsError, match="--physio-rate effort=32"):
        SeriesRequest("effort", "belt")
    with pytest.raises(SettingsError, match="a name of its own"):
        SeriesRequest("EEG", "belt")
    with pytest.raises(DatasetError, match="clmer inspect"):
        declare_series([SeriesRequest("gsr", "Shimmer")], recordings)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--physio-rate", "ecg=128"], "series that --physio names"),
        (["--physio", "ecg=Polar", "--physio-rate", "ecg"], "--physio-rate SERIES=HZ"),
        (["--physio", "ecg=Polar", "--physio-rate", "ecg=fast"], "a number of Hz"),
        (["--physio", "ecg=Polar", "--physio-rate", "ecg=0"], "a rate above 0"),
        (["--physio", "ecg=Polar", "--physio-band", "ecg=40-1"], "a band that ends above"),
    ],
)
def test_options_that_say_nothing_are_refused(
    options: list[str], expected: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before anything is read."""
    out = tmp_path / "store"
    assert main(["prepare", "--dataset", "sessions", "--root", str(root), "--out", str(out), *options]) != 0
    assert expected in capsys.readouterr().err
    assert not out.exists()


def test_a_recorded_session_gives_a_series_that_its_model_did_not_know(tmp_path: Path) -> None:
    """The belt was recorded beside everything else; named, its windows are those of a series."""
    belt = StreamInfo("lsl:Belt", "other", "Belt", ("chest", "belly"), 32.0)
    known = dataclasses.replace(belt, source=physio_source("breath"), kind="physio")
    config = PreprocessConfig(physio=(PhysioConfig("breath", belt.ch_names, 32.0),), modalities=("eeg", "breath"))
    recorded = session_file(tmp_path / "s.xdf", list(_with_belt(belt)))
    heard: list[Item] = []
    recording = SessionReplaySource(recorded, speed=math.inf)
    TransformedSource(recording, SeriesNames({"breath": "belt"}).apply).run(heard.append, threading.Event())
    live, replayed = (_windows(items, config) for items in (list(_with_belt(known)), heard))
    assert live[-1].mask["breath"].all()
    assert [window.crc for window in live] == [window.crc for window in replayed]


def _with_belt(info: StreamInfo) -> Iterator[Item]:
    yield from (EEG_INFO, info)
    eeg = cut(stamps(128 * 6), eeg_like(128 * 6), (16,))
    n = np.arange(6 * 32, dtype=np.float64)
    belts = cut(stamps(6 * 32, 32.0), np.stack([n, 1000.0 + n]), (4,), info.source)
    chunks: list[Chunk] = [*eeg, *belts]
    yield from sorted(chunks, key=lambda chunk: float(chunk.t[-1]))


def _windows(items: list[Item], config: PreprocessConfig) -> list[Window]:
    stage = Preprocessor(config)
    return [window for item in items for window in stage.push(item)]


@pytest.mark.deep
def test_from_recordings_with_ecg_to_a_service_that_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prepare, train, export, predict and clmer-serve --physio; without the option the model answers without ECG."""
    monkeypatch.chdir(tmp_path)
    dataset(Path("lab"), 6)
    small = ["--width", "8", "--epochs", "1", "--pretrain-epochs", "1"]
    for command in (
        ["prepare", "--dataset", "sessions", "--root", "lab", "--out", "windows", "--physio", SERIES],
        ["train", "--store", "windows", "--out", "model", *small],
        ["export", "model", "--out", "lab.ts"],
        ["predict", "lab/S000.xdf", "--model", "lab.ts", "--physio", SERIES, "--out", "with.jsonl"],
        ["predict", "lab/S000.xdf", "--model", "lab.ts", "--out", "without.jsonl"],
    ):
        assert main(command) == 0, command
    meta = find_artifact("lab.ts").meta
    assert [spec.name for spec in meta.modalities] == ["eeg", "landmarks", "aus", "ecg", "breath"]
    assert meta.trained_on == "simulated"
    heard, unheard = (series_used(Path(f"{name}.jsonl")) for name in ("with", "without"))
    assert heard == {"ecg", "breath"}
    assert unheard == set()
    options = ("--model", "lab.ts", "--replay", "lab/S000.xdf", "--physio", SERIES, "--speed", "max")
    with serving(tmp_path, *options) as service, service.connect() as client:
        messages = (json.loads(client.recv(timeout=60)) for _ in range(1000))
        predictions = (message for message in messages if message["type"] == "prediction")
        next(prediction for prediction in predictions if prediction["modalities"]["series"]["ecg"]["used"])


def series_used(path: Path) -> set[str]:
    """Return the further series that any prediction used."""
    predictions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {name for p in predictions for name, series in p["modalities"]["series"].items() if series["used"]}
