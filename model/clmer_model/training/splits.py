"""Splits of windows into training, validation and test set.

``draw_split`` makes one of four kinds for ``clmer evaluate``, ``check_disjoint`` refuses a split whose sets share a
group, ``split_to_dict`` and ``split_from_dict`` keep it in a file. ``load_split_examples`` makes the split by people of
``clmer train``.
"""

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
from clmer_model.training.distributed import rank, wait_for_ranks
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
"""Title of each kind of split: what it demands of a model."""


TEST_SHARE = VALIDATION_SHARE = 0.15  # of the groups; the paper divides 70, 15, 15
SPLIT_SETS = ("train", "validation", "test")
_FEWEST = len(SPLIT_SETS)


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a store that each set holds, in rising order.

    Example::

        split = draw_split(store, "people", shuffle=1, seed=1)
        train = store.examples.take(split.train)
    """

    protocol: SplitKind
    shuffle: int  # which of the shuffles, from 1
    train: Rows
    validation: Rows
    test: Rows

    @property
    def by_set(self) -> dict[str, Rows]:
        """The rows of each set, by its name."""
        return {name: getattr(self, name) for name in SPLIT_SETS}


def draw_split(store: WindowStore, protocol: SplitKind, shuffle: int, seed: int) -> Split:
    """Return a random split; where each group has one label, every set has groups of each label.

    Args:
        store: The windows.
        protocol: Kind of split.
        shuffle: Number of the split, from 1; with the seed it decides what is drawn.
        seed: Of all shuffles.

    Raises:
        DatasetError: The split cannot be computed from these windows.
    """
    if reason := reason_uncomputable(store, protocol):
        raise DatasetError(f"windows that can be divided by {protocol}", reason, "leave this split out")
    groups, label = groups_of(store, protocol), store.examples.label
    names, strata = _strata(groups, label) or (np.unique(groups), np.zeros(len(np.unique(groups)), dtype=np.int64))
    rng = np.random.default_rng([seed, shuffle])
    rows_of: dict[str, list[int]] = {name: [] for name in SPLIT_SETS}
    for k in np.unique(strata):
        drawn = rng.permutation(names[strata == k]).tolist()
        n_test, n_validation = (max(1, round(share * len(drawn))) for share in (TEST_SHARE, VALIDATION_SHARE))
        rows_of["test"] += drawn[:n_test]
        rows_of["validation"] += drawn[n_test : n_test + n_validation]
        rows_of["train"] += drawn[n_test + n_validation :]
    rows = {name: np.flatnonzero(np.isin(groups, chosen)) for name, chosen in rows_of.items()}
    split = Split(protocol, shuffle, **rows)
    check_disjoint(split, store)
    return split


def check_disjoint(split: Split, store: WindowStore) -> None:
    """Check that no set is empty and that no two sets share a window or a group that must be unseen.

    Raises:
        DatasetError: A set is empty, or two share something.
    """
    unseen: tuple[SplitKind, ...] = ("random",) if split.protocol == "random" else ("random", "trial", split.protocol)
    for name, rows in split.by_set.items():
        if not rows.size:
            raise DatasetError(f"windows for {name}", f"none, {split.protocol} split {split.shuffle}", "draw it again")
    for protocol in unseen:
        groups = groups_of(store, protocol)
        parts = {name: np.unique(groups[rows]) for name, rows in split.by_set.items()}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if (shared := np.intersect1d(parts[one], parts[other])).size:
                what = f"{protocol} {_name(store, protocol, int(shared[0]))}"
                raise DatasetError(
                    expected=f"nothing shared between {one} and {other}",
                    found=f"{what} and {shared.size - 1} more in the {split.protocol} split {split.shuffle}",
                    mend="draw the split again; a score of it would say nothing",
                )


def reason_uncomputable(store: WindowStore, protocol: SplitKind) -> str:
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


def groups_of(store: WindowStore, protocol: SplitKind) -> Rows:
    """Return the group of each window (n,), which this kind of split keeps in one set."""
    match protocol:
        case "random":
            return np.arange(len(store.examples), dtype=np.int64)
        case "trial":
            return store.examples.trial
        case "people":
            return store.examples.person
        case "stimuli":
            return store.stimulus


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
    """Return a split as plain JSON values, with the key of its store and a hash of its rows."""
    rows = {name: values.tolist() for name, values in split.by_set.items()}
    groups = groups_of(store, split.protocol)
    named = {
        name: [_name(store, split.protocol, int(number)) for number in np.unique(groups[values])]
        for name, values in split.by_set.items()
        if split.protocol != "random"
    }
    plain = {"protocol": split.protocol, "shuffle": split.shuffle, "seed": seed, "store": store.key, "rows": rows}
    return {**plain, "groups": named, "sha256": digest(plain)}


def split_from_dict(plain: dict[str, Any], store: WindowStore, place: str) -> Split:
    """Return the split that ``split_to_dict`` wrote, after ``check_disjoint``.

    Args:
        plain: The JSON values.
        store: The windows to split.
        place: Path of the file, for error messages.

    Raises:
        DatasetError: It belongs to another store, was altered, or two of its sets share a group.
    """
    try:
        decided = {name: plain[name] for name in ("protocol", "shuffle", "seed", "store", "rows")}
        rows = {name: np.asarray(plain["rows"][name], dtype=np.int64) for name in SPLIT_SETS}
        known = plain["protocol"] in PROTOCOLS and plain["sha256"] == digest(decided)
        inside = all(((part >= 0) & (part < len(store.examples))).all() for part in rows.values())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"a split file {place}", str(error), "let clmer evaluate write it again") from error
    if plain["store"] != store.key:
        raise DatasetError(f"a split of store {store.key[:16]}", f"{plain['store']!s:.16} in {place}", "draw it again")
    if not known or not inside:
        raise DatasetError(f"rows with the hash that stands in {place}", "others", "let clmer evaluate write it again")
    split = Split(plain["protocol"], plain["shuffle"], **rows)
    check_disjoint(split, store)
    return split


@dataclass(frozen=True)
class PeopleSplit:
    """The numbers of the participants in each set."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


