"""Writes a window store: finished recordings one by one, then the whole of it, each in one stroke."""

from __future__ import annotations

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

from clmer_model.training.sessions import SessionWindows
from clmer_model.training.store import INDEX, STORE_LAYOUT, load_arrays, write_json

PARTS = "parts"
TOLD = "told.json"


@dataclass(frozen=True, eq=False)
class Part:
    """A finished recording: its arrays, and what is told of it."""

    arrays: Mapping[str, npt.NDArray[Any]]
    told: Mapping[str, Any]


class FinishedRecordings:
    """Recordings that are done: in parts of a run that was broken off, or within the store that is there."""

    def __init__(self, out: Path, index: Mapping[str, Any] | None) -> None:
        self._folder = out / PARTS
        self._stored = {} if index is None else {told["part"]: told for told in index["recordings"] if "part" in told}
        self._arrays = load_arrays(out / index["folder"]) if index is not None else {}

    def has(self, key: str) -> bool:
        """Tell whether the recording with this key is done."""
        return key in self._stored or (self._folder / key / TOLD).is_file()

    def add(self, key: str, made: SessionWindows, sha256: str) -> None:
        """Keep a finished recording, which has this hash: the folder is there whole or not at all."""
        unfinished = self._folder / f"{key}.{os.getpid()}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, values in _arrays_of(made).items():
            np.save(unfinished / f"{name}.npy", values)
        told = {"left_out": dict(made.left_out), "notes": list(made.notes), "simulated": made.simulated}
        write_json(unfinished / TOLD, {**told, "windows": len(made), "sha256": sha256})
        shutil.rmtree(self._folder / key, ignore_errors=True)
        unfinished.replace(self._folder / key)

    def part(self, key: str) -> Part:
        """Return a finished recording, wherever it lies."""
        if key in self._stored:
            told = self._stored[key]
            rows = slice(*told["rows"])
            return Part({name: values[rows] for name, values in self._arrays.items()}, told)
        told = json.loads((self._folder / key / TOLD).read_text(encoding="utf-8"))
        return Part(load_arrays(self._folder / key), told)


def _arrays_of(made: SessionWindows) -> dict[str, npt.NDArray[Any]]:
    series = {f"series_{name}": values for name, values in made.series.items()}
    mask = {f"mask_{name}": values for name, values in made.mask.items()}
    return {**series, **mask, "place": made.trial, "t_end": made.t_end}


def finish_store(
    out: Path, plain: Mapping[str, Any], pieces: Mapping[str, Sequence[npt.NDArray[Any]]]
) -> dict[str, Any]:
    """Write the arrays, then the index that names them, then clear what they replace."""
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


def left_out_of(index: Mapping[str, Any]) -> dict[str, int]:
    """Return by reason how many windows of all recordings were left out, most first."""
    total: Counter[str] = Counter()
    for recording in index["recordings"]:
        total.update(recording["left_out"])
    return dict(total.most_common())
