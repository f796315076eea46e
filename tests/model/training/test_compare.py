"""Four splits side by side: the table, the controls, and what is fitted on which side."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.config import modality_specs
from clmer_model.data.examples import Examples
from clmer_model.data.features import MIN_POWER, feature_matrix
from clmer_model.data.store import WindowStore, open_store
from clmer_model.training.compare import (
    NETWORK,
    ROWS,
    SplitPredictions,
    compare,
    joined,
    partitions,
    summary,
    verdict,
    without_muscle,
)
from clmer_model.training.config import TrainConfig, recipe
from clmer_model.training.estimators import BASELINES, Advance, BaselineEstimator, Estimator, NetworkEstimator
from clmer_model.training.evaluate import (
    CLASS_SCORES,
    PLAIN_SCORES,
    Floats,
    Labels,
    confusion,
    eq8_over_all,
    evaluate,
    trained_subsets,
)
from clmer_model.training.splits import PROTOCOLS, Split, SplitKind, draw_folds
from clmer_server.cli import main
from clmer_server.commands.evaluate import SCORES
from clmer_streaming.config import PhysioConfig
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate_cohort, write_dataset
from tests.support.feature_store import small_store
from tests.support.model_windows import CONFIG, SMALL, small_model
from tests.support.tiny_training import small_examples

LOGISTIC = BaselineEstimator("logistic", CONFIG, n_classes=2)


def folds_of(store: WindowStore) -> dict[SplitKind, list[Split]]:
    return {protocol: draw_folds(store, protocol, 1) for protocol in PROTOCOLS}


def no_advance(share: float) -> None:
    """Take no notice of the progress."""


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Knows the number of each window, and from it the label, in all but one of ``wrong``."""

    label: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    wrong: int = 10

    def fit_predict(
        self,
        train: Examples,
        validation: Examples,
        test: Examples,
        subsets: Mapping[str, Sequence[str]],
        advance: Advance,
    ) -> dict[str, Floats]:
        """Return 0.9 for the class that is answered."""
        rows = np.round(test.series["eeg"][:, 0, 0]).astype(int)
        answer = np.where(rows % self.wrong == 0, 1 - self.label[rows], self.label[rows])
        advance(1.0)
        return {name: np.where(np.arange(2) == answer[:, None], 0.9, 0.1) for name in subsets}

    def work(self, n_train: int, n_validation: int) -> float:
        """Return the same for every fold."""
        return 1.0


def test_the_summary_equals_what_follows_from_the_answers() -> None:
    """Accuracy, guesses, confusion matrix and calibration of a classifier whose answers are known."""
    store = small_store()
    splits = folds_of(store)
    answers = compare(store, splits, {NETWORK: Oracle(store.examples.label)})
    plain = summary(store, answers)
    for protocol, folds in splits.items():
        row = plain[protocol]["rows"]["all"]
        right = [float((split.test % 10 != 0).mean()) for split in folds]
        assert row["folds"]["accuracy"] == pytest.approx(right, abs=1e-4)
        assert row["mean"]["accuracy"] == pytest.approx(0.9, abs=1e-4)  # every window is tested once
        assert row["sd"]["accuracy"] == pytest.approx(np.std(right), abs=1e-4)
        assert row["folds"]["calibration_error"] == pytest.approx([abs(0.9 - r) for r in right], abs=1e-4)
        assert row["mean"]["prior"] == pytest.approx(0.5, abs=0.01)
        assert sum(map(sum, row["confusion"])) == len(store.examples)
        assert set(row["interval"]) == set(PLAIN_SCORES)
        assert row["interval_over"] == "people"
        low, high = row["interval"]["accuracy"]
        assert low <= row["mean"]["accuracy"] <= high
        for k, label in enumerate(store.labels):
            found, named = row["confusion"][k][k], sum(line[k] for line in row["confusion"])
            precision, recall = found / named, found / sum(row["confusion"][k])
            f1 = 2 * precision * recall / (precision + recall)
            told = {"precision": precision, "recall": recall, "f1": f1}
            assert row["classes"][label] == pytest.approx(told, abs=1e-4)
    first = answers["people"][NETWORK]["all"][0]
    matrix = confusion(first.truth, first.predicted, 2)
    assert plain["people"]["rows"]["all"]["folds"]["eq8_over_all"][0] == pytest.approx(eq8_over_all(matrix), abs=1e-4)


