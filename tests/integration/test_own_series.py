"""A laboratory's own data: four labels of its own, gaze, and numbers of its own tracker, from XDF to predictions."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import Checkpoint
from clmer_model.config import LABELS_VA4, modality_specs
from clmer_model.data.store import open_store, read_index
from clmer_model.export import export
from clmer_model.network.clmer import Clmer
from clmer_model.network.normalization import FeatureNormalizer
from clmer_model.predictor import Predictor
from clmer_model.training.train import fit_normalizers
from clmer_server.cli import main
from clmer_streaming.config import PreprocessConfig, SlotSeriesConfig
from clmer_streaming.face.hog import HOG_CH_NAMES
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import SimulatedSession, simulate_cohort, stream_specs, write_dataset
from clmer_streaming.types import FloatArray, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.face_pictures import swaying
from tests.support.lsl_outlet import headset
from tests.support.model_windows import SMALL, random_input
from tests.support.network_camera import network_camera
from tests.support.serving import serving

LABELS = {"LVLA": "moved", "LVHA": "angry", "HVLA": "nervous", "HVHA": "reproachful"}
STIMULI = {"moved": "picture_1", "angry": "clip", "nervous": "picture_2", "reproachful": "picture_3"}
TRACKER = XdfStreamSpec("My tracker", "Face", ("", ""), 0.0)
PEOPLE = SimulationConfig(seed=5, preset="easy", trial_s=5.0, rest_s=1.0)
N_PEOPLE = 5
SMALL_RUN = ("--width", "8", "--epochs", "1", "--pretrain-epochs", "1")


def tracked(session: SimulatedSession) -> tuple[FloatArray, FloatArray]:
    """Return stamps (n,) at 10 Hz, and two channels (2, n): 10 times the number of the trial's label, and seconds."""
    t = np.arange(session.eeg_t[0], session.eeg_t[-1], 0.1)
    names = list(LABELS)
    level = np.full(t.size, np.nan)  # between the trials it sees nothing
    marks = [marker.t for marker in session.markers]
    for trial, begin, end in zip(session.truth.trials, marks[::2], marks[1::2], strict=True):
        level[(t >= begin) & (t < end)] = 10.0 * names.index(trial.label)
    return t, np.stack([level, t - t[0]])


def record(session: SimulatedSession, path: Path) -> None:
    """Write a simulated session with a tracker beside it."""
    with XdfWriter(path) as xdf:
        ids = [xdf.add_stream(spec) for spec in (*stream_specs(session), TRACKER)]
        xdf.write_samples(ids[0], session.eeg_t, session.eeg_x)
        xdf.write_samples(ids[1], session.face.t, session.face.rows.T)
        said = np.asarray([marker.label for marker in session.markers], dtype=object)
        xdf.write_samples(ids[2], np.asarray([marker.t for marker in session.markers]), said)
        xdf.write_samples(ids[3], *tracked(session))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of five people with a tracker; four labels, each evoked by one stimulus."""
    folder = tmp_path_factory.mktemp("lab")
    sessions = list(simulate_cohort(N_PEOPLE, PEOPLE, n_trials=4))
    for session, path in zip(sessions, write_dataset(iter(sessions), folder), strict=True):
        record(session, path)
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    own = [[*row[:4], LABELS[row[4]], STIMULI[LABELS[row[4]]]] for row in rows]
    with (folder / "trials.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *own])
    return folder


def prepare(lab: Path, out: Path, *options: str) -> None:
    assert main(["prepare", "--dataset", "sessions", "--root", str(lab), "--out", str(out), *options]) == 0


def test_own_labels_with_gaze_become_windows_and_an_honest_report(store: Path, tmp_path: Path) -> None:
    """EEG, landmarks, action units and gaze; the split that one stimulus for each label makes meaningless says so."""
    opened = open_store(store)
    assert set(opened.labels) == set(LABELS.values())
    assert set(opened.stimuli) == set(STIMULI.values())
    gaze, seen = opened.examples.series["gaze"], opened.examples.mask["gaze"]
    assert gaze.shape[1:] == (8, 2)
    assert seen.mean() > 0.8
    assert 0.0 < np.abs(gaze[seen]).max() < np.pi / 2

    report = tmp_path / "report"
    assert main(["evaluate", str(store), "--out", str(report), "--preset", "baselines"]) == 0
    splits = json.loads((report / "report.json").read_text(encoding="utf-8"))["splits"]
    assert splits["stimuli"]["reason"] == "not computable: the label is the stimulus"
    assert splits["people"]["reason"] == ""


@pytest.fixture(scope="module")
def store(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of all of it, the tracker's numbers on slots."""
    out = tmp_path_factory.mktemp("store") / "windows"
    prepare(lab, out, "--modalities", "eeg,landmarks,aus,gaze", "--slots", "mood=my tracker")
    return out


