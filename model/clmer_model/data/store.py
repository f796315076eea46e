"""A window store on disk: one memory-mapped array per series and mask, and an index that describes them.

::

    STORE/index.json           settings, labels, people, stimuli, trials, recordings, what was left out
    STORE/windows-<key>/       series_eeg.npy, mask_eeg.npy, ..., label.npy, person.npy, trial.npy, stimulus.npy
    STORE/parts/               while it is being made: finished recordings

The key is the SHA-256 of everything that decides the arrays; another setting or another file gives another key.
``open_store`` reads a store, ``check_classes`` and ``check_labels`` refuse labels that are no classes, ``finish_store``
writes a store, ``FinishedRecordings`` lets ``clmer prepare`` resume.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_model.config import modality_specs
from clmer_model.data.examples import Examples
from clmer_model.data.sessions import SessionWindows
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtifactError, DatasetError

STORE_LAYOUT = 1
INDEX = "index.json"
NO_STIMULUS = -1
_MEND = "run clmer prepare again"


@dataclass(frozen=True, eq=False)
class WindowStore:
    """Labelled windows of many people, with the names behind their numbers.

    ``examples.person`` indexes ``people``, ``examples.trial`` indexes ``trials`` (of the whole store).

    Example::

        store = open_store(Path("build/store"))
        store.examples.series["eeg"].shape  # (n, C, T)
        store.people[store.examples.person[0]], store.labels[store.examples.label[0]]
    """

    examples: Examples  # arrays lie on disk
    stimulus: npt.NDArray[np.int64]  # (n,) into ``stimuli``; NO_STIMULUS where none is named
    labels: tuple[str, ...]
    people: tuple[str, ...]
    stimuli: tuple[str, ...]
    trials: tuple[str, ...]  # as "file, trial"
    preprocess: PreprocessConfig
    key: str
    trained_on: str  # what a model says of itself that learnt from it: "simulated", or the data set's name


def open_store(folder: Path) -> WindowStore:
    """Return the store that ``clmer prepare`` wrote; its arrays are memory-mapped.

    Raises:
        DatasetError: The folder holds none, or one that is incomplete.
    """
    index = read_index(folder)
    if index is None:
        raise DatasetError(f"a store of clmer prepare in {folder}", "no finished one", "clmer prepare --out STORE")
    try:
        arrays = load_arrays(folder / index["folder"])
        preprocess = PreprocessConfig.from_dict(index["preprocess"])
        series = {name: arrays[f"series_{name}"] for name in preprocess.modalities}
        mask = {name: arrays[f"mask_{name}"] for name in preprocess.modalities}
        store = WindowStore(
            examples=Examples(series, mask, arrays["label"], arrays["person"], arrays["trial"]),
            stimulus=arrays["stimulus"],
            labels=tuple(index["labels"]),
            people=tuple(index["people"]),
            stimuli=tuple(index["stimuli"]),
            trials=tuple(index["trials"]),
            preprocess=preprocess,
            key=index["key"],
            trained_on=index["trained_on"],
        )
    except (OSError, KeyError, TypeError, ValueError, ArtifactError) as error:
        found = str(error).strip().splitlines()[0]
        raise DatasetError(f"a whole store of this version of clmer in {folder}", found, _MEND) from error
    _check_shapes(store, folder)
    return store


def _check_shapes(store: WindowStore, folder: Path) -> None:
    n = len(store.examples)
    for spec in modality_specs(store.preprocess):
        shapes = store.examples.series[spec.name].shape, store.examples.mask[spec.name].shape
        if shapes != ((n, *spec.shape), (n, spec.n_masked)):
            raise DatasetError(f"{n} windows of {spec.name} {spec.shape} in {folder}", f"{shapes}", _MEND)


MAX_NUMBERED_CLASSES = 16
"""Most classes whose labels are numbers; more are taken for ratings."""


def check_classes(store: WindowStore) -> None:
    """Check that the windows have labels of two classes or more, so that there is something to learn.

    Raises:
        DatasetError: All have the same label, or the labels are no classes.
    """
    check_labels([store.labels[k] for k in np.unique(store.examples.label)], f"store {store.key[:16]}")


def check_labels(names: Sequence[str], place: str) -> None:
    """Check that labels which occur are two classes or more, and neither missing nor ratings.

    Args:
        names: The different labels.
        place: Where they are from, for error messages.

    Raises:
        DatasetError: They are not.
    """
    if missing := [name for name in names if name.strip() in ("", "nan", "NaN", "None", "<NA>", "NaT")]:
        raise DatasetError(f"a label for each window in {place}", f"{missing[0]!r}", "label these windows or drop them")
    numbers = _numbers(names)
    if any(not number.is_integer() for number in numbers) or len(numbers) > MAX_NUMBERED_CLASSES:
        raise DatasetError(
            expected=f"classes as labels in {place}",
            found=f"{len(numbers)} different numbers such as {', '.join(sorted(names, key=float)[:4])}: ratings",
            mend="cut the ratings into classes, e.g. numpy.where(valence > 5, 'HV', 'LV')",
        )
    if len(names) < 2:
        found = f"{names[0]!r} alone" if names else "none"
        raise DatasetError(f"two classes or more in {place}", found, "add windows of another class: one has no score")


def _numbers(names: Sequence[str]) -> list[float]:
    """Return the labels as numbers; none if any is a word."""
    try:
        return [float(name) for name in names]
    except ValueError:
        return []


def read_index(folder: Path) -> dict[str, Any] | None:
    """Return the index of a finished store; None where there is none.

    Raises:
        DatasetError: It has another layout, or is not an index.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        layout = index["layout"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"the index of a store in {path}", str(error), "choose another --out folder") from error
    if layout != STORE_LAYOUT:
        raise DatasetError(f"layout {STORE_LAYOUT} in {path}", str(layout), "choose another --out folder")
    return index


