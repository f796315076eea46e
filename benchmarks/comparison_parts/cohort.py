"""Whose windows train, choose and test: simulated people, nobody on two sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clmer_model.config import DEFAULT, LABELS_VA4
from clmer_model.data.examples import Examples, concatenate
from clmer_model.data.simulated import PersonRecipe, examples_of_people
from clmer_model.training.splits import PeopleSplit, SplitExamples
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.trials import session_seconds

Progress = Callable[[Iterable[Examples], int], Iterable[Examples]]
"""Wraps an iterable of known length, to show how far it is."""


@dataclass(frozen=True)
class Cohort:
    """Simulated people and their sessions; the same numbers are the same windows on every machine."""

    n_train: int = 24
    n_validation: int = 8  # choose learning rate, epoch and temperature, and between variants
    n_test: int = 16  # asked once, at the end
    n_trials: int = 24  # of each person, 12 s each
    preset: str = "realistic"  # effect sizes; see the simulator
    first_person: int = 3000  # far from the people whom the shipped model was trained on
    seed: int = 1
    every: int = 4  # keep every fourth window of a trial, which then do not overlap

    def split(self) -> PeopleSplit:
        """Return the people's numbers of each side. They are drawn alike, so that their order may divide them."""
        numbers = tuple(range(self.first_person, self.first_person + self.n_train + self.n_validation + self.n_test))
        known = self.n_train + self.n_validation
        return PeopleSplit(numbers[: self.n_train], numbers[self.n_train : known], numbers[known:])

    def recipes(self) -> list[PersonRecipe]:
        """Return how each person's windows are made: with the signal settings of preset ``default``."""
        split = self.split()
        session = SimulationConfig(seconds=session_seconds(self.n_trials), seed=self.seed, preset=self.preset)
        return [
            PersonRecipe(dataclasses.replace(session, participant=person), DEFAULT.preprocess, LABELS_VA4, self.every)
            for person in (*split.train, *split.validation, *split.test)
        ]

    def data(self, cache: Path, progress: Progress) -> SplitExamples:
        """Return everybody's windows by side; those that the cache lacks are simulated."""
        recipes = self.recipes()
        everybody = concatenate(list(progress(examples_of_people(recipes, cache), len(recipes))))
        split = self.split()
        return SplitExamples(
            split, *(everybody.of_people(getattr(split, side)) for side in ("train", "validation", "test"))
        )


def end_of_windows(data: SplitExamples, whole: PreprocessConfig, part: PreprocessConfig) -> SplitExamples:
    """Return the same windows cut to their end, so that every network answers for the same moments.

    Args:
        sides: Windows made with the settings ``whole``.
        whole: Their settings.
        part: Settings with a shorter window and one slot of the face, which becomes the mean of those it covers.
    """
    slots = round(whole.window.face_slots * part.window.window_s / whole.window.window_s)
    cut = (_cut(examples, part.n_times, slots) for examples in (data.train, data.validation, data.test))
    return SplitExamples(data.split, *cut)


def _cut(examples: Examples, n_times: int, slots: int) -> Examples:
    series, mask = dict(examples.series), dict(examples.mask)
    for name, values in examples.series.items():
        if name == "eeg":
            series[name] = np.ascontiguousarray(values[..., -n_times:])
        else:
            series[name], mask[name] = _mean_slot(values[:, -slots:], examples.mask[name][:, -slots:])
    return dataclasses.replace(examples, series=series, mask=mask)


def _mean_slot(
    values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the mean of the valid slots (n, 1, ...) and whether there was one (n, 1)."""
    weight = valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
    total = np.where(weight, values, 0.0).sum(1, keepdims=True)
    mean = total / np.maximum(weight.sum(1, keepdims=True), 1)
    return mean.astype(np.float32), valid.any(1, keepdims=True)
