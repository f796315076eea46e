"""The four splits: what each keeps apart, when it cannot be computed, and the guard."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.training.compare import REPORT_NAME, make_report, read_split_scores
from clmer_model.training.config import TrainConfig, recipe_of
from clmer_model.training.splits import (
    N_FOLDS,
    PROTOCOLS,
    Split,
    SplitKind,
    check_disjoint,
    draw_folds,
    examples_key,
    groups_of,
    reason_uncomputable,
    remarks,
    split_from_dict,
    split_people,
    split_to_dict,
)
from clmer_server.cli import main
from clmer_server.session.inference import model_card
from clmer_streaming.errors import DatasetError
from tests.support.feature_store import in_memory, small_store
from tests.support.model_windows import SMALL, small_checkpoint

STORE = small_store()


def first_fold(protocol: SplitKind) -> Split:
    return draw_folds(STORE, protocol, seed=1)[0]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_every_window_is_tested_once_and_every_group_is_in_one_set(protocol: SplitKind) -> None:
    """The test sets of the folds are a partition; each fold has every window in one of its sets, and both labels."""
    groups = groups_of(STORE, protocol)
    folds = draw_folds(STORE, protocol, seed=1)
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(STORE.examples)))
    for fold in folds:
        rows = np.concatenate(list(fold.by_set.values()))
        assert np.array_equal(np.sort(rows), np.arange(len(STORE.examples)))
        parts = [set(groups[rows].tolist()) for rows in fold.by_set.values()]
        assert sum(map(len, parts)) == len(np.unique(groups))
        for rows in (fold.train, fold.test):
            assert set(STORE.examples.label[rows]) == {0, 1}


def test_folds_have_their_share_of_every_class() -> None:
    """With one label a trial, classes and sizes of the five test sets differ by a trial at most."""
    for fold in draw_folds(STORE, "trial", seed=1):
        n_trials = [
            len(np.unique(STORE.examples.trial[fold.test][STORE.examples.label[fold.test] == k])) for k in (0, 1)
        ]
        assert n_trials == [8, 8]  # of 40 of each class
        assert len(fold.validation) == pytest.approx(len(fold.train) / 6, rel=0.2)


def test_another_seed_or_repeat_draws_other_folds() -> None:
    """The same seed and number of the partition give the same rows; another number gives others, counted on."""
    first, again, second = (draw_folds(STORE, "trial", 1, repeat=repeat) for repeat in (1, 1, 2))
    assert all(np.array_equal(one.test, other.test) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0].test, second[0].test)
    assert [fold.number for fold in first + second] == list(range(1, 11))
    assert not np.array_equal(first[0].test, draw_folds(STORE, "trial", seed=2)[0].test)


def test_random_windows_share_trials_between_training_and_test() -> None:
    """That is why they leak: here nearly every test window has a neighbour of its trial among the training windows."""
    split, trial = first_fold("random"), STORE.examples.trial
    assert np.isin(trial[split.test], trial[split.train]).mean() > 0.8


def test_two_people_and_few_trials_are_divided_as_far_as_they_go() -> None:
    """Two people make two folds without validation; the table says that there are no more."""
    store = small_store(n_people=2)
    folds = draw_folds(store, "people", seed=1)
    assert [np.unique(store.examples.person[fold.test]).tolist() for fold in folds] in ([[0], [1]], [[1], [0]])
    assert not any(len(fold.validation) for fold in folds)
    assert remarks(store, "people") == ["at most 2 folds: there are no more people, or no more of a class"]
    assert len(draw_folds(store, "trial", seed=1)) == N_FOLDS
    assert remarks(store, "trial") == []


def test_twenty_trials_of_one_person_are_divided_by_trial_alone() -> None:
    """Unseen people need two; the trials of the one person make five folds."""
    store = small_store(n_people=1, stimuli_per_label=10)
    assert reason_uncomputable(store, "people") == "not computable: unseen people need two, there is one"
    assert reason_uncomputable(store, "trial") == ""
    assert len(draw_folds(store, "trial", seed=1)) == N_FOLDS


def test_a_class_with_one_trial_is_told() -> None:
    """Where its only trial is tested, nothing of the class was trained on."""
    label = np.array([0, 0, 0, 1, 1, 1, 2])
    store = in_memory(np.zeros(7, dtype=np.int64), np.arange(7), np.arange(7), label, labels=("a", "b", "c"))
    assert "class c has one trial: where it is tested, nothing of it was trained on" in remarks(store, "trial")
    one_class = in_memory(
        np.zeros(3, dtype=np.int64), np.arange(3), np.arange(3), np.array([0, 1, 2]), labels=("a", "b", "c")
    )
    assert reason_uncomputable(one_class, "trial") == "not computable: fewer than two classes have two trials or more"


def test_where_each_label_has_one_stimulus_unseen_stimuli_cannot_be_computed() -> None:
    """Whoever knows the picture knows the label: as in MAN-II."""
    store = small_store(stimuli_per_label=1)
    assert reason_uncomputable(store, "stimuli") == "not computable: the label is the stimulus"
    with pytest.raises(DatasetError, match="the label is the stimulus"):
        draw_folds(store, "stimuli", seed=1)
    assert reason_uncomputable(store, "people") == ""


def test_stimuli_without_names_cannot_be_kept_apart() -> None:
    unnamed = dataclasses.replace(STORE, stimulus=np.full(len(STORE.examples), -1))
    assert reason_uncomputable(unnamed, "stimuli") == "not computable: not every trial names its stimulus"


def test_stimuli_that_are_felt_differently_are_kept_together() -> None:
    """Where people give one stimulus several labels, all its windows still go to one side."""
    person = np.repeat(np.arange(4), 6)
    stimulus, label = np.tile(np.arange(6), 4), (np.arange(24) * 7 % 5) % 2
    store = in_memory(person, np.arange(24), stimulus, label, stimuli=[f"s{k}" for k in range(6)])
    for split in draw_folds(store, "stimuli", seed=1):
        assert not np.isin(stimulus[split.test], stimulus[split.train]).any()


def test_people_who_share_a_trial_are_kept_together() -> None:
    """Two people watched every film at once: they are one, and with them alone unseen people cannot be tested."""
    person, trial, label = np.tile([0, 1], 8), np.repeat(np.arange(8), 2), np.repeat(np.arange(8) % 2, 2)
    store = in_memory(person, trial, trial, label)
    assert reason_uncomputable(store, "people") == "not computable: unseen people need two apart, there is one"


def test_fewer_than_five_people_all_train() -> None:
    """Nobody can be spared; from five on a quarter is kept for the test."""
    assert split_people(range(4), seed=1).train == (0, 1, 2, 3)
    assert not split_people(range(4), seed=1).test
    five = split_people(range(5), seed=1)
    assert (len(five.train), len(five.validation), len(five.test)) == (3, 1, 1)


def moved(split: Split, row: int) -> Split:
    """Return the split with one training row in the test, too."""
    return dataclasses.replace(split, test=np.append(split.test, split.train[row]))


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_shared_window_is_refused(protocol: SplitKind) -> None:
    """One window on two sides is enough."""
    with pytest.raises(DatasetError, match="nothing shared between train and test"):
        check_disjoint(moved(first_fold(protocol), 0), STORE)


@pytest.mark.parametrize("protocol", ["trial", "people", "stimuli"])
def test_a_shared_group_is_refused_and_named(protocol: SplitKind) -> None:
    """A random split that calls itself one of these shares trials, and says which."""
    leaking = dataclasses.replace(first_fold("random"), protocol=protocol)
    with pytest.raises(DatasetError, match=r"trial t\d+ and \d+ more"):
        check_disjoint(leaking, STORE)


def test_a_shared_person_is_refused_though_no_trial_is_shared() -> None:
    """A split by trials is none by people."""
    by_trial = dataclasses.replace(first_fold("trial"), protocol="people")
    with pytest.raises(DatasetError, match=r"people P\d+"):
        check_disjoint(by_trial, STORE)


@pytest.mark.parametrize("side", ["train", "test"])
def test_an_empty_side_is_refused(side: str) -> None:
    """A score of nothing says nothing; without validation windows there is still something to test."""
    split, nothing = first_fold("people"), np.empty(0, dtype=np.int64)
    changes: dict[str, Any] = {side: nothing}
    with pytest.raises(DatasetError, match=f"windows for {side}"):
        check_disjoint(dataclasses.replace(split, **changes), STORE)
    check_disjoint(dataclasses.replace(split, validation=nothing), STORE)


def written(protocol: SplitKind = "people") -> dict[str, Any]:
    """Return a split as it is read from its file."""
    text = json.dumps(split_to_dict(first_fold(protocol), STORE, seed=1))
    plain: dict[str, Any] = json.loads(text)
    return plain


def test_a_split_file_gives_the_split_again_and_names_its_groups() -> None:
    """Rows and the people of each side."""
    split, read = first_fold("people"), split_from_dict(written(), STORE, "file")
    for side, rows in split.by_set.items():
        assert np.array_equal(rows, read.by_set[side])
        assert written()["groups"][side] == [f"P{k}" for k in np.unique(STORE.examples.person[rows])]


def test_an_altered_split_file_is_refused() -> None:
    """Rows that changed, a hash that was made to fit a leak, another store, something else."""
    plain = written()
    plain["rows"]["test"].append(plain["rows"]["train"][0])
    with pytest.raises(DatasetError, match="rows with the hash"):
        split_from_dict(plain, STORE, "file")
    leaking = split_to_dict(moved(first_fold("people"), 0), STORE, seed=1)
    with pytest.raises(DatasetError, match="nothing shared"):
        split_from_dict(leaking, STORE, "file")
    with pytest.raises(DatasetError, match="a split of store 1111"):
        split_from_dict(written(), dataclasses.replace(STORE, key="1" * 64), "file")
    with pytest.raises(DatasetError, match="a split file"):
        split_from_dict({"protocol": "people"}, STORE, "file")


CONFIG = TrainConfig(dims=SMALL)
ROW = {
    "mean": {"accuracy": 0.4},
    "sd": {"accuracy": 0.1},
    "folds": {"accuracy": [0.3, 0.5]},
    "interval_over": "people",
    "interval": {"accuracy": [0.2, 0.6]},
    "classes": {},
    "confusion": [[1]],
    "n_windows": [7, 7],
    "n_people": 3,
}
SPLITS = {
    "people": {"title": "unseen people", "reason": "", "rows": {"all": ROW}},
    "stimuli": {"title": "unseen stimuli", "reason": "not computable: the label is the stimulus"},
}


def write_run(folder: Path, config: TrainConfig = CONFIG) -> Path:
    """Leave a checkpoint and a report, as ``clmer train`` and ``clmer evaluate`` leave them; return the report."""
    training = {**recipe_of(CONFIG, examples_key(CONFIG)), "people": {"test": 3}}
    checkpoint = dataclasses.replace(small_checkpoint(), training=training)
    checkpoint.save(folder)
    store = dataclasses.replace(small_store(), labels=checkpoint.labels)
    report = folder / REPORT_NAME
    report.write_text(json.dumps(make_report(store, SPLITS, config, seed=5)), encoding="utf-8")
    return report


def test_the_model_file_says_what_its_recipe_scored_by_each_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean, SD and interval of each split with its title, or why there are none; single folds stay in the report."""
    report = write_run(tmp_path / "run")
    expected = {
        "people": {
            "title": "unseen people",
            "reason": "",
            "rows": {
                "all": {
                    name: ROW[name] for name in ("mean", "sd", "interval", "interval_over", "n_windows", "n_people")
                }
            },
        },
        "stimuli": SPLITS["stimuli"],
    }
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "own.ts")]) == 0
    assert str(report) in capsys.readouterr().out
    artifact = find_artifact(str(tmp_path / "own.ts"))
    assert artifact.meta.split_scores == expected
    assert model_card(artifact)["split_scores"] == expected

    moved = report.rename(tmp_path / "elsewhere.json")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bare.ts")]) == 0
    assert find_artifact(str(tmp_path / "bare.ts")).meta.split_scores is None
    given = ["export", str(tmp_path / "run"), "--report", str(moved), "--out", str(tmp_path / "told.ts")]
    assert main(given) == 0
    assert find_artifact(str(tmp_path / "told.ts")).meta.split_scores == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_trials": 3}, "trials_per_person"),
        ({"fit": dataclasses.replace(CONFIG.fit, epochs=99)}, "fit.epochs"),
        ({"dims": dataclasses.replace(SMALL, width=32)}, "dims.width"),
        ({"preset": "paper"}, "preset"),
    ],
)
def test_scores_of_another_recipe_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """The error names what differs."""
    report = write_run(tmp_path, dataclasses.replace(CONFIG, **changes))
    with pytest.raises(DatasetError, match=f"with other {said}"):
        read_split_scores(report, load_checkpoint(tmp_path))