def load_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Return every array of a folder by name, memory-mapped copy-on-write."""
    return {path.stem: np.load(path, mmap_mode="c", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


PARTS = "parts"
PART_SUMMARY = "told.json"


class FinishedRecordings:
    """Recordings that need no further work: parts of an interrupted run, or rows of the existing store."""

    def __init__(self, out: Path, index: Mapping[str, Any] | None) -> None:
        self._folder = out / PARTS
        self._stored = (
            {} if index is None else {summary["part"]: summary for summary in index["recordings"] if "part" in summary}
        )
        self._arrays = load_arrays(out / index["folder"]) if index is not None else {}

    def has(self, key: str) -> bool:
        """Return whether the recording with this key is finished."""
        return key in self._stored or (self._folder / key / PART_SUMMARY).is_file()

    def add(self, key: str, made: SessionWindows, sha256: str) -> None:
        """Save a finished recording with this hash; its folder is written completely or not at all."""
        unfinished = self._folder / f"{key}.{os.getpid()}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, values in _arrays_of(made).items():
            np.save(unfinished / f"{name}.npy", values)
        summary = {"left_out": dict(made.left_out), "notes": list(made.notes), "simulated": made.simulated}
        write_json(unfinished / PART_SUMMARY, {**summary, "windows": len(made), "sha256": sha256})
        shutil.rmtree(self._folder / key, ignore_errors=True)
        unfinished.replace(self._folder / key)

    def part(self, key: str) -> Part:
        """Return a finished recording, from the store or from the parts."""
        if key in self._stored:
            summary = self._stored[key]
            rows = slice(*summary["rows"])
            return Part({name: values[rows] for name, values in self._arrays.items()}, summary)
        summary = json.loads((self._folder / key / PART_SUMMARY).read_text(encoding="utf-8"))
        return Part(load_arrays(self._folder / key), summary)


@dataclass(frozen=True, eq=False)
class Part:
    """A finished recording: its arrays, and its summary for the index."""

    arrays: Mapping[str, npt.NDArray[Any]]
    summary: Mapping[str, Any]


def _arrays_of(made: SessionWindows) -> dict[str, npt.NDArray[Any]]:
    series = {f"series_{name}": values for name, values in made.series.items()}
    mask = {f"mask_{name}": values for name, values in made.mask.items()}
    return {**series, **mask, "place": made.trial, "t_end": made.t_end}


def finish_store(
    out: Path, plain: Mapping[str, Any], pieces: Mapping[str, Sequence[npt.NDArray[Any]]]
) -> dict[str, Any]:
    """Write the arrays, then the index that names them, then remove what they replace; return the index."""
    folder = out / f"windows-{plain['key'][:16]}"
    unfinished = out / f"{folder.name}.{os.getpid()}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, parts in pieces.items():
        _write_array(unfinished / f"{name}.npy", parts)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)
    index = {"layout": STORE_LAYOUT, "folder": folder.name, **plain}
    write_json(out / INDEX, index)
    for old in out.glob("windows-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    return index


def _write_array(path: Path, parts: Sequence[npt.NDArray[Any]]) -> None:
    n, first = sum(len(part) for part in parts), parts[0]
    shape = (n, *first.shape[1:])
    target: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="w+", dtype=first.dtype, shape=shape)  # type: ignore[no-untyped-call]
    at = 0
    for part in parts:
        target[at : at + len(part)] = part
        at += len(part)


def count_left_out(index: Mapping[str, Any]) -> dict[str, int]:
    """Return by reason how many windows of all recordings were left out, most first."""
    total: Counter[str] = Counter()
    for recording in index["recordings"]:
        total.update(recording["left_out"])
    return dict(total.most_common())


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """Write JSON so that the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    unfinished.write_text(json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def digest(plain: object) -> str:
    """Return the SHA-256 of the canonical JSON of plain values, in hex digits."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_names(names: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the distinct names in order, and the index of each name among them."""
    known, number = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return tuple(known.tolist()), number.astype(np.int64)
