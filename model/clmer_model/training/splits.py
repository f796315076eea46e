"""Splits of windows into training, validation and test set.

``draw_folds`` makes the folds of one of four kinds for ``clmer evaluate``, ``check_disjoint`` refuses a split whose
sets share a group, ``split_to_dict`` and ``split_from_dict`` keep it in a file. ``load_split_examples`` makes the split
by people of ``clmer train``.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from clmer_model.data.examples import Examples, concatenate
from clmer_model.data.sessions import UnlabelledWindows
from clmer_model.data.simulated import examples_of_people
from clmer_model.data.store import NO_STIMULUS, WindowStore, check_classes, digest, open_store
from clmer_model.training.distributed import rank, wait_for_ranks
from clmer_streaming.errors import DatasetError

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


_UNITS: Mapping[SplitKind, tuple[str, str]] = {
    "random": ("window", "windows"),
    "trial": ("trial", "trials"),
    "people": ("person", "people"),
    "stimuli": ("stimulus", "stimuli"),
}
"""What each kind keeps in one set, one and several."""


N_FOLDS = 5
VALIDATION_FOLDS = 7  # one of them is the validation set: about 15 % of the training groups, as in the paper
MIN_VALIDATION_GROUPS = 10  # of every class in training; with fewer all of them train, and nothing is chosen by them
SPLIT_SETS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a store that each set holds, in rising order.

    Example::

        for split in draw_folds(store, "people", seed=1):
            train = store.examples.take(split.train)
    """

    protocol: SplitKind
    number: int  # of the fold, from 1; repeated partitions count on
    train: Rows
    validation: Rows  # may be empty
    test: Rows

    @property
    def by_set(self) -> dict[str, Rows]:
        """The rows of each set, by its name."""
        return {name: getattr(self, name) for name in SPLIT_SETS}


def draw_folds(
    store: WindowStore, protocol: SplitKind, seed: int, n_folds: int = N_FOLDS, repeat: int = 1
) -> list[Split]:
    """Return the folds of one partition: every window is in the test set of exactly one of them.

    Classes are spread evenly over the folds as far as whole groups allow (``StratifiedGroupKFold`` of scikit-learn).
    There are fewer folds than asked for where a class has fewer groups. The validation set is drawn from the training
    groups in the same way; it is empty where they are few.

    Args:
        store: The windows.
        protocol: Kind of split.
        seed: Of all partitions.
        n_folds: Number of folds, at least 2.
        repeat: Number of the partition, from 1; with the seed it decides what is drawn.

    Raises:
        DatasetError: The split cannot be computed from these windows.
    """
    if reason := reason_uncomputable(store, protocol):
        raise DatasetError(f"windows that can be divided by {protocol}", reason, "leave this split out")
    units, label = _units(store, protocol), store.examples.label
    k = min(n_folds, _most_folds(units, label))
    state = int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
    splits = []
    for number, (rest, test) in enumerate(_folds(units, label, k, state), start=(repeat - 1) * k + 1):
        validation = rest[_validation(units[rest], label[rest], state)]
        splits.append(Split(protocol, number, np.setdiff1d(rest, validation), validation, test))
        check_disjoint(splits[-1], store)
    return splits


