"""Simulated sessions of many people as a data set: recordings, ``manifest.csv`` and ``trials.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clmer_streaming.sources.simulation.recording import write_session
from clmer_streaming.sources.simulation.session import SimulatedSession

MANIFEST_HEAD = ("file", "participant", "session")
TRIALS_HEAD = ("file", "trial", "start", "stop", "label", "stimulus")


def write_dataset(sessions: Iterable[SimulatedSession], folder: Path) -> Iterator[Path]:
    """Write each session as a recording and yield its path; the tables come last.

    Args:
        sessions: One session of each person.
        folder: Where everything goes; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest, trials = [], []
    for session in sessions:
        person = f"S{session.config.participant:03d}"
        path = folder / f"{person}.xdf"
        write_session(session, path)
        manifest.append((path.name, person, "1"))
        trials.extend(_trials(session, path.name))
        yield path
    _write_table(folder / "manifest.csv", MANIFEST_HEAD, manifest)
    _write_table(folder / "trials.csv", TRIALS_HEAD, trials)


def _trials(session: SimulatedSession, file: str) -> list[tuple[str, ...]]:
    labels = [marker.label for marker in session.markers]
    pairs = zip(labels[::2], labels[1::2], strict=True)
    return [
        (file, str(trial.id), start, stop, trial.label, trial.stimulus_id)
        for trial, (start, stop) in zip(session.truth.trials, pairs, strict=True)
    ]


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