def test_whole_trials_are_scored_beside_windows() -> None:
    """Three windows a trial, one in ten wrong, never two of a trial: every trial is right."""
    store = small_store()
    answers = compare(store, {"trial": draw_folds(store, "trial", 1)}, {NETWORK: Oracle(store.examples.label)})
    row = summary(store, answers)["trial"]["rows"]["all"]
    assert row["by_trial"]["mean"]["accuracy"] == 1.0
    assert row["by_trial"]["n_trials"] == 80
    assert row["mean"]["accuracy"] == pytest.approx(0.9, abs=1e-4)


def test_random_windows_never_stand_alone() -> None:
    """Whatever was computed, all four splits are in the summary, each with its title and its reason."""
    store = small_store(n_people=1, stimuli_per_label=1, windows_per_trial=6)
    answers = compare(store, {"random": draw_folds(store, "random", 1)}, {"logistic": LOGISTIC})
    plain = summary(store, answers)
    assert list(plain) == list(PROTOCOLS)
    assert plain["random"]["title"].endswith("leaks")
    assert {name: split["reason"] for name, split in plain.items()} == {
        "random": "",
        "trial": "not computable: fewer than two classes have two trials or more",
        "people": "not computable: unseen people need two, there is one",
        "stimuli": "not computable: the label is the stimulus",
    }


def test_with_few_people_intervals_are_over_trials() -> None:
    """Four people are too few to say how people differ."""
    store = small_store(n_people=4)
    answers = compare(store, {"people": draw_folds(store, "people", 1)}, {"logistic": LOGISTIC})
    row = summary(store, answers)["people"]["baselines"]["logistic"]["all"]
    assert (row["n_people"], row["interval_over"]) == (4, "trials")
    low, high = row["interval"]["accuracy"]
    assert low < row["mean"]["accuracy"] < high


def predictions_of(truth: Labels, answer: Labels, trial: Labels) -> SplitPredictions:
    probs = np.where(np.arange(2) == answer[:, None], 0.8, 0.2)
    return SplitPredictions(truth, probs, np.zeros_like(truth), trial, np.arange(len(truth)), 0.5, 0.5)


