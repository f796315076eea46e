"""Four splits side by side: the table, the controls, and what is fitted on which side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.config import modality_specs
from clmer_model.data.examples import Examples
from clmer_model.data.store import WindowStore, open_store
from clmer_model.training.compare import (
    ROWS,
    NeighborEstimator,
    NetworkEstimator,
    compare,
    summary,
    without_muscle,
)
from clmer_model.training.config import TrainConfig, recipe
from clmer_model.training.evaluate import (
    CLASS_SCORES,
    PLAIN_SCORES,
    Floats,
    confusion,
    eq8_over_all,
    evaluate,
    trained_subsets,
)
from clmer_model.training.splits import PROTOCOLS, Split, SplitKind, draw_split
from clmer_server.cli import main
from clmer_server.commands.evaluate import SCORES
from clmer_streaming.config import PhysioConfig
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate_cohort, write_dataset
from tests.support.feature_store import small_store
from tests.support.model_windows import CONFIG, SMALL, small_model
from tests.support.tiny_training import small_examples, unwatched

NEIGHBOURS = NeighborEstimator(n_classes=2, preprocess=CONFIG)


def shuffles_of(store: WindowStore, n: int = 2) -> dict[SplitKind, list[Split]]:
    return {protocol: [draw_split(store, protocol, k, 1) for k in range(1, n + 1)] for protocol in PROTOCOLS}


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Knows the number of each window, and from it the label, in all but one of ten."""

    label: np.ndarray[tuple[int, ...], np.dtype[np.int64]]

    def fit_predict(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return 0.9 for the class that is answered."""
        rows = np.round(test.series["eeg"][:, 0, 0]).astype(int)
        answer = np.where(rows % 10 == 0, 1 - self.label[rows], self.label[rows])
        return {name: np.where(np.arange(2) == answer[:, None], 0.9, 0.1) for name in subsets}


def test_the_summary_equals_what_follows_from_the_answers() -> None:
    """Accuracy, baselines, confusion matrix and calibration of a classifier whose answers are known."""
    store = small_store()
    splits = shuffles_of(store)
    answers = compare(store, splits, Oracle(store.examples.label), unwatched)
    plain = summary(store, answers)
    for protocol, shuffles in splits.items():
        row = plain[protocol]["rows"]["all"]
        right = [float((split.test % 10 != 0).mean()) for split in shuffles]
        assert row["shuffles"]["accuracy"] == pytest.approx(right, abs=1e-4)
        assert row["mean"]["accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
        assert row["sd"]["accuracy"] == pytest.approx(np.std(right), abs=1e-4)
        assert row["shuffles"]["calibration_error"] == pytest.approx([abs(0.9 - r) for r in right], abs=1e-4)
        assert row["mean"]["prior"] == pytest.approx(0.5, abs=0.01)
        assert sum(map(sum, row["confusion"])) == sum(len(split.test) for split in shuffles)
        assert set(row["interval"]) == set(PLAIN_SCORES)
        low, high = row["interval"]["accuracy"]
        assert low <= row["mean"]["accuracy"] <= high
        for k, label in enumerate(store.labels):
            found, named = row["confusion"][k][k], sum(line[k] for line in row["confusion"])
            precision, recall = found / named, found / sum(row["confusion"][k])
            f1 = 2 * precision * recall / (precision + recall)
            told = {"precision": precision, "recall": recall, "f1": f1}
            assert row["classes"][label] == pytest.approx(told, abs=1e-4)
    first = answers["people"]["all"][0]
    matrix = confusion(first.truth, first.predicted, 2)
    assert plain["people"]["rows"]["all"]["shuffles"]["eq8_over_all"][0] == pytest.approx(
        eq8_over_all(matrix), abs=1e-4
    )


def test_random_windows_never_stand_alone() -> None:
    """Whatever was computed, all four splits are in the summary, each with its title and its reason."""
    store = small_store(n_people=2, stimuli_per_label=1)
    answers = compare(store, {"random": [draw_split(store, "random", 1, 1)]}, NEIGHBOURS, unwatched)
    plain = summary(store, answers)
    assert list(plain) == list(PROTOCOLS)
    assert plain["random"]["title"].endswith("leaks")
    assert {name: split["reason"] for name, split in plain.items()} == {
        "random": "",
        "trial": "not computable: a has 2 of 3 groups that are needed",
        "people": "not computable: 2 groups, 3 are needed",
        "stimuli": "not computable: the label is the stimulus",
    }


def test_one_person_alone_has_no_interval() -> None:
    """With four people one is in the test; nothing is known of how people differ."""
    store = small_store(n_people=4)
    answers = compare(store, {"people": [draw_split(store, "people", 1, 1)]}, NEIGHBOURS, unwatched)
    row = summary(store, answers)["people"]["rows"]["all"]
    assert row["n_people"] == 1
    assert row["interval"] == {}


def test_muscle_is_removed_and_what_is_slower_stays() -> None:
    """Sines of 10 and 30 Hz: one keeps 99 % of its size in the middle, the other less than 1 %."""
    store = small_store(n_people=1)
    t = np.arange(256) / 128.0
    wave = {hz: np.sin(2 * np.pi * hz * t).astype(np.float32) for hz in (10, 30)}
    n = len(store.examples)
    for hz, kept in ((10, 1.0), (30, 0.0)):
        series = {"eeg": np.broadcast_to(wave[hz], (n, 2, 256))}
        slow = without_muscle(dataclasses.replace(store.examples, series=series), sfreq=128.0).series["eeg"]
        assert np.abs(slow[:, :, 64:192]).max() == pytest.approx(kept, abs=0.01)


def test_a_masked_channel_stays_zero_without_muscle() -> None:
    """What was not measured is 0 at the model's door, before and behind the filter."""
    store = small_store(n_people=1)
    mask = store.examples.mask["eeg"].copy()
    mask[:, 1] = False
    slow = without_muscle(dataclasses.replace(store.examples, mask={"eeg": mask}), sfreq=128.0)
    assert not slow.series["eeg"][:, 1].any()


def test_neighbours_find_the_band_that_tells_the_classes_apart() -> None:
    """Class 1 has ten times the alpha power; what the neighbours are scaled by comes from the training side."""
    store = small_store()
    t = np.arange(64) / 128.0
    size = 10.0 ** store.examples.label[:, None, None]
    eeg = (store.examples.series["eeg"] * 0.1 + size * np.sin(2 * np.pi * 10 * t)).astype(np.float32)
    examples = dataclasses.replace(store.examples, series={"eeg": eeg})
    rows = draw_split(store, "people", 1, 1).by_set
    train, validation, test = (examples.take(part) for part in rows.values())
    probs = NEIGHBOURS.fit_predict(train, validation, test, {"all": ("eeg",)})["all"]
    assert (probs.argmax(1) == test.label).all()
    shouting = dataclasses.replace(validation, series={"eeg": 1e6 * validation.series["eeg"]})
    assert np.array_equal(probs, NEIGHBOURS.fit_predict(train, shouting, test, {"all": ("eeg",)})["all"])
    alone = test.take(np.arange(1))
    assert np.array_equal(probs[:1], NEIGHBOURS.fit_predict(train, validation, alone, {"all": ("eeg",)})["all"])


def test_every_signal_is_cut_into_bands_by_its_own_rate() -> None:
    """A sine of 1 Hz has its power at 1 Hz, at 64 samples a second, at 8, and whatever the rate of the EEG is."""
    rates = {"ecg": 64.0, "gsr": 8.0}
    series = tuple(PhysioConfig(name, ("X",), rate) for name, rate in rates.items())
    estimator = NeighborEstimator(2, dataclasses.replace(CONFIG, modalities=("eeg", *rates), physio=series))
    n, store = 3, small_store(n_people=1)
    times = {name: np.arange(round(2 * rate)) / rate for name, rate in rates.items()}
    waves = {name: np.tile(np.sin(2 * np.pi * t), (n, 1, 1)).astype(np.float32) for name, t in times.items()}
    whole = np.ones((n, 1), dtype=np.bool_)
    examples = dataclasses.replace(store.examples, series=waves, mask=dict.fromkeys(rates, whole))
    for name, n_bands in (("ecg", 7), ("gsr", 4)):  # up to 32 Hz, and up to 4 Hz
        features = estimator.features(examples, name)
        assert features.shape == (n, n_bands)
        assert (features.argmax(1) == 2).all()  # from 1 Hz to 2 Hz
        assert features[:, 2] == pytest.approx(np.log(rates[name] ** 2))


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five simulated people with eight short trials each."""
    folder = tmp_path_factory.mktemp("evaluate")
    config = SimulationConfig(seed=3, preset="easy", trial_s=5.0, rest_s=1.0)
    assert len(list(write_dataset(simulate_cohort(5, config, n_trials=12), folder / "data"))) == 5
    command = ["prepare", "--dataset", "sessions", "--root", str(folder / "data"), "--out", str(folder / "store")]
    assert main(command) == 0
    return folder / "store"


def test_the_network_learns_nothing_from_the_test_side(store_folder: Path) -> None:
    """Its answers for a test window are the same bits whatever else is tested, doors and temperature included."""
    store = open_store(store_folder)
    usual = TrainConfig(preprocess=store.preprocess, labels=store.labels, dims=SMALL)
    config = dataclasses.replace(
        usual,
        pretrain=dataclasses.replace(usual.pretrain, epochs=1, batch=16),
        fit=dataclasses.replace(usual.fit, epochs=1, batch=16),
    )
    estimator = NetworkEstimator(config, report=lambda line: None)
    train, validation, test = (store.examples.take(rows) for rows in draw_split(store, "people", 1, 1).by_set.values())
    subsets = {"all": tuple(store.examples.series), "eeg": ("eeg",)}
    whole = estimator.fit_predict(train, validation, test, subsets)
    changed = dataclasses.replace(test, label=(test.label + 1) % 4, series={k: v * 2 for k, v in test.series.items()})
    mixed = changed.take(np.arange(len(test)))
    mixed.series["eeg"][:1], mixed.series["aus"][:1] = test.series["eeg"][:1], test.series["aus"][:1]
    mixed.series["landmarks"][:1] = test.series["landmarks"][:1]
    other = estimator.fit_predict(train, validation, mixed, subsets)
    for name in subsets:
        assert np.allclose(whole[name].sum(1), 1.0)
        assert np.array_equal(whole[name][0], other[name][0])
        assert not np.allclose(whole[name][1:], other[name][1:])


def test_a_recipe_of_whole_windows_has_a_network_of_its_own_for_eeg_alone() -> None:
    """The paper's recipe takes no modality away: what its network makes of a masked face was never learnt.

    The network that answers for EEG alone saw no face: with other faces it is the same, bit for bit. A recipe that
    takes modalities away has one network for both.
    """
    paper = recipe("paper")
    tiny = dataclasses.replace(
        paper,
        dims=dataclasses.replace(paper.dims, conv_widths=(4, 8, 16), cross_layers=1, self_layers=1),
        pretrain=dataclasses.replace(paper.pretrain, epochs=1, batch=8),
        fit=dataclasses.replace(paper.fit, epochs=1, batch=8),
    )
    train = small_examples(16, modality_specs(paper.preprocess))
    moved = {name: values if name == "eeg" else values[::-1].copy() for name, values in train.series.items()}
    other = dataclasses.replace(train, series=moved)
    subsets = {"all": paper.preprocess.modalities, "eeg": ("eeg",)}
    lines: list[dict[str, object]] = []
    estimator = NetworkEstimator(tiny, report=lines.append)
    found, changed = (estimator.fit_predict(part, train, train, subsets) for part in (train, other))
    assert not np.array_equal(found["all"], changed["all"])
    assert np.array_equal(found["eeg"], changed["eeg"])
    assert np.isfinite(found["eeg"]).all()
    assert sum(line["stage"] == "calibrate" for line in lines) == 4

    lines.clear()
    dropping = dataclasses.replace(tiny, fit=dataclasses.replace(tiny.fit, modality_dropout=0.5))
    NetworkEstimator(dropping, report=lines.append).fit_predict(train, train, train, subsets)
    assert sum(line["stage"] == "calibrate" for line in lines) == 1


def cells_of(printed: str) -> list[list[str]]:
    """Return the cells of every line of the tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]


