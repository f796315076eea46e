"""The windows that a training sees, by side of the split: who trains, who validates, who tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_model.training.examples import Examples, concatenate
from clmer_model.training.ranks import rank, wait_for_all
from clmer_model.training.simulated import examples_of_people
from clmer_model.training.splits import PeopleSplit, split_people
from clmer_model.training.store import digest, open_store

if TYPE_CHECKING:
    from clmer_model.training.train import TrainConfig

Progress = Callable[[Iterable[Examples], int], Iterable[Examples]]
"""Wraps an iterable of known length, to show how far it is."""


@dataclass(frozen=True)
class Sides:
    """The examples of the three sides of a split, and who is on them."""

    split: PeopleSplit  # disjoint in ``clmer train``; the splits of ``clmer evaluate`` may share people
    train: Examples
    validation: Examples
    test: Examples

    def n_windows(self) -> dict[str, int]:
        """Return the number of windows of each side."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def n_people(self) -> dict[str, int]:
        """Return the number of people of each side."""
        return {name: len(people) for name, people in dataclasses.asdict(self.split).items()}


def examples_key(config: TrainConfig) -> str:
    """Return what tells these windows from all others: the store's key, or a hash of how each person is simulated.

    Raises:
        DatasetError: The folder of the store holds none.
    """
    if config.store is not None:
        return open_store(Path(config.store)).key
    return digest([recipe.key for recipe in config.recipes()])


def make_sides(config: TrainConfig, cache: Path, progress: Progress) -> Sides:
    """Return everybody's examples, split by people; the first process simulates those that the cache lacks."""
    if config.store is not None:
        store = open_store(Path(config.store))
        return _split(store.examples, range(len(store.people)), config.seed)
    if rank() > 0:
        wait_for_all()
    recipes = config.recipes()
    everybody = concatenate(list(progress(examples_of_people(recipes, cache), len(recipes))))
    if rank() == 0:
        wait_for_all()
    return _split(everybody, config.people, config.seed)


def _split(everybody: Examples, people: range, seed: int) -> Sides:
    split = split_people(people, seed)
    return Sides(
        split=split,
        train=everybody.of_people(split.train),
        validation=everybody.of_people(split.validation),
        test=everybody.of_people(split.test),
    )
