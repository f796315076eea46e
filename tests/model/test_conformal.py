"""Prediction sets: which classes they hold, and how often the true one is among them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clmer_model.conformal import ConformalSets, measure_coverage, pooled_threshold
from clmer_streaming.errors import ArtifactError

SETS = ConformalSets(0.9, "people", 12, {"all": 0.7, "eeg": 0.8, "face": 0.75})
PROBS = {"a": 0.25, "b": 0.5, "c": 0.2, "d": 0.05}
THREE = ("eeg", "landmarks", "aus")


def test_a_set_holds_the_classes_that_are_not_excluded_the_most_probable_first() -> None:
    """With a threshold of 0.7 a class needs 0.3, with 0.8 it needs 0.2; the most probable one is always there."""
    assert SETS.prediction_set(PROBS, THREE, THREE) == ("b",)
    assert SETS.prediction_set(PROBS, ("eeg",), THREE) == ("b", "a", "c")
    assert SETS.prediction_set(PROBS, ("landmarks", "aus"), THREE) == ("b", "a")
    assert ConformalSets(0.9, "people", 12, {"all": 0.0}).prediction_set(PROBS, THREE, THREE) == ("b",)


def test_a_subset_that_was_not_calibrated_has_the_widest_sets() -> None:
    assert SETS.prediction_set(PROBS, ("aus",), THREE) == SETS.prediction_set(PROBS, ("eeg",), THREE)


def test_a_threshold_of_one_excludes_nothing() -> None:
    whole = ConformalSets(0.9, "trials", 3, {"all": 1.0})
    assert set(whole.prediction_set({**PROBS, "d": 0.0}, THREE, THREE)) == set(PROBS)


def test_nine_units_are_the_fewest_for_nine_in_ten() -> None:
    """With eight, nothing can be excluded; with nine, the worst of them decides."""
    scores = np.linspace(0.1, 0.5, 9)
    assert pooled_threshold(scores[:8], np.arange(8), 0.9) == 1.0
    assert pooled_threshold(scores, np.arange(9), 0.9) == 0.5


def test_everybody_counts_alike_however_many_windows_there_are() -> None:
    """One of nineteen people has a thousand hard windows: they weigh as much as the one easy window of another."""
    scores = np.concatenate([np.full(1000, 0.9), np.linspace(0.1, 0.3, 18)])
    person = np.concatenate([np.zeros(1000, dtype=np.int64), np.arange(1, 19)])
    assert pooled_threshold(scores, person, 0.9) == pytest.approx(0.3)


@given(st.integers(9, 60), st.integers(1, 20), st.integers(0, 2**31))
def test_the_quantile_is_that_of_the_pooled_distribution(n_units: int, n_windows: int, seed: int) -> None:
    """The weight at or below the threshold reaches the coverage, and below it does not."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(n_units), n_windows)
    scores = rng.random(unit.size)
    found = pooled_threshold(scores, unit, 0.9)
    weight = 1.0 / (n_windows * (n_units + 1))
    assert weight * (scores <= found).sum() >= 0.9 - 1e-6
    assert weight * (scores < found).sum() < 0.9


def test_further_people_are_covered_as_often_as_stated() -> None:
    """Of people whose difficulty differs, 400 times fifteen calibrate and one is asked: 90 % and not much more."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        scores = rng.beta(rng.uniform(1, 4, 16)[:, None], 3.0, (16, 20))
        threshold = pooled_threshold(scores[:15].ravel(), np.repeat(np.arange(15), 20), 0.9)
        hits.append((scores[15] <= threshold).mean())
    assert 0.89 <= np.mean(hits) <= 0.96


def test_coverage_is_measured_by_person() -> None:
    """One person is always covered, another in half of the windows: 0.75 on average, whoever has more windows."""
    probs = np.array([[0.8, 0.2]] * 6)
    truth, person = np.array([0, 0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 2, 2])
    found = measure_coverage(probs, truth, person, 0.5)
    assert found.by_person == {1: 1.0, 2: 0.5}
    assert (found.share, found.mean_size) == (0.75, 1.0)
    assert found.to_dict()["least_of_a_person"] == 0.5


def test_sets_survive_json_and_others_are_refused() -> None:
    plain = json.loads(json.dumps(SETS.to_dict()))
    assert ConformalSets.from_dict(plain) == SETS
    changes: tuple[dict[str, Any], ...] = (
        {"coverage": 1.5},
        {"unit": "rats"},
        {"thresholds": {"all": 2.0}},
        {"thresholds": {}},
        {"n_units": "x"},
    )
    for change in changes:
        with pytest.raises(ArtifactError, match="conformal sets"):
            ConformalSets.from_dict({**plain, **change})