def test_another_seed_is_the_same_recipe(tmp_path: Path) -> None:
    """Seeds and precision change the figures, as other folds do."""
    fit = dataclasses.replace(CONFIG.fit, seed=4, mixed_precision=True)
    report = write_run(tmp_path, dataclasses.replace(CONFIG, seed=4, fit=fit))
    assert set(read_split_scores(report, load_checkpoint(tmp_path))) == set(SPLITS) < set(PROTOCOLS)


def test_baselines_and_other_labels_are_no_scores_of_a_network(tmp_path: Path) -> None:
    """Nor is a file that is no report."""
    report = write_run(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    report.write_text(json.dumps(make_report(small_store(), SPLITS, CONFIG, seed=5)), encoding="utf-8")
    with pytest.raises(DatasetError, match="with other labels"):
        read_split_scores(report, checkpoint)
    report.write_text(json.dumps(make_report(small_store(), SPLITS, None, seed=5)), encoding="utf-8")
    with pytest.raises(DatasetError, match="with other preset"):
        read_split_scores(report, checkpoint)
    report.write_text(json.dumps({"preset": CONFIG.preset, "labels": list(checkpoint.labels), "splits": {}}))
    with pytest.raises(DatasetError, match="recipe"):
        read_split_scores(report, checkpoint)
    for text in ("", "[]", "{}", '{"splits": 1, "labels": [], "preset": "default"}'):
        report.write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match="report of clmer evaluate"):
            read_split_scores(report, checkpoint)