def test_evaluate_prints_the_four_splits_and_writes_them(
    store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One table, the controls, JSON and a file for each split, from which the same report follows again."""
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "report"
    command = ["evaluate", str(store_folder), "--preset", "neighbours", "--shuffles", "2"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for title in (*PROTOCOLS.values(), *ROWS.values()):
        assert title in printed
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert set(report["splits"]) == set(PROTOCOLS)
    assert set(report["splits"]["people"]["rows"]) == set(ROWS)
    rows = [split["rows"]["all"] for split in report["splits"].values()]
    cells = cells_of(printed)
    for name, title in SCORES.items():
        line = next(k for k, row in enumerate(cells) if row[0] == title)
        assert cells[line][1:] == [f"{row['mean'][name]:.3f} ± {row['sd'][name]:.3f}" for row in rows]
        if name in PLAIN_SCORES:
            edges = [row["interval"][name] for row in rows]
            assert cells[line + 1] == ["", *(f"({low:.3f} to {high:.3f})" for low, high in edges)]
    for row in rows:
        for label, counts in zip(report["labels"], row["confusion"], strict=True):
            of_class = (f"{row['classes'][label][name]:.3f}" for name in CLASS_SCORES)
            assert [label, *map(str, counts), *of_class] in cells
    computed = [name for name, split in report["splits"].items() if not split["reason"]]
    files = {path.name for path in (out / "splits").iterdir()}
    assert files == {f"{name}-{k}.json" for name in computed for k in (1, 2)}

    assert main([*command, "--splits", str(out / "splits"), "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "report.json").read_text(encoding="utf-8"))
    assert again["splits"] == report["splits"]

    for path in (out / "splits").glob("*.json"):
        if not path.name.startswith("random"):
            path.unlink()
    assert main([*command, "--splits", str(out / "splits"), "--out", str(tmp_path / "alone")]) == 2
    assert "not reported alone" in capsys.readouterr().err


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of noise: five people who saw the one stimulus of each class three times."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    n_people, n_trials = 5, 3
    label = np.tile(np.repeat(["calm", "angry"], n_trials), n_people)
    n = label.size
    np.savez(
        folder / "windows.npz",
        label=label,
        person=np.repeat([f"P{k}" for k in range(n_people)], 2 * n_trials),
        trial=np.arange(n),
        stimulus=label,
        eeg=rng.standard_normal((n, 14, 256)),
        landmarks=rng.standard_normal((n, 8, 68, 3)),
        aus=rng.uniform(0.0, 1.0, (n, 8, 17, 2)),
    )
    assert main(["prepare", "--dataset", "arrays", str(folder / "windows.npz"), "--out", str(folder / "store")]) == 0
    return folder / "store"


def test_evaluate_says_where_the_label_is_the_stimulus(
    noise_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one stimulus of each class no split can tell emotions from pictures, and the table says so."""
    monkeypatch.setenv("COLUMNS", "240")
    command = ["evaluate", str(noise_folder), "--preset", "neighbours", "--shuffles", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    accuracy = next(row for row in cells_of(printed) if row[0] == "accuracy")
    assert accuracy[-1] == "not computable: the label is the stimulus"
    assert "a network of its own" not in printed


@pytest.mark.deep
def test_the_papers_recipe_goes_from_its_splits_into_a_model_file(
    noise_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says by whom EEG alone was answered; the model trained on the same windows takes the scores along."""
    monkeypatch.setenv("COLUMNS", "240")
    first, report, run = (tmp_path / name for name in ("first", "report", "run"))
    assert main(["evaluate", str(noise_folder), "--preset", "neighbours", "--shuffles", "1", "--out", str(first)]) == 0
    for path in (first / "splits").glob("*.json"):
        if path.name != "people-1.json":
            path.unlink()
    short = ["--preset", "paper", "--epochs", "1", "--pretrain-epochs", "0", "--device", "cpu"]
    capsys.readouterr()
    taken = ["--splits", str(first / "splits"), "--out", str(report)]
    assert main(["evaluate", str(noise_folder), *short, *taken]) == 0
    assert "EEG alone: by a network of its own" in capsys.readouterr().out

    assert main(["train", "--store", str(noise_folder), "--out", str(run), *short]) == 0
    (scores,) = load_checkpoint(run).scores.values()
    assert set(scores) == {"all"}
    told = ["--report", str(report / "report.json")]
    assert main(["export", str(run), "--out", str(tmp_path / "paper.ts"), *told]) == 0
    splits = find_artifact(str(tmp_path / "paper.ts")).meta.split_scores
    assert splits is not None
    assert set(splits["people"]["rows"]) == set(ROWS)
    assert splits["random"]["reason"] == "not computed"


def test_only_what_was_trained_and_measured_is_scored() -> None:
    """Without modality dropout whole windows alone are scored, and nothing is said of a face that nobody showed."""
    model = small_model()
    assert set(trained_subsets(model, 0.5)) == {"all", "eeg", "face"}
    assert set(trained_subsets(model, 0.0)) == {"all"}
    examples = small_examples(8)
    assert set(evaluate(model, examples, 0)) == {"all", "eeg", "face"}
    assert set(evaluate(model, examples.showing(("eeg",)), 0)) == {"all", "eeg"}
    assert set(evaluate(model, examples, 0, trained_subsets(model, 0.0))) == {"all"}


@pytest.mark.parametrize(("device", "said"), [("cuda:99", "CUDA devices"), ("gpu", "cuda:N")])
def test_evaluate_refuses_a_device_that_is_not_there(
    device: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear line, before the store is opened or anything is written."""
    assert main(["evaluate", str(tmp_path), "--out", str(tmp_path / "report"), "--device", device]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