def _folds(units: Rows, label: Rows, k: int, state: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield rising rows of training and test set for each of ``k`` folds; a fold without any window is left out."""
    alone = len(np.unique(units)) == len(units)
    folds = (StratifiedKFold if alone else StratifiedGroupKFold)(k, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for train, test in folds.split(label, label, None if alone else units):
            if len(train) and len(test):
                yield train.astype(np.int64), test.astype(np.int64)


def _validation(units: Rows, label: Rows, state: int) -> Rows:
    """Return the places of the validation set among training windows; none where groups are few."""
    if min(_counts(units, label).values()) < MIN_VALIDATION_GROUPS:
        return np.empty(0, dtype=np.int64)
    return next(_folds(units, label, VALIDATION_FOLDS, state))[1]


def check_disjoint(split: Split, store: WindowStore) -> None:
    """Check that windows are trained on and tested, and that no two sets share a group that must be unseen.

    Raises:
        DatasetError: Training or test set is empty, or two sets share something.
    """
    unseen: tuple[SplitKind, ...] = ("random",) if split.protocol == "random" else ("random", "trial", split.protocol)
    for name in ("train", "test"):
        if not split.by_set[name].size:
            raise DatasetError(f"windows for {name}", f"none, {split.protocol} split {split.number}", "draw it again")
    for protocol in unseen:
        groups = groups_of(store, protocol)
        parts = {name: np.unique(groups[rows]) for name, rows in split.by_set.items()}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if (shared := np.intersect1d(parts[one], parts[other])).size:
                what = f"{protocol} {_name(store, protocol, int(shared[0]))}"
                raise DatasetError(
                    expected=f"nothing shared between {one} and {other}",
                    found=f"{what} and {shared.size - 1} more in the {split.protocol} split {split.number}",
                    mend="draw the split again; a score of it would say nothing",
                )


def reason_uncomputable(store: WindowStore, protocol: SplitKind) -> str:
    """Return why a split cannot be computed from these windows; ``""`` where it can."""
    if protocol == "stimuli" and (store.stimulus == NO_STIMULUS).any():
        return "not computable: not every trial names its stimulus"
    units, label = _units(store, protocol), store.examples.label
    counts, several = _counts(units, label), _UNITS[protocol][1]
    if protocol == "stimuli" and _one_label_each(units, label) and max(counts.values()) == 1:
        return "not computable: the label is the stimulus"
    if len(np.unique(units)) < 2:
        together = " apart" if len(np.unique(groups_of(store, protocol))) > 1 else ""
        return f"not computable: unseen {several} need two{together}, there is one"
    if sum(n > 1 for n in counts.values()) < 2:
        return f"not computable: fewer than two classes have two {several} or more"
    return ""


def remarks(store: WindowStore, protocol: SplitKind) -> list[str]:
    """Return sentences on what a split that can be computed cannot show."""
    units, label = _units(store, protocol), store.examples.label
    counts, (one, several) = _counts(units, label), _UNITS[protocol]
    found = [
        f"class {store.labels[k]} has one {one}: where it is tested, nothing of it was trained on"
        for k, n in counts.items()
        if n == 1
    ]
    if (most := _most_folds(units, label)) < N_FOLDS:
        found.append(f"at most {most} folds: there are no more {several}, or no more of a class")
    if len(np.unique(units)) < len(np.unique(groups_of(store, protocol))):
        found.append(f"{several} who share a trial are in one fold")
    return found


def _most_folds(units: Rows, label: Rows) -> int:
    """Return how many folds these groups allow: as many as the smallest class with two or more has of its own."""
    if not _one_label_each(units, label):
        return len(np.unique(units))
    return min(n for n in _counts(units, label).values() if n > 1)


def _counts(units: Rows, label: Rows) -> dict[int, int]:
    """Return by class that occurs the number of groups that have a window of it."""
    return {int(k): len(np.unique(units[label == k])) for k in np.unique(label)}


def _one_label_each(units: Rows, label: Rows) -> bool:
    return sum(_counts(units, label).values()) == len(np.unique(units))


def _units(store: WindowStore, protocol: SplitKind) -> Rows:
    """Return for each window (n,) the groups that have to stay together: those that share a trial are one."""
    groups = groups_of(store, protocol)
    if protocol in ("random", "trial"):
        return groups
    _, group = np.unique(groups, return_inverse=True)
    _, trial = np.unique(store.examples.trial, return_inverse=True)
    n = int(group.max()) + 1
    size = n + int(trial.max()) + 1
    shared = coo_matrix((np.ones(len(group)), (group, n + trial)), shape=(size, size))
    component: Rows = connected_components(shared, directed=False)[1].astype(np.int64)
    return component[group]


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
    plain = {"protocol": split.protocol, "fold": split.number, "seed": seed, "store": store.key, "rows": rows}
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
        number = "fold" if "fold" in plain else "shuffle"  # either name, so that published files stay of use
        decided = {name: plain[name] for name in ("protocol", number, "seed", "store", "rows")}
        rows = {name: np.asarray(plain["rows"][name], dtype=np.int64) for name in SPLIT_SETS}
        known = plain["protocol"] in PROTOCOLS and plain["sha256"] == digest(decided)
        inside = all(((part >= 0) & (part < len(store.examples))).all() for part in rows.values())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"a split file {place}", str(error), "let clmer evaluate write it again") from error
    if plain["store"] != store.key:
        raise DatasetError(f"a split of store {store.key[:16]}", f"{plain['store']!s:.16} in {place}", "draw it again")
    if not known or not inside:
        raise DatasetError(f"rows with the hash that stands in {place}", "others", "let clmer evaluate write it again")
    split = Split(plain["protocol"], plain[number], **rows)
    check_disjoint(split, store)
    return split


@dataclass(frozen=True)
class PeopleSplit:
    """The numbers of the participants in each set."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


PEOPLE_TEST_SHARE, PEOPLE_VALIDATION_SHARE = 0.25, 0.15
MIN_PEOPLE = 5  # with fewer nobody can be spared from training


def split_people(numbers: Sequence[int], seed: int) -> PeopleSplit:
    """Return a random split of the participants with these numbers into disjoint sets.

    Of fewer than ``MIN_PEOPLE`` all are in the training set, and validation and test set are empty: such a model has no
    scores of its own, and ``clmer evaluate`` tells what can be told.
    """
    n_people = len(numbers)
    if n_people < MIN_PEOPLE:
        return PeopleSplit(tuple(sorted(numbers)), (), ())
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
    unlabelled: UnlabelledWindows | None = None  # that the contrastive stage sees beside the training set

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
        DatasetError: The store cannot be read, or its labels are no classes.
    """
    if config.store is not None:
        store = open_store(Path(config.store))
        check_classes(store)
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
