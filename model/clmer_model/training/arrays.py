"""A window store from plain NumPy arrays, for windows that were made elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_model.modalities import modality_specs
from clmer_model.training.further_series import Request, SlotRequest, signal_settings, usual_channels
from clmer_model.training.ratings import ordered_labels
from clmer_model.training.store import NO_STIMULUS, STORE_LAYOUT, digest, file_digest, numbered
from clmer_model.training.store_writer import finish_store
from clmer_streaming.config import FurtherSeries, PreprocessConfig, SlotSeriesConfig
from clmer_streaming.errors import DatasetError

_LABELS = "channels_"  # and the name of a further series: an array of its channels' labels


def prepare_arrays(
    path: Path, out: Path, preprocess: PreprocessConfig, series: Sequence[Request] = ()
) -> dict[str, Any]:
    """Make the store of windows in a file of NumPy (.npz); return its index.

    Arrays are ``label``, ``person``, ``trial`` (n,), ``stimulus`` (n,) where there are stimuli, and one for each
    modality: ``eeg`` (n, C, T) in microvolts, ``landmarks`` (n, F, 68, 3), ``aus`` (n, F, 17, 2), ``gaze`` (n, F, 2).
    ``mask_eeg`` (n, C) and so on say what was measured; without one, everything that is finite was. Further signals are
    (n, C, T) at their own rate, further series on slots (n, F, C); ``channels_gsr`` (C,) holds the labels that their
    streams will have, and may be left out where those have none.

    Args:
        path: The file.
        out: Folder of the store.
        preprocess: What the service shall do to make such windows: the arrays must have been made like that.
        series: Further ones, on top of the modalities of ``preprocess``.

    Raises:
        DatasetError: An array is missing or does not fit the settings.
    """
    given, n = _read(path)
    preprocess = preprocess.with_further([_declare(request, given, path) for request in series])
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


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Return the arrays of the file, and the length that all of them have but the labels of channels."""
    try:
        with np.load(path, allow_pickle=False) as file:
            given = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f"a file of arrays {path}", str(error), "write it with numpy.savez") from error
    for name in ("label", "person", "trial"):
        if name not in given:
            raise DatasetError(f"an array {name!r} in {path}", ", ".join(given) or "nothing", "add it")
    of_windows = {name: values for name, values in given.items() if not name.startswith(_LABELS)}
    lengths = {name: values.shape[0] if values.ndim else 0 for name, values in of_windows.items()}
    if len(set(lengths.values())) != 1 or not lengths["label"]:
        raise DatasetError(f"arrays of one length in {path}", f"{lengths}", "give one entry for each window")
    return given, lengths["label"]


def _declare(request: Request, given: Mapping[str, npt.NDArray[Any]], path: Path) -> FurtherSeries:
    """Return the settings of a further series, with the channels that its array has."""
    x = _found(given, request.name, path)
    layout = "(windows, slots, channels)" if isinstance(request, SlotRequest) else "(windows, channels, times)"
    if x.ndim != 3:
        raise DatasetError(f"{request.name} {layout} in {path}", f"{x.shape}", "fit the array")
    if isinstance(request, SlotRequest):
        return SlotSeriesConfig(request.name, _channels(request.name, x.shape[2], given, path))
    return signal_settings(request, _channels(request.name, x.shape[1], given, path))


def _channels(name: str, n: int, given: Mapping[str, npt.NDArray[Any]], path: Path) -> tuple[str, ...]:
    labels = given.get(_LABELS + name)
    if labels is None:
        return usual_channels(name, n)
    ch_names = tuple(labels.astype(str).ravel().tolist())
    if len(ch_names) != n or len(set(ch_names) - {""}) != n:
        expected, found = f"{n} different labels in {_LABELS}{name} in {path}", f"{ch_names!r:.80}"
        raise DatasetError(expected, found, "fit the labels, or leave them out")
    return ch_names


def _stimuli(given: Mapping[str, npt.NDArray[Any]], n: int) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if "stimulus" not in given:
        return (), np.full(n, NO_STIMULUS, dtype=np.int64)
    return numbered(given["stimulus"].astype(str).tolist())


def _found(given: Mapping[str, npt.NDArray[Any]], name: str, path: Path) -> npt.NDArray[Any]:
    if name not in given:
        mend = "add it, or name fewer with --modalities, --physio and --slots"
        raise DatasetError(f"an array {name!r} in {path}", ", ".join(given), mend)
    return given[name]


def _series(
    given: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], path: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return a series and its mask; what is masked is 0."""
    found = _found(given, name, path)
    if found.shape != shape:
        mend = "fit the array, or the settings (--window, --face-slots, --physio-rate)"
        raise DatasetError(f"{name} {shape} in {path}", f"{found.shape}", mend)
    x = found.astype(np.float32)
    known: npt.NDArray[np.bool_] = np.isfinite(x).reshape(*shape[:2], math.prod(shape[2:])).all(2)
    mask = given.get(f"mask_{name}", known)
    if mask.shape != known.shape:
        raise DatasetError(f"mask_{name} {known.shape} in {path}", f"{mask.shape}", "give one entry for each row")
    known &= mask.astype(np.bool_)
    x[~known] = 0.0
    return x, known
