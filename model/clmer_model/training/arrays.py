"""A window store from plain NumPy arrays, for windows that were made elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_model.modalities import modality_specs
from clmer_model.training.ratings import ordered_labels
from clmer_model.training.store import NO_STIMULUS, STORE_LAYOUT, digest, file_digest, numbered
from clmer_model.training.store_writer import finish_store
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import DatasetError


def prepare_arrays(path: Path, out: Path, preprocess: PreprocessConfig) -> dict[str, Any]:
    """Make the store of windows in a file of NumPy (.npz); return its index.

    Arrays are ``label``, ``person``, ``trial`` (n,), ``stimulus`` (n,) where there are stimuli, and one for each
    modality: ``eeg`` (n, C, T) in microvolts, ``landmarks`` (n, F, 68, 3), ``aus`` (n, F, 17, 2), ``gaze`` (n, F, 2).
    ``mask_eeg`` (n, C) and so on say what was measured; without one, everything that is finite was.

    Args:
        path: The file.
        out: Folder of the store.
        preprocess: What the service shall do to make such windows: the arrays must have been made like that.

    Raises:
        DatasetError: An array is missing or does not fit the settings.
    """
    given = _read(path)
    n = len(given["label"])
    words = {name: given[name].astype(str).tolist() for name in ("label", "person", "trial")}
    labels = ordered_labels(words["label"])
    people, person = numbered(words["person"])
    trials, trial = numbered([f"{who}, {which}" for who, which in zip(words["person"], words["trial"], strict=True)])
    stimuli, stimulus = _stimuli(given, n)
    pieces: dict[str, npt.NDArray[Any]] = {"person": person, "trial": trial, "stimulus": stimulus}
    pieces["label"] = np.array([labels.index(label) for label in words["label"]])
    for spec in modality_specs(preprocess):
        pieces[f"series_{spec.name}"], pieces[f"mask_{spec.name}"] = _series(given, spec.name, (n, *spec.shape), path)
    sha = file_digest(path)
    plain = {
        "key": digest([STORE_LAYOUT, "arrays", sha, preprocess.to_dict()]),
        "dataset": "arrays",
        "trained_on": path.stem,
        "preprocess": preprocess.to_dict(),
        "every": 1,
        "labels": list(labels),
        "people": list(people),
        "stimuli": list(stimuli),
        "trials": list(trials),
        "unused_columns": [],
        "recordings": [{"file": path.name, "windows": n, "trials": len(trials), "left_out": {}, "notes": []}],
    }
    return finish_store(out, plain, {name: [values] for name, values in pieces.items()})


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the file, all of one length."""
    try:
        with np.load(path, allow_pickle=False) as file:
            given = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f"a file of arrays {path}", str(error), "write it with numpy.savez") from error
    for name in ("label", "person", "trial"):
        if name not in given:
            raise DatasetError(f"an array {name!r} in {path}", ", ".join(given) or "nothing", "add it")
    lengths = {name: values.shape[0] if values.ndim else 0 for name, values in given.items()}
    if len(set(lengths.values())) != 1 or not lengths["label"]:
        raise DatasetError(f"arrays of one length in {path}", f"{lengths}", "give one entry for each window")
    return given


def _stimuli(given: Mapping[str, npt.NDArray[Any]], n: int) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if "stimulus" not in given:
        return (), np.full(n, NO_STIMULUS, dtype=np.int64)
    return numbered(given["stimulus"].astype(str).tolist())


def _series(
    given: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], path: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return a series and its mask; what is masked is 0."""
    if name not in given:
        raise DatasetError(f"an array {name!r} in {path}", ", ".join(given), "add it, or name fewer with --modalities")
    if given[name].shape != shape:
        mend = "fit the array, or the settings (--window, --face-slots)"
        raise DatasetError(f"{name} {shape} in {path}", f"{given[name].shape}", mend)
    x = given[name].astype(np.float32)
    known: npt.NDArray[np.bool_] = np.isfinite(x).reshape(*shape[:2], math.prod(shape[2:])).all(2)
    mask = given.get(f"mask_{name}", known)
    if mask.shape != known.shape:
        raise DatasetError(f"mask_{name} {known.shape} in {path}", f"{mask.shape}", "give one entry for each row")
    known &= mask.astype(np.bool_)
    x[~known] = 0.0
    return x, known
