"""Simulated people as a window store in memory, which knows the stimulus of every trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clmer_model.training.examples import Examples, concatenate
from clmer_model.training.simulated import PersonRecipe, examples_of_person
from clmer_model.training.store import WindowStore, digest
from clmer_streaming.sources.simulation.trials import QUADRANTS, STIMULI_PER_QUADRANT, plan_trials

STIMULI = tuple(f"{label}-{k + 1}" for label in QUADRANTS for k in range(STIMULI_PER_QUADRANT))
"""What simulated people are shown, by number."""


def simulated_store(recipes: Sequence[PersonRecipe], cache: Path) -> WindowStore:
    """Return the windows of these people, from the cache where it holds them.

    Args:
        recipes: One for each person, alike but for the person.
        cache: Folder in which each person's examples are kept.
    """
    parts: list[Examples] = []
    stimuli: list[int] = []
    trials: list[str] = []
    for number, recipe in enumerate(recipes):
        examples = examples_of_person(recipe, cache)
        plan = {trial.id: trial for trial in plan_trials(recipe.simulation)}
        stimuli.extend(plan[trial].stimulus for trial in examples.trial.tolist())
        person = np.full_like(examples.person, number)
        parts.append(dataclasses.replace(examples, person=person, trial=examples.trial - 1 + len(trials)))
        trials.extend(f"{recipe.simulation.participant}, {trial}" for trial in plan)
    return WindowStore(
        examples=concatenate(parts),
        stimulus=np.asarray(stimuli, dtype=np.int64),
        labels=recipes[0].labels,
        people=tuple(str(recipe.simulation.participant) for recipe in recipes),
        stimuli=STIMULI,
        trials=tuple(trials),
        preprocess=recipes[0].preprocess,
        key=digest([recipe.key for recipe in recipes]),
        trained_on="simulated",
    )