PEOPLE_TEST_SHARE, PEOPLE_VALIDATION_SHARE = 0.25, 0.15
MIN_PEOPLE = 5  # fewer leave a set empty


def split_people(numbers: Sequence[int], seed: int) -> PeopleSplit:
    """Return a random split of the participants with these numbers into disjoint sets.

    Raises:
        SettingsError: There are fewer than ``MIN_PEOPLE``.
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


@dataclass(frozen=True)
class SplitExamples:
    """The examples of training, validation and test set, and the people in each."""

    split: PeopleSplit  # disjoint in ``clmer train``; the splits of ``clmer evaluate`` may share people
    train: Examples
    validation: Examples
    test: Examples

    def n_windows(self) -> dict[str, int]:
        """Return the number of windows in each set."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}

    def n_people(self) -> dict[str, int]:
        """Return the number of people in each set."""
        return {name: len(people) for name, people in dataclasses.asdict(self.split).items()}


Progress = Callable[[Iterable[Examples], int], Iterable[Examples]]
"""Wraps an iterable of known length, to display progress."""


def load_split_examples(config: TrainConfig, cache: Path, progress: Progress) -> SplitExamples:
    """Return everybody's examples, split by people; rank 0 simulates those that the cache lacks.

    Args:
        config: Settings of the training.
        cache: Folder in which the examples of each simulated person are kept.
        progress: Wraps the making of examples.

    Raises:
        DatasetError: The store cannot be read.
        SettingsError: There are too few people.
    """
    if config.store is not None:
        store = open_store(Path(config.store))
        return _split(store.examples, range(len(store.people)), config.seed)
    if rank() > 0:
        wait_for_ranks()
    recipes = config.recipes()
    everybody = concatenate(list(progress(examples_of_people(recipes, cache), len(recipes))))
    if rank() == 0:
        wait_for_ranks()
    return _split(everybody, config.people, config.seed)


def _split(everybody: Examples, people: range, seed: int) -> SplitExamples:
    split = split_people(people, seed)
    return SplitExamples(
        split=split,
        train=everybody.of_people(split.train),
        validation=everybody.of_people(split.validation),
        test=everybody.of_people(split.test),
    )


def examples_key(config: TrainConfig) -> str:
    """Return the key that identifies the windows: that of the store, or a hash of the recipes of all simulated people.

    Raises:
        DatasetError: The folder of the store holds none.
    """
    if config.store is not None:
        return open_store(Path(config.store)).key
    return digest([recipe.key for recipe in config.recipes()])
