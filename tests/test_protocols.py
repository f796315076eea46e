"""The four splits: what each keeps apart, when it cannot be computed, and the guard."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from clmer_model.training.protocols import (
    PROTOCOLS,
    Protocol,
    Split,
    draw_split,
    groups_of,
    guard,
    split_from_dict,
    split_to_dict,
    why_not,
)
from clmer_streaming.errors import DatasetError
from feature_store import in_memory, small_store

STORE = small_store()


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_every_window_is_on_one_side_and_every_group_too(protocol: Protocol) -> None:
    """About 70, 15 and 15 per cent of the groups, with every label on every side, in each of five shuffles."""
    groups = groups_of(STORE, protocol)
    n_groups = len(np.unique(groups))
    for shuffle in range(1, 6):
        split = draw_split(STORE, protocol, shuffle, seed=1)
        rows = np.concatenate(list(split.sides.values()))
        assert np.array_equal(np.sort(rows), np.arange(len(STORE.examples)))
        parts = {side: set(groups[rows].tolist()) for side, rows in split.sides.items()}
        assert sum(map(len, parts.values())) == n_groups
        assert len(parts["test"]) == len(parts["validation"]) == pytest.approx(0.15 * n_groups, abs=1)
        for rows in split.sides.values():
            assert set(STORE.examples.label[rows]) == {0, 1}


def test_shuffles_differ_and_a_seed_repeats_them() -> None:
    """The same seed and number give the same rows; another number gives others."""
    first, again, second = (draw_split(STORE, "trial", shuffle, seed=1) for shuffle in (1, 1, 2))
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, second.test)


def test_random_windows_share_trials_between_training_and_test() -> None:
    """That is why they leak: here nearly every test window has a neighbour of its trial among the training windows."""
    split = draw_split(STORE, "random", 1, seed=1)
    trial = STORE.examples.trial
    assert np.isin(trial[split.test], trial[split.train]).mean() > 0.8


def test_where_each_label_has_one_stimulus_unseen_stimuli_cannot_be_computed() -> None:
    """Whoever knows the picture knows the label: as in MAN-II."""
    store = small_store(stimuli_per_label=1)
    assert why_not(store, "stimuli") == "not computable: the label is the stimulus"
    with pytest.raises(DatasetError, match="the label is the stimulus"):
        draw_split(store, "stimuli", 1, seed=1)
    assert why_not(store, "people") == ""


def test_other_reasons_for_which_a_split_cannot_be_computed() -> None:
    """Too few people, too few stimuli of a label, no stimuli named."""
    assert "2 groups, 3 are needed" in why_not(small_store(n_people=2), "people")
    assert "a has 2 of 3 groups" in why_not(small_store(stimuli_per_label=2), "stimuli")
    unnamed = dataclasses.replace(STORE, stimulus=np.full(len(STORE.examples), -1))
    assert why_not(unnamed, "stimuli") == "not computable: not every trial names its stimulus"


def test_stimuli_that_are_felt_differently_are_kept_together() -> None:
    """Where people give one stimulus several labels, all its windows still go to one side."""
    person = np.repeat(np.arange(4), 6)
    stimulus, label = np.tile(np.arange(6), 4), (np.arange(24) * 7 % 5) % 2
    store = in_memory(person, np.arange(24), stimulus, label, stimuli=[f"s{k}" for k in range(6)])
    split = draw_split(store, "stimuli", 1, seed=1)
    assert not np.isin(stimulus[split.test], stimulus[split.train]).any()


def moved(split: Split, row: int) -> Split:
    """Return the split with one training row in the test, too."""
    return dataclasses.replace(split, test=np.append(split.test, split.train[row]))


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_shared_window_is_refused(protocol: Protocol) -> None:
    """One window on two sides is enough."""
    with pytest.raises(DatasetError, match="nothing shared between train and test"):
        guard(moved(draw_split(STORE, protocol, 1, seed=1), 0), STORE)


@pytest.mark.parametrize("protocol", ["trial", "people", "stimuli"])
def test_a_shared_group_is_refused_and_named(protocol: Protocol) -> None:
    """A random split that calls itself one of these shares trials, and says which."""
    leaking = dataclasses.replace(draw_split(STORE, "random", 1, seed=1), protocol=protocol)
    with pytest.raises(DatasetError, match=r"trial t\d+ and \d+ more"):
        guard(leaking, STORE)


def test_a_shared_person_is_refused_though_no_trial_is_shared() -> None:
    """A split by trials is none by people."""
    by_trial = dataclasses.replace(draw_split(STORE, "trial", 1, seed=1), protocol="people")
    with pytest.raises(DatasetError, match=r"people P\d+"):
        guard(by_trial, STORE)


def test_an_empty_side_is_refused() -> None:
    """A score of nothing says nothing."""
    split = draw_split(STORE, "people", 1, seed=1)
    with pytest.raises(DatasetError, match="windows for validation"):
        guard(dataclasses.replace(split, validation=np.empty(0, dtype=np.int64)), STORE)


def written(protocol: Protocol = "people") -> dict[str, Any]:
    """Return a split as it is read from its file."""
    text = json.dumps(split_to_dict(draw_split(STORE, protocol, 1, seed=1), STORE, seed=1))
    plain: dict[str, Any] = json.loads(text)
    return plain


def test_a_split_file_gives_the_split_again_and_names_its_groups() -> None:
    """Rows and the people of each side."""
    split, read = draw_split(STORE, "people", 1, seed=1), split_from_dict(written(), STORE, "file")
    for side, rows in split.sides.items():
        assert np.array_equal(rows, read.sides[side])
        assert written()["groups"][side] == [f"P{k}" for k in np.unique(STORE.examples.person[rows])]


def test_an_altered_split_file_is_refused() -> None:
    """Rows that changed, a hash that was made to fit a leak, another store, something else."""
    plain = written()
    plain["rows"]["test"].append(plain["rows"]["train"][0])
    with pytest.raises(DatasetError, match="rows with the hash"):
        split_from_dict(plain, STORE, "file")
    leaking = split_to_dict(moved(draw_split(STORE, "people", 1, seed=1), 0), STORE, seed=1)
    with pytest.raises(DatasetError, match="nothing shared"):
        split_from_dict(leaking, STORE, "file")
    with pytest.raises(DatasetError, match="a split of store 1111"):
        split_from_dict(written(), dataclasses.replace(STORE, key="1" * 64), "file")
    with pytest.raises(DatasetError, match="a split file"):
        split_from_dict({"protocol": "people"}, STORE, "file")
