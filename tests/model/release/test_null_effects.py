"""Where there is no emotion in the signals, honest splits end at chance and the random one does not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from clmer_model.config import LABELS_VA4, ClmerDims
from clmer_model.data.simulated import PersonRecipe
from clmer_model.data.store import WindowStore
from clmer_model.training.compare import NETWORK, SplitPredictions, compare
from clmer_model.training.config import FitConfig, PretrainConfig, TrainConfig
from clmer_model.training.estimators import BaselineEstimator, Estimator, NetworkEstimator
from clmer_model.training.splits import PROTOCOLS, SplitKind, draw_folds
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.trials import session_seconds
from scripts.release import p_of_chance, simulated_store
from tests.support.model_windows import CONFIG

CHANCE_P = 0.001
N_STIMULI, TRIAL_S, REST_S = 16, 8.0, 1.0
N_UNSEEN = 3  # folds; four unseen stimuli can be dealt in 24 ways: fewer folds never leave chance

TREES = BaselineEstimator("trees", CONFIG, len(LABELS_VA4))

EAGER = NetworkEstimator(
    TrainConfig(
        dims=ClmerDims(width=16, heads=2, conv_widths=(16, 16, 32), head_width=32, conv_dropout=0.0, dropout=0.0),
        preprocess=CONFIG,
        pretrain=PretrainConfig(epochs=0),
        fit=FitConfig(
            epochs=8, batch=64, learning_rate=4e-3, encoder_learning_rate=4e-3, weight_decay=0.0,
            label_smoothing=0.0, modality_dropout=0.0, views=None,
        ),
    ),
    report=lambda line: None,
)  # fmt: skip
"""A small CLMER without anything that keeps it from learning by heart."""


@functools.cache
def people_without(preset: str, n_people: int, every: int, cache: Path, n_views: int = 1) -> WindowStore:
    """Return the windows of people who each saw all sixteen stimuli so many times."""
    seconds = session_seconds(n_views * N_STIMULI, TRIAL_S, REST_S)
    sessions = [
        SimulationConfig(seconds, seed=1, preset=preset, participant=k, trial_s=TRIAL_S, rest_s=REST_S)
        for k in range(n_people)
    ]
    return simulated_store([PersonRecipe(session, CONFIG, LABELS_VA4, every) for session in sessions], cache)


def answers_by_split(
    store: WindowStore, estimator: Estimator, n_folds: Mapping[SplitKind, int]
) -> dict[SplitKind, list[SplitPredictions]]:
    """Return what is answered with all modalities, and see to it that good answers would not pass for chance."""
    splits = {name: draw_folds(store, name, seed=1)[:n] for name, n in n_folds.items()}
    found = compare(store, splits, {NETWORK: estimator}, controls=False)
    answers = {name: rows[NETWORK]["all"] for name, rows in found.items()}
    for name, folds in answers.items():
        assert p_of_chance(store, name, [always_right(one) for one in folds]) <= CHANCE_P, name
    return answers


def always_right(answers: SplitPredictions) -> SplitPredictions:
    return dataclasses.replace(answers, probs=np.eye(answers.probs.shape[1])[answers.truth])


def p_by_split(store: WindowStore, answers: Mapping[SplitKind, Sequence[SplitPredictions]]) -> dict[SplitKind, float]:
    """Return how probable the right answers are by chance."""
    return {name: p_of_chance(store, name, folds) for name, folds in answers.items()}


def says_something(answers: Mapping[SplitKind, Sequence[SplitPredictions]]) -> bool:
    """Tell whether in no split one class is nearly always the answer, which is at chance whatever was learned."""
    said = [np.bincount(np.concatenate([one.predicted for one in folds])) for folds in answers.values()]
    return all(counts.max() < 0.9 * counts.sum() for counts in said)


@pytest.mark.deep
def test_without_any_effect_only_random_windows_are_above_chance(tmp_path: Path) -> None:
    """Preset null: labels have nothing to do with the signals, but windows of one trial are alike."""
    store = people_without("null", 16, 4, tmp_path)
    p = p_by_split(store, answers_by_split(store, TREES, dict.fromkeys(PROTOCOLS, 5)))
    assert p["random"] <= CHANCE_P
    assert all(p[name] > CHANCE_P for name in ("trial", "people", "stimuli")), p


@pytest.mark.deep
def test_where_only_stimuli_show_people_who_saw_them_before_pass_for_emotion(tmp_path: Path) -> None:
    """Preset null-stimulus: unseen trials and people, but stimuli that the model knows; with unseen ones, chance.

    Everybody saw each stimulus twice, so that one time can be trained on where the other is tested.
    """
    store = people_without("null-stimulus", 16, 4, tmp_path, n_views=2)
    p = p_by_split(store, answers_by_split(store, TREES, dict.fromkeys(PROTOCOLS, 5)))
    assert p["stimuli"] > CHANCE_P
    assert all(p[name] <= CHANCE_P for name in ("random", "trial", "people")), p


@pytest.mark.deep
def test_the_network_knows_trials_by_heart_where_nothing_shows(tmp_path: Path) -> None:
    """Preset null, windows that overlap as many papers have them: random windows alone are above chance."""
    store = people_without("null", 12, 1, tmp_path)
    answers = answers_by_split(store, EAGER, {"random": 1, "trial": 1, "people": 1, "stimuli": N_UNSEEN})
    p = p_by_split(store, answers)
    assert p["random"] <= CHANCE_P
    assert all(p[name] > CHANCE_P for name in ("trial", "people", "stimuli")), p
    assert says_something(answers)


@pytest.mark.deep
def test_the_network_takes_stimuli_for_emotions_until_they_are_unseen(tmp_path: Path) -> None:
    """Preset null-stimulus: unseen trials and people who saw the same stimuli are above chance; unseen ones are not."""
    store = people_without("null-stimulus", 12, 1, tmp_path)
    answers = answers_by_split(store, EAGER, {"random": 1, "trial": 1, "people": 1, "stimuli": N_UNSEEN})
    p = p_by_split(store, answers)
    assert p["stimuli"] > CHANCE_P
    assert all(p[name] <= CHANCE_P for name in ("random", "trial", "people")), p
    assert says_something(answers)