def test_numbers_of_a_tracker_lie_on_the_slots_of_a_data_set(store: Path) -> None:
    """Unlabelled, without a rate, by the name of its stream: each slot has the level of its trial."""
    opened = open_store(store)
    assert opened.preprocess.modalities == ("eeg", "landmarks", "aus", "gaze", "mood")
    assert opened.preprocess.slot_series == (SlotSeriesConfig("mood", ("MOOD1", "MOOD2")),)
    level, mask = opened.examples.series["mood"], opened.examples.mask["mood"]
    assert mask.mean() > 0.95
    number = np.array([list(LABELS.values()).index(opened.labels[k]) for k in opened.examples.label])
    assert np.array_equal(level[..., 0][mask], (10.0 * number[:, np.newaxis] * np.ones(8))[mask])
    index = read_index(store)
    assert index is not None
    assert index["physio"] == {"mood": "my tracker"}


def check_answers(model: Path, lab: Path) -> None:
    """Have a model answer for the first recording, with the tracker and without it."""
    specs = find_artifact(str(model)).meta.modalities
    assert [spec.name for spec in specs] == ["eeg", "landmarks", "aus", "gaze", "mood"]
    assert (specs[-1].shape, specs[-1].kind) == ((8, 2), "slots")
    said = model.with_suffix(".jsonl")
    for options, share in ((("--physio", "mood=My tracker"), 0.6), ((), 0.0)):
        assert main(["predict", str(lab / "S000.xdf"), "--model", str(model), "--out", str(said), *options]) == 0
        lines = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()]
        valid = [line for line in lines if line["valid"]]
        assert len(valid) > 0.8 * len(lines)
        assert {frozenset(line["probs"]) for line in valid} == {frozenset(LABELS.values())}
        used = [line for line in valid if line["modalities"]["series"]["mood"]["used"]]
        assert bool(used) == bool(options)
        assert len(used) >= share * len(lines)


def test_a_model_of_own_series_answers_for_a_recording(lab: Path, store: Path, tmp_path: Path) -> None:
    """Exported as it is made, before it has learnt anything; without the tracker's stream it answers from the rest."""
    opened = open_store(store)
    model = Clmer(modality_specs(opened.preprocess), len(opened.labels), SMALL).eval()
    checkpoint = Checkpoint(model, opened.labels, opened.preprocess, SMALL, "simulated", {"people": 0}, {"none": {}})
    export(checkpoint, tmp_path / "own.ts")
    check_answers(tmp_path / "own.ts", lab)


@pytest.mark.deep
def test_a_model_learns_from_own_series(lab: Path, store: Path, tmp_path: Path) -> None:
    """One epoch of each stage, export, and answers."""
    assert main(["train", "--store", str(store), "--out", str(tmp_path / "model"), *SMALL_RUN]) == 0
    assert main(["export", str(tmp_path / "model"), "--out", str(tmp_path / "own.ts")]) == 0
    check_answers(tmp_path / "own.ts", lab)


@contextlib.contextmanager
def live_tracker(name: str) -> Iterator[None]:
    """Send a number now and then, without a rate and without a label, until the context ends."""
    import pylsl

    outlet = pylsl.StreamOutlet(pylsl.StreamInfo(name, "Face", 1, 0.0, "float32", f"id-{name}"))
    stop = threading.Event()

    def send() -> None:
        for i in itertools.count():
            if stop.wait((0.1, 0.17, 0.23)[i % 3]):
                return
            outlet.push_sample([float(i)])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.deep
