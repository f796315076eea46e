"""Who trains, who validates, who tests: a split by people, so that nobody is on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.errors import SettingsError

TEST_SHARE, VALIDATION_SHARE = 0.25, 0.15
MIN_PEOPLE = 5  # fewer leave a side empty


@dataclass(frozen=True)
class PeopleSplit:
    """The participants' numbers of each side, disjoint."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split_people(numbers: Sequence[int], seed: int) -> PeopleSplit:
    """Return a random split of the participants with these numbers.

    Raises:
        SettingsError: There are too few of them.
    """
    n_people = len(numbers)
    if n_people < MIN_PEOPLE:
        raise SettingsError(f"at least {MIN_PEOPLE} people", str(n_people), "raise --people")
    people = np.random.default_rng(seed).permutation(numbers).tolist()
    n_test = max(1, round(TEST_SHARE * n_people))
    n_validation = max(1, round(VALIDATION_SHARE * n_people))
    return PeopleSplit(
        train=tuple(sorted(people[n_test + n_validation :])),
        validation=tuple(sorted(people[n_test : n_test + n_validation])),
        test=tuple(sorted(people[:n_test])),
    )
