"""A window store from recordings with their tables, file by file, so that it can be broken off and go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_model.training.further_series import Request, declare_series
from clmer_model.training.ratings import ordered_labels
from clmer_model.training.sessions import session_windows
from clmer_model.training.store import NO_STIMULUS, STORE_LAYOUT, digest, file_digest, read_index
from clmer_model.training.store_writer import FinishedRecordings, Part, finish_store, left_out_of
from clmer_model.training.tables import Recording, Tables, read_tables
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import DatasetError

Progress = Callable[[Iterable[Recording], int], Iterable[Recording]]
"""Wraps the recordings, whose number is known, to show how far it is."""


@dataclass(frozen=True)
class PrepareConfig:
    """What decides a store beside the files."""

    preprocess: PreprocessConfig
    every: int = 4  # keep each fourth window of a trial; with the usual hop they then do not overlap
    scheme: str | None = None  # by which ratings become labels; None: the column label, else va4
    series: tuple[Request, ...] = ()  # further ones, on top of the modalities of ``preprocess``

    @property
    def streams(self) -> dict[str, str]:
        """By further series: name or type of the stream that gives it."""
        return {request.name: request.stream for request in self.series}

    def with_series_of(self, tables: Tables) -> PrepareConfig:
        """Return the settings with every further series declared as the recordings have it.

        Raises:
            DatasetError: None has its stream.
        """
        if not self.series:
            return self
        videos = [recording.video for recording in tables.recordings if recording.video is not None]
        serialized = [path for path in videos if path.suffix.lower() == ".xdf"]
        found = declare_series(self.series, [*(recording.path for recording in tables.recordings), *serialized])
        return dataclasses.replace(self, preprocess=self.preprocess.with_further(found))


def prepare_sessions(root: Path, out: Path, config: PrepareConfig, progress: Progress) -> dict[str, Any]:
    """Make the store of a folder of recordings with their tables; return its index.

    Recordings that an earlier run finished, broken off or not, are taken over as they are.

    Raises:
        DatasetError: Tables or recordings cannot be read, or no window lies in a trial.
    """
    tables = read_tables(root, config.scheme)
    config = config.with_series_of(tables)
    hashes = {recording.name: file_digest(recording.path) for recording in tables.recordings}
    keys = {r.name: _part_key(r, hashes[r.name], tables, config) for r in tables.recordings}
    people = [(recording.name, recording.participant, recording.session) for recording in tables.recordings]
    said = [(trial.file, trial.trial, trial.label, trial.stimulus) for trial in tables.trials]
    key = digest([STORE_LAYOUT, sorted(keys.items()), people, said])
    index = read_index(out)
    if index is not None and index["key"] == key:
        return index
    earlier = FinishedRecordings(out, index)
    for recording in progress(tables.recordings, len(tables.recordings)):
        if not earlier.has(keys[recording.name]):
            made = session_windows(
                recording, tables.trials_of(recording), config.preprocess, config.every, config.streams
            )
            earlier.add(keys[recording.name], made, hashes[recording.name])
    parts = [earlier.part(keys[recording.name]) for recording in tables.recordings]
    plain = _session_index(root, tables, config, parts)
    recordings = [{**told, "part": keys[told["file"]], "sha256": hashes[told["file"]]} for told in plain["recordings"]]
    return finish_store(out, {**plain, "key": key, "recordings": recordings}, _session_arrays(tables, plain, parts))


def _part_key(recording: Recording, sha256: str, tables: Tables, config: PrepareConfig) -> str:
    """Return the hash of everything that decides the windows of a recording."""
    files = [sha256, recording.video and file_digest(recording.video)]
    reading = [recording.eeg_map, recording.eeg_unit, recording.video_offset_s, recording.rest_marker, recording.rest_s]
    places = [trial.place for trial in tables.trials_of(recording)]
    settings = [config.preprocess.to_dict(), config.every, config.streams]
    return digest([STORE_LAYOUT, *settings, files, reading, places])


def _session_index(root: Path, tables: Tables, config: PrepareConfig, parts: Sequence[Part]) -> dict[str, Any]:
    """Return everything that the index says of sessions, but the key."""
    told = _told(tables, parts)
    simulated = any(recording["simulated"] for recording in told)
    return {
        "dataset": "sessions",
        "trained_on": "simulated" if simulated else root.resolve().name,
        "preprocess": config.preprocess.to_dict(),
        "every": config.every,
        "physio": config.streams,
        "labels": list(ordered_labels(trial.label for trial in tables.trials)),
        "people": sorted({recording.participant for recording in tables.recordings}),
        "stimuli": sorted({trial.stimulus for trial in tables.trials if trial.stimulus}),
        "trials": [f"{trial.file}, {trial.trial}" for trial in tables.trials],
        "unused_columns": list(tables.unused),
        "recordings": told,
    }


def _told(tables: Tables, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return what the index says of each recording, and the rows of the store that are its own."""
    stops = np.cumsum([part.told["windows"] for part in parts]).tolist()
    return [
        {
            "file": recording.name,
            "participant": recording.participant,
            "session": recording.session,
            "trials": len(tables.trials_of(recording)),
            "rows": [stop - part.told["windows"], stop],
            **{name: part.told[name] for name in ("windows", "left_out", "notes", "simulated")},
        }
        for recording, part, stop in zip(tables.recordings, parts, stops, strict=True)
    ]


def _session_arrays(
    tables: Tables, plain: Mapping[str, Any], parts: Sequence[Part]
) -> dict[str, list[npt.NDArray[Any]]]:
    """Return by array its pieces, one per recording that has windows."""
    numbers = {id(trial): number for number, trial in enumerate(tables.trials)}
    stimuli = {name: number for number, name in enumerate(plain["stimuli"])}
    pieces: dict[str, list[npt.NDArray[Any]]] = {}

    def add(name: str, values: npt.NDArray[Any]) -> None:
        pieces.setdefault(name, []).append(values)

    for recording, part in zip(tables.recordings, parts, strict=True):
        if not part.told["windows"]:
            continue
        trials = tables.trials_of(recording)
        place = np.asarray(part.arrays["place"])
        for name, values in part.arrays.items():
            if name.startswith(("series_", "mask_")) or name in ("place", "t_end"):
                add(name, values)
        add("label", np.array([plain["labels"].index(trial.label) for trial in trials])[place])
        add("trial", np.array([numbers[id(trial)] for trial in trials])[place])
        add("stimulus", np.array([stimuli.get(trial.stimulus, NO_STIMULUS) for trial in trials])[place])
        add("person", np.full(len(place), plain["people"].index(recording.participant)))
    if not pieces:
        raise DatasetError("windows that lie wholly inside a trial", _why_none(plain), "see docs/training.md")
    return pieces


def _why_none(plain: Mapping[str, Any]) -> str:
    total = left_out_of(plain)
    notes = [note for recording in plain["recordings"] for note in recording["notes"]]
    return "none: " + "; ".join([*(f"{count} {reason}" for reason, count in total.items()), *notes[:3]])
