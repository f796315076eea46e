"""The four ways to divide windows into training, validation and test, and a guard that refuses a shared group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from clmer_model.data.examples import Examples, concatenate
from clmer_model.data.simulated import examples_of_people
from clmer_model.data.store import NO_STIMULUS, WindowStore, digest, open_store
from clmer_model.training.distributed import rank, wait_for_all
from clmer_streaming.errors import DatasetError, SettingsError

if TYPE_CHECKING:
    from clmer_model.training.config import TrainConfig


Rows = npt.NDArray[np.int64]
SplitKind = Literal["random", "trial", "people", "stimuli"]

PROTOCOLS: Mapping[SplitKind, str] = {
    "random": "random windows: as the paper does; leaks",
    "trial": "unseen trials of known people",
    "people": "unseen people",
    "stimuli": "unseen stimuli",
}
"""What each split asks of a model."""

TEST_SHARE = VALIDATION_SHARE = 0.15  # of the groups; the paper divides 70, 15, 15
SIDES = ("train", "validation", "test")
_FEWEST = len(SIDES)


@dataclass(frozen=True, eq=False)
class Split:
    """The windows of each side, in rising order."""

    protocol: SplitKind
    shuffle: int  # which of the shuffles, from 1
    train: Rows
    validation: Rows
    test: Rows

    @property
    def sides(self) -> dict[str, Rows]:
        """The rows by side."""
        return {side: getattr(self, side) for side in SIDES}


def groups_of(store: WindowStore, protocol: SplitKind) -> Rows:
    """Return the group of each window (n,), which a split keeps together."""
    match protocol:
        case "random":
            return np.arange(len(store.examples), dtype=np.int64)
        case "trial":
            return store.examples.trial
        case "people":
            return store.examples.person
        case "stimuli":
            return store.stimulus


def why_not(store: WindowStore, protocol: SplitKind) -> str:
    """Return why a split cannot be computed from these windows; ``""`` where it can."""
    groups, label = groups_of(store, protocol), store.examples.label
    if protocol == "stimuli" and (groups == NO_STIMULUS).any():
        return "not computable: not every trial names its stimulus"
    strata = _strata(groups, label)
    if protocol == "stimuli" and strata is not None and np.bincount(strata[1]).max() == 1:
        return "not computable: the label is the stimulus"
    if strata is None:
        n = len(np.unique(groups))
        return "" if n >= _FEWEST else f"not computable: {n} groups, {_FEWEST} are needed"
    for k in np.unique(strata[1]):
        n = int((strata[1] == k).sum())
        if n < _FEWEST:
            return f"not computable: {store.labels[k]} has {n} of {_FEWEST} groups that are needed"
    return ""


def draw_split(store: WindowStore, protocol: SplitKind, shuffle: int, seed: int) -> Split:
    """Return the split of this number; where each group has one label, every side has groups of each.

    Raises:
        DatasetError: The split cannot be computed from these windows.
    """
    if reason := why_not(store, protocol):
        raise DatasetError(f"windows that can be divided by {protocol}", reason, "leave this split out")
    groups, label = groups_of(store, protocol), store.examples.label
    names, strata = _strata(groups, label) or (np.unique(groups), np.zeros(len(np.unique(groups)), dtype=np.int64))
    rng = np.random.default_rng([seed, shuffle])
    sides: dict[str, list[int]] = {side: [] for side in SIDES}
    for k in np.unique(strata):
        drawn = rng.permutation(names[strata == k]).tolist()
        n_test, n_validation = (max(1, round(share * len(drawn))) for share in (TEST_SHARE, VALIDATION_SHARE))
        sides["test"] += drawn[:n_test]
        sides["validation"] += drawn[n_test : n_test + n_validation]
        sides["train"] += drawn[n_test + n_validation :]
    rows = {side: np.flatnonzero(np.isin(groups, chosen)) for side, chosen in sides.items()}
    split = Split(protocol, shuffle, **rows)
    guard(split, store)
    return split


def guard(split: Split, store: WindowStore) -> None:
    """Refuse a split in which a window, or a group that must be unseen, is on two sides, or a side is empty.

    Raises:
        DatasetError: It is so.
    """
    unseen: tuple[SplitKind, ...] = ("random",) if split.protocol == "random" else ("random", "trial", split.protocol)
    for side, rows in split.sides.items():
        if not rows.size:
            raise DatasetError(f"windows for {side}", f"none, {split.protocol} split {split.shuffle}", "draw it again")
    for protocol in unseen:
        groups = groups_of(store, protocol)
        parts = {side: np.unique(groups[rows]) for side, rows in split.sides.items()}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if (shared := np.intersect1d(parts[one], parts[other])).size:
                what = f"{protocol} {_name(store, protocol, int(shared[0]))}"
                raise DatasetError(
                    expected=f"nothing shared between {one} and {other}",
                    found=f"{what} and {shared.size - 1} more in the {split.protocol} split {split.shuffle}",
                    mend="draw the split again; a score of it would say nothing",
                )


def _strata(groups: Rows, label: Rows) -> tuple[Rows, Rows] | None:
    """Return the groups and their labels; None where a group has windows of several labels."""
    names, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    of_group = label[first]
    return (names, of_group) if bool((of_group[inverse] == label).all()) else None


def _name(store: WindowStore, protocol: SplitKind, number: int) -> str:
    names: Mapping[SplitKind, tuple[str, ...]] = {
        "trial": store.trials,
        "people": store.people,
        "stimuli": store.stimuli,
    }
    return names[protocol][number] if protocol in names else f"window {number}"


def split_to_dict(split: Split, store: WindowStore, seed: int) -> dict[str, Any]:
    """Return a split as plain JSON values, with the store it belongs to and a hash over its rows."""
    rows = {side: values.tolist() for side, values in split.sides.items()}
    groups = groups_of(store, split.protocol)
    named = {
        side: [_name(store, split.protocol, int(number)) for number in np.unique(groups[values])]
        for side, values in split.sides.items()
        if split.protocol != "random"
    }
    plain = {"protocol": split.protocol, "shuffle": split.shuffle, "seed": seed, "store": store.key, "rows": rows}
    return {**plain, "groups": named, "sha256": digest(plain)}


def split_from_dict(plain: dict[str, Any], store: WindowStore, place: str) -> Split:
    """Return the split that ``split_to_dict`` wrote, guarded.

    Args:
        plain: What was read.
        store: The windows to divide.
        place: The file, for errors.

    Raises:
        DatasetError: It is of another store, was altered, or shares a group between sides.
    """
    try:
        decided = {name: plain[name] for name in ("protocol", "shuffle", "seed", "store", "rows")}
        rows = {side: np.asarray(plain["rows"][side], dtype=np.int64) for side in SIDES}
        known = plain["protocol"] in PROTOCOLS and plain["sha256"] == digest(decided)
        inside = all(((part >= 0) & (part < len(store.examples))).all() for part in rows.values())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"a split file {place}", str(error), "let clmer evaluate write it again") from error
    if plain["store"] != store.key:
        raise DatasetError(f"a split of store {store.key[:16]}", f"{plain['store']!s:.16} in {place}", "draw it again")
    if not known or not inside:
        raise DatasetError(f"rows with the hash that stands in {place}", "others", "let clmer evaluate write it again")
    split = Split(plain["protocol"], plain["shuffle"], **rows)
    guard(split, store)
    return split


PEOPLE_TEST_SHARE, PEOPLE_VALIDATION_SHARE = 0.25, 0.15
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
    n_test = max(1, round(PEOPLE_TEST_SHARE * n_people))
    n_validation = max(1, round(PEOPLE_VALIDATION_SHARE * n_people))
    return PeopleSplit(
        train=tuple(sorted(people[n_test + n_validation :])),
        validation=tuple(sorted(people[n_test : n_test + n_validation])),
        test=tuple(sorted(people[:n_test])),
    )


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