def test_hog_and_a_tracker_are_used_live_and_the_recording_verifies(tmp_path: Path) -> None:
    """HOG from the camera itself, the tracker over LSL; windows of both come out of the recording bit for bit."""
    config = PreprocessConfig(
        modalities=("eeg", "landmarks", "hog", "mood"),
        slot_series=(SlotSeriesConfig("hog", HOG_CH_NAMES), SlotSeriesConfig("mood", ("MOOD",))),
    )
    model = Clmer(modality_specs(config), len(LABELS_VA4), SMALL).eval()
    checkpoint = Checkpoint(model, LABELS_VA4, config, SMALL, "simulated", {"people": 0}, {"none": {}})
    export(checkpoint, tmp_path / "own.ts")
    with headset(), live_tracker("Mood-1"), network_camera(swaying(31)) as camera:
        options = ("--model", "own.ts", "--camera", camera.url, "--physio", "mood=Mood-1", "--record", "rec")
        with serving(tmp_path, *options) as service, service.connect() as client:
            messages = (json.loads(client.recv(timeout=60)) for _ in range(2000))
            series = (m["modalities"]["series"] for m in messages if m["type"] == "prediction" and m["valid"])
            used = (told for told in series if all(told[name]["used"] for name in ("hog", "mood")))
            whole = (told for told in used if told["hog"]["quality"] == 1.0 and told["mood"]["quality"] > 0.7)
            assert len(list(itertools.islice(whole, 4))) == 4
            service.end()
    (folder,) = (tmp_path / "rec").iterdir()
    assert main(["verify", str(folder), "--model", str(tmp_path / "own.ts")]) == 0


CONFIG = PreprocessConfig(
    modalities=("eeg", "landmarks", "hog"), slot_series=(SlotSeriesConfig("hog", ("a", "b", "c")),)
)


def small_model() -> Clmer:
    return Clmer(modality_specs(CONFIG), len(LABELS_VA4), SMALL).eval()


def test_a_series_on_slots_is_standardised_by_the_training_people() -> None:
    """Mean and SD of what was measured; a number that never changes is taken as it is; what is masked counts not."""
    x, mask = random_input(64, specs=modality_specs(CONFIG))
    x["hog"][:, :, 0] = 100.0 + 5.0 * x["hog"][:, :, 0]
    x["hog"][:, :, 2] = 0.1
    mask["hog"][::3, 4:] = False
    x["hog"][~mask["hog"]] = 1e9
    model = small_model()
    fit_normalizers(model, x, mask, None, seed=0)
    (door,) = (e.door for e in model.modality_encoders() if isinstance(e.door, FeatureNormalizer))
    seen = x["hog"][mask["hog"]].double()
    assert door.mean.tolist() == pytest.approx(seen.mean(0).tolist(), rel=1e-5)
    assert door.sd.tolist()[:2] == pytest.approx(seen.std(0).tolist()[:2], rel=1e-5)
    assert float(door.sd[2]) == 1.0
    out = door(x["hog"], mask["hog"])
    assert out.shape == (64, 4, 8)
    assert float(out[:, :3].abs().max()) <= door.clip
    assert np.array_equal(out[:, 3].bool(), mask["hog"])


@pytest.mark.parametrize("suffix", [".ts", pytest.param(".onnx", marks=pytest.mark.deep)])
def test_the_artifact_says_which_series_lie_on_slots(tmp_path: Path, suffix: str) -> None:
    """The kind stands in clmer.json where the name does not tell it; what is masked changes no answer."""
    model = small_model()
    checkpoint = Checkpoint(model, LABELS_VA4, CONFIG, SMALL, "simulated", {"people": 0}, {"none": {}})
    path = tmp_path / f"own{suffix}"
    export(checkpoint, path)
    artifact = find_artifact(str(path))
    plain = json.loads(artifact.meta.to_json())["modalities"]
    assert [entry.get("kind") for entry in plain] == [None, None, "slots"]
    assert artifact.meta.preprocess == CONFIG
    heard, other = window(CONFIG, 1.0), window(CONFIG, 9.0)
    masked = [dataclasses.replace(w, mask={**w.mask, "hog": np.zeros(8, np.bool_)}) for w in (heard, other)]
    answers = Predictor(artifact, "cpu").predict([heard, *masked])
    assert [answer.used for answer in answers] == [tuple(CONFIG.modalities), *[("eeg", "landmarks")] * 2]
    assert answers[1].probs == pytest.approx(answers[2].probs, abs=1e-6)
    assert answers[0].probs != pytest.approx(answers[1].probs, abs=1e-6)


def window(config: PreprocessConfig, level: float) -> Window:
    """Return a window in which everything is measured, its last series at a level."""
    rng = np.random.default_rng(0)
    specs = modality_specs(config)
    series = {spec.name: rng.standard_normal(spec.shape) for spec in specs}
    series[specs[-1].name] += level
    return Window(4, 0.0, 2.0, series, {spec.name: np.ones(spec.n_masked, np.bool_) for spec in specs})