@pytest.mark.parametrize(
    ("network_wrong", "baseline_wrong", "outcome"),
    [(10, 3, "beats"), (3, 10, "is worse than"), (3, 3, "does not differ from")],
)
def test_a_sentence_says_whether_the_network_beats_the_baselines(
    network_wrong: int, baseline_wrong: int, outcome: str
) -> None:
    """Of 200 trials one in so many is wrong: the interval of the difference lies above 0, below it, or around it."""
    trial = np.arange(200)
    truth = trial % 2
    answers = {
        NETWORK: np.where(trial // 2 % network_wrong == 0, 1 - truth, truth),
        "lda": np.where(trial // 2 % baseline_wrong == 1, 1 - truth, truth),
        "trees": 1 - truth,
    }
    found = verdict({name: predictions_of(truth, answer, trial) for name, answer in answers.items()}, "unseen trials")
    assert (found["outcome"], found["baseline"]) == (outcome, "lda")
    assert f"the network ({1 - 1 / network_wrong:.2f}"[:-1] in found["sentence"]
    assert f"{outcome} the best baseline, {BASELINES['lda']}" in found["sentence"]
    assert "over 200 trials" in found["sentence"]
    low, high = found["interval"]
    assert low <= found["difference"] <= high


def test_repeated_partitions_are_scored_apart() -> None:
    """Folds that share no window are one partition; a window is never counted twice in it."""
    store = small_store()
    folds = [*draw_folds(store, "trial", 1), *draw_folds(store, "trial", 1, repeat=2)]
    answers = compare(store, {"trial": folds}, {NETWORK: Oracle(store.examples.label)})["trial"][NETWORK]["all"]
    parts = partitions(answers)
    assert [len(np.unique(part.rows)) for part in parts] == [len(store.examples)] * 2
    assert len(joined(answers).truth) == 2 * len(store.examples)


def test_the_shares_of_the_work_add_up_to_one() -> None:
    """Progress is told by estimator, whatever the sizes of the folds."""
    store = small_store(n_people=3)
    done = dict.fromkeys(("logistic", NETWORK), 0.0)

    def watch(name: str, share: float) -> None:
        done[name] += share

    estimators: dict[str, Estimator] = {"logistic": LOGISTIC, NETWORK: Oracle(store.examples.label)}
    compare(store, {name: draw_folds(store, name, 1) for name in ("random", "trial")}, estimators, watch)
    assert done == pytest.approx(dict.fromkeys(done, 1.0))


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


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_baseline_finds_the_band_that_tells_the_classes_apart(name: str) -> None:
    """Class 1 has ten times the alpha power; a test window's answer does not depend on what else is tested."""
    store = small_store()
    t = np.arange(64) / 128.0
    size = 10.0 ** store.examples.label[:, None, None]
    eeg = (store.examples.series["eeg"] * 0.1 + size * np.sin(2 * np.pi * 10 * t)).astype(np.float32)
    examples = dataclasses.replace(store.examples, series={"eeg": eeg})
    train, validation, test = (examples.take(part) for part in draw_folds(store, "people", 1)[0].by_set.values())
    estimator, subsets = BaselineEstimator(name, CONFIG, n_classes=2), {"all": ("eeg",)}
    probs = estimator.fit_predict(train, validation, test, subsets, no_advance)["all"]
    assert (probs.argmax(1) == test.label).all()
    assert probs.sum(1) == pytest.approx(1.0)
    alone = test.take(np.arange(1))
    assert np.allclose(probs[:1], estimator.fit_predict(train, validation, alone, subsets, no_advance)["all"])


def test_a_baseline_without_two_classes_to_learn_guesses() -> None:
    """It names the only class that there is, and nothing in particular where nothing was measured."""
    examples = small_store(n_people=1).examples
    alone, test = examples.take(np.flatnonzero(examples.label == 1)), examples.take(np.arange(4))
    nobody = examples.take(np.empty(0, dtype=np.int64))
    subsets = {"all": ("eeg",)}
    assert LOGISTIC.fit_predict(alone, nobody, test, subsets, no_advance)["all"].tolist() == [[0.0, 1.0]] * 4
    hidden = dataclasses.replace(alone, mask={"eeg": np.zeros_like(alone.mask["eeg"])})
    assert LOGISTIC.fit_predict(hidden, nobody, test, subsets, no_advance)["all"].tolist() == [[0.5, 0.5]] * 4


def test_every_signal_is_cut_into_bands_by_its_own_rate() -> None:
    """A sine of 1 Hz has its power at 1 Hz, at 64 samples a second, at 8, and whatever the rate of the EEG is."""
    rates = {"ecg": 64.0, "gsr": 8.0}
    series = tuple(PhysioConfig(name, ("X",), rate) for name, rate in rates.items())
    config = dataclasses.replace(CONFIG, modalities=("eeg", *rates), physio=series)
    n, store = 3, small_store(n_people=1)
    times = {name: np.arange(round(2 * rate)) / rate for name, rate in rates.items()}
    waves = {name: np.tile(np.sin(2 * np.pi * t), (n, 1, 1)).astype(np.float32) for name, t in times.items()}
    whole = np.ones((n, 1), dtype=np.bool_)
    examples = dataclasses.replace(store.examples, series=waves, mask=dict.fromkeys(rates, whole))
    for name, n_bands in (("ecg", 7), ("gsr", 4)):  # up to 32 Hz, and up to 4 Hz
        features = feature_matrix(examples, (name,), config)
        assert features.shape == (n, n_bands)
        assert (features.argmax(1) == 2).all()  # from 1 Hz to 2 Hz
        assert features[:, 2] == pytest.approx(np.log(0.5 + MIN_POWER), abs=1e-5)  # mean square of a sine


def test_what_was_not_measured_is_no_feature() -> None:
    """A masked channel is NaN in all its bands, a hidden slot does not count to the mean of the others."""
    examples = small_examples(4)
    examples.mask["eeg"][0, 3] = False
    examples.mask["aus"][1, 2:] = False
    eeg, aus = (feature_matrix(examples, (name,), CONFIG) for name in ("eeg", "aus"))
    assert np.flatnonzero(np.isnan(eeg[0].reshape(14, -1)).all(1)).tolist() == [3]
    assert not np.isnan(eeg[1:]).any()
    assert aus[1] == pytest.approx(examples.series["aus"][1, :2].mean(0).ravel(), abs=1e-6)


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
    train, validation, test = (store.examples.take(rows) for rows in draw_folds(store, "people", 1)[0].by_set.values())
    subsets = {"all": tuple(store.examples.series), "eeg": ("eeg",)}
    whole = estimator.fit_predict(train, validation, test, subsets, no_advance)
    changed = dataclasses.replace(test, label=(test.label + 1) % 4, series={k: v * 2 for k, v in test.series.items()})
    mixed = changed.take(np.arange(len(test)))
    mixed.series["eeg"][:1], mixed.series["aus"][:1] = test.series["eeg"][:1], test.series["aus"][:1]
    mixed.series["landmarks"][:1] = test.series["landmarks"][:1]
    other = estimator.fit_predict(train, validation, mixed, subsets, no_advance)
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
    found, changed = (estimator.fit_predict(part, train, train, subsets, no_advance) for part in (train, other))
    assert not np.array_equal(found["all"], changed["all"])
    assert np.array_equal(found["eeg"], changed["eeg"])
    assert np.isfinite(found["eeg"]).all()
    assert sum(line["stage"] == "calibrate" for line in lines) == 4

    lines.clear()
    dropping = dataclasses.replace(tiny, fit=dataclasses.replace(tiny.fit, modality_dropout=0.5))
    NetworkEstimator(dropping, report=lines.append).fit_predict(train, train, train, subsets, no_advance)
    assert sum(line["stage"] == "calibrate" for line in lines) == 1


def cells_of(printed: str) -> list[list[str]]:
    """Return the cells of every line of the tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]


def test_evaluate_prints_the_four_splits_and_writes_them(
    store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table with every baseline, by window and by trial, JSON and a file for each fold, which give the same again."""
    monkeypatch.setenv("COLUMNS", "240")
    out = tmp_path / "report"
    command = ["evaluate", str(store_folder), "--preset", "baselines", "--folds", "2"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert set(report["splits"]) == set(PROTOCOLS)
    splits = list(report["splits"].values())
    cells = cells_of(printed)
    assert all(title in printed for title in PROTOCOLS.values())
    for name, title in BASELINES.items():
        line = next(k for k, row in enumerate(cells) if row[0] == title)
        rows = [split["baselines"][name]["all"] for split in splits]
        assert set(splits[0]["baselines"][name]) == set(ROWS)
        expected = [f"{row['mean']['balanced_accuracy']:.3f} ± {row['sd']['balanced_accuracy']:.3f}" for row in rows]
        assert cells[line][1:] == expected
        edges = [row["interval"]["balanced_accuracy"] for row in rows]
        assert cells[line + 1][1:] == [f"({low:.3f} to {high:.3f})" for low, high in edges]
        of_trials = [f"{row['by_trial']['mean']['balanced_accuracy']:.3f}" for row in rows]
        assert cells[line + 2] == ["by trial", *of_trials]
    assert "in brackets the 95 % interval over people" in printed
    files = {path.name for path in (out / "splits").iterdir()}
    assert files >= {f"{name}-{k}.json" for name in ("random", "trial", "people") for k in (1, 2)}

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
    assert main(["evaluate", str(noise_folder), "--preset", "baselines", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    reasons = next(row for row in cells_of(printed) if "not computable" in row[-1])
    assert reasons[-1] == "not computable: the label is the stimulus"
    assert "a network of its own" not in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--folds", "1"], "--folds of 2 or more"),
        (["--repeats", "0"], "--repeats of 1"),
        (["--epochs", "0"], "--epochs of 1"),
    ],
)
def test_evaluate_refuses_numbers_that_divide_nothing(
    options: list[str], said: str, noise_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(noise_folder), "--out", str(tmp_path / "report"), *options]) == 2
    assert said in capsys.readouterr().err


def test_the_network_stands_beside_the_baselines_with_a_sentence(
    noise_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On noise the network does not beat guessing; the sentence says so, and the time that is left is told."""
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.setattr("clmer_server.commands.evaluate.FIRST_LINE_S", 0.0)
    command = ["evaluate", str(noise_folder), "--epochs", "1", "--folds", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    told = capsys.readouterr().out
    printed, cells = " ".join(told.split()), cells_of(told)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    computed = [split for split in report["splits"].values() if not split["reason"]]
    for name, title in SCORES.items():
        line = next(row for row in cells if row[0] == title)
        expected = [f"{s['rows']['all']['mean'][name]:.3f} ± {s['rows']['all']['sd'][name]:.3f}" for s in computed]
        assert [cell for cell in line[1:] if cell] == expected
    for split in computed:
        row = split["rows"]["all"]
        for label, counts in zip(report["labels"], row["confusion"], strict=True):
            of_class = (f"{row['classes'][label][name]:.3f}" for name in CLASS_SCORES)
            assert [label, *map(str, counts), *of_class] in cells
    for name in ("trial", "people"):
        found = report["splits"][name]["verdicts"]["all"]
        assert found["outcome"] == "does not differ from"
        assert found["sentence"] in printed
    assert re.search(r"training: \d+% done, about \d+ (s|min) left", printed)
    assert report["calibration"]["networks"] > 0
    assert report["splits"]["stimuli"]["reason"] in printed


@pytest.mark.deep
def test_the_papers_recipe_goes_from_its_splits_into_a_model_file(
    noise_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says by whom EEG alone was answered; the model trained on the same windows takes the scores along."""
    monkeypatch.setenv("COLUMNS", "240")
    first, report, run = (tmp_path / name for name in ("first", "report", "run"))
    assert main(["evaluate", str(noise_folder), "--preset", "baselines", "--out", str(first)]) == 0
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
