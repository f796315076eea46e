"""Where there is no emotion in the signals, honest splits end at chance and the random one does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest

from clmer_model.labels import LABELS_VA4
from clmer_model.training.comparison import Answers, compare
from clmer_model.training.examples import concatenate, make_examples
from clmer_model.training.learners import NeighbourLearner
from clmer_model.training.metrics import permutation_p
from clmer_model.training.protocols import PROTOCOLS, Protocol, Split, draw_split, groups_of
from clmer_model.training.store import WindowStore
from clmer_streaming.sources.simulator import SimulationConfig, simulate_cohort
from feature_store import in_memory
from model_windows import CONFIG

N_SHUFFLES = 5
CHANCE_P = 0.001


def simulated_store(preset: str, n_people: int = 16) -> WindowStore:
    """Return the windows of people who each saw all sixteen stimuli once."""
    parts, stimulus = [], []
    sessions = simulate_cohort(n_people, SimulationConfig(seed=1, preset=preset, trial_s=8.0, rest_s=1.0), n_trials=16)
    for session in sessions:
        person = session.config.participant
        examples = make_examples(session.items(64), CONFIG, LABELS_VA4, person=person, every=4)
        shown = {trial.id: trial.stimulus for trial in session.truth.trials}
        stimulus.append(np.array([shown[number] for number in examples.trial.tolist()]))
        parts.append(dataclasses.replace(examples, trial=examples.trial + 100 * person))
    together = concatenate(parts)
    names = [f"s{k}" for k in range(16)]
    store = in_memory(together.person, together.trial, np.concatenate(stimulus), together.label, stimuli=names)
    return dataclasses.replace(
        store,
        examples=together,
        labels=LABELS_VA4,
        trials=tuple(f"t{k}" for k in range(int(together.trial.max()) + 1)),
    )


def quietly(splits: Iterable[Split]) -> Iterable[Split]:
    return splits


def answers_for(store: WindowStore, protocols: Iterable[Protocol]) -> dict[Protocol, list[Answers]]:
    """Return the neighbours' answers with all modalities, five shuffles of each split."""
    splits = {name: [draw_split(store, name, k, seed=1) for k in range(1, N_SHUFFLES + 1)] for name in protocols}
    answers = compare(store, splits, NeighbourLearner(len(LABELS_VA4), sfreq=128.0), quietly)
    return {name: rows["all"] for name, rows in answers.items()}


def p_above_chance(store: WindowStore, protocol: Protocol, shuffles: Iterable[Answers]) -> float:
    """Return the p value of a permutation test: trials change labels within people; unseen stimuli change theirs."""
    dealt = []
    for one in shuffles:
        unit = groups_of(store, "stimuli" if protocol == "stimuli" else "trial")[one.rows]
        block = np.zeros_like(one.person) if protocol == "stimuli" else one.person
        dealt.append((one.truth, one.answer, unit, block))
    return permutation_p(dealt)


@pytest.mark.deep
def test_without_any_effect_only_random_windows_are_above_chance() -> None:
    """Preset null: labels have nothing to do with the signals, but windows of one trial are alike."""
    store = simulated_store("null")
    p = {name: p_above_chance(store, name, shuffles) for name, shuffles in answers_for(store, PROTOCOLS).items()}
    assert p["random"] <= CHANCE_P
    assert all(p[name] > CHANCE_P for name in ("trial", "people", "stimuli")), p


@pytest.mark.deep
def test_where_only_stimuli_show_people_who_saw_them_before_pass_for_emotion() -> None:
    """Preset null-stimulus: unseen people saw stimuli that the model knows. With unseen ones it is at chance."""
    store = simulated_store("null-stimulus")
    asked: tuple[Protocol, ...] = ("random", "people", "stimuli")
    p = {name: p_above_chance(store, name, shuffles) for name, shuffles in answers_for(store, asked).items()}
    assert p["stimuli"] > CHANCE_P
    assert all(p[name] <= CHANCE_P for name in ("random", "people")), p
