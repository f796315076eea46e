"""A window store on disk: one memory-mapped array per series and mask, and an index that says what they are.

::

    STORE/index.json           settings, labels, people, stimuli, trials, recordings, what was left out
    STORE/windows-<key>/       series_eeg.npy, mask_eeg.npy, ..., label.npy, person.npy, trial.npy, stimulus.npy
    STORE/parts/               while it is being made: finished recordings

The key is the SHA-256 of everything that decides the arrays; whoever changes a setting or a file gets another key.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_model.modalities import modality_specs
from clmer_model.training.examples import Examples
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtefactError, DatasetError

STORE_LAYOUT = 1
INDEX = "index.json"
NO_STIMULUS = -1
_MEND = "run clmer prepare again"


@dataclass(frozen=True, eq=False)
class WindowStore:
    """Labelled windows of many people, and the names behind their numbers.

    ``examples.person`` counts through ``people``, ``examples.trial`` through ``trials`` (of the whole store).
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
    """Return the store that ``clmer prepare`` wrote.

    Raises:
        DatasetError: The folder holds none, or one that is not whole.
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
    except (OSError, KeyError, TypeError, ValueError, ArtefactError) as error:
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


def read_index(folder: Path) -> dict[str, Any] | None:
    """Return the index of a finished store; None where there is none.

    Raises:
        DatasetError: It is of another layout, or no index.
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
    """Return every array of a folder by name, memory-mapped; what is written to them stays in memory."""
    return {path.stem: np.load(path, mmap_mode="c", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


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


def numbered(names: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the different names in order, and for each name its number among them."""
    known, number = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return tuple(known.tolist()), number.astype(np.int64)
