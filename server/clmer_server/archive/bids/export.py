"""Export of one session into a BIDS data set.

``export_bids`` writes EEG and events, the face, physiological signals, the list of recordings, and the predictions as
a derivative, in this order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clmer_server.archive.bids.eeg import (
    EVENT_COLUMNS,
    RegularSignal,
    bids_events,
    channel_table,
    check_mne,
    edf_content,
    eeg_channels,
    eeg_sidecar,
    event_table,
    regular_signals,
    write_edf,
)
from clmer_server.archive.bids.layout import (
    BidsNames,
    BidsRun,
    add_participant,
    bids_label,
    bids_runs,
    prepare_dataset,
    run_at,
    write_error,
    write_json,
)
from clmer_server.archive.bids.motion import FaceTrack, face_files, write_faces
from clmer_server.archive.sessions import SessionFacts
from clmer_server.archive.tables import Table, tsv_text, window_table, write_gzip
from clmer_streaming.config import physio_source
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.types import FaceSample, Item, StreamInfo

_PHYSIO_KEYWORDS = ("ecg", "ekg", "eda", "gsr", "ppg", "bvp", "resp", "breath", "pulse", "heart", "temperature")
"""Keywords in the type or name of streams with a physiological signal."""


@dataclass(frozen=True)
class BidsOptions:
    """Options of an export."""

    task: str  # what the participant did, letters and digits
    landmarks: bool = False  # whether the face's landmarks are written, which can identify a person
    replace: bool = False  # whether a session that exists in the data set is replaced


def export_bids(facts: SessionFacts, root: Path, options: BidsOptions) -> list[Path]:
    """Write a session into a BIDS data set.

    Args:
        facts: The session.
        root: Folder of the data set; new, or one that earlier exports made.
        options: Task, and what is written.

    Returns:
        The files that were written.

    Raises:
        SettingsError: A library is not installed, an option is not valid, the folder cannot be used, or the session
            exists in the data set already.
        RecordingError: The session holds no EEG.
    """
    check_mne()
    if not options.task or bids_label(options.task) != options.task:
        raise SettingsError("--task of letters and digits", repr(options.task), "for example --task emotion")
    label = bids_label(facts.participant or "") or f"anon{bids_label(facts.stored.name)}"
    names = BidsNames(label, bids_label(facts.stored.name) or "1", options.task)
    prepare_dataset(root)
    if (root / names.session_folder).exists() and not options.replace:
        raise SettingsError(f"no {names.session_folder} in {root}", "one that is there", "--replace writes it anew")
    reader = SessionReader(facts.stored.recording)
    items = [
        item for item in reader.items() if not isinstance(item, FaceSample)
    ]  # faces are many and large, and are read again below
    runs = bids_runs(items, names, facts)
    try:
        add_participant(root, label, facts.participant)
        (root / names.session_folder / "eeg").mkdir(parents=True, exist_ok=True)
        written = [path for run in runs for path in _write_run(root, run, runs, facts)]
        faces = write_faces(root, runs, reader.items(), landmarks=options.landmarks)
        written += [path for track in faces for path in face_files(track)]
        written += [*_write_scans(root, runs, faces, facts), *_write_physio(root, runs, items, facts)]
        written += _write_predictions(root, names, runs, facts)
    except OSError as error:
        raise write_error(root, error) from error
    return [root / path for path in written]


def _write_run(root: Path, run: BidsRun, runs: Sequence[BidsRun], facts: SessionFacts) -> Iterator[Path]:
    names, signal = run.names, run.signal
    content = edf_content(signal, eeg_channels(signal.info))
    markers = [marker for marker in facts.contents.markers if run_at(marker.t, runs) is run]
    events = bids_events(signal, content.n_padded, markers)
    write_edf(content, events, facts.unix_of(signal.t0), root / names.eeg("eeg.edf"))
    write_json(root / names.eeg("eeg.json"), eeg_sidecar(content, signal, facts, names.task))
    (root / names.eeg("channels.tsv")).write_text(tsv_text(channel_table(content, facts)), encoding="utf-8")
    events_text = tsv_text(event_table(events, signal.sfreq))
    (root / names.eeg("events.tsv")).write_text(events_text, encoding="utf-8")
    write_json(root / names.eeg("events.json"), EVENT_COLUMNS)
    yield from map(names.eeg, ("eeg.edf", "eeg.json", "channels.tsv", "events.tsv", "events.json"))


def _write_scans(
    root: Path, runs: Sequence[BidsRun], faces: Sequence[FaceTrack], facts: SessionFacts
) -> Iterator[Path]:
    starts = [(run.names.eeg("eeg.edf"), run.signal.t0) for run in runs]
    starts += [(next(face_files(track)), track.t_first) for track in faces]
    rows = []
    for path, t0 in starts:
        unix = facts.unix_of(t0)
        acq_time = None if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        rows.append((path.relative_to(runs[0].names.session_folder).as_posix(), acq_time))
    scans = runs[0].names.scans()
    (root / scans).write_text(tsv_text(Table(("filename", "acq_time"), tuple(rows))), encoding="utf-8")
    yield scans


def _write_physio(root: Path, runs: Sequence[BidsRun], items: Sequence[Item], facts: SessionFacts) -> Iterator[Path]:
    slot_sources = _slot_sources(facts)
    infos = {item.source: item for item in items if isinstance(item, StreamInfo) and _is_physio(item)}
    infos = {source: info for source, info in infos.items() if source not in slot_sources}
    n_files: Counter[tuple[int | None, str]] = Counter()  # by run and label
    for source, info in infos.items():
        label = bids_label(info.type or info.name).lower() or "physio"
        for signal in regular_signals(items, source):
            run = run_at(signal.t0, runs)
            n_files[run.names.run, label] += 1
            number = n_files[run.names.run, label]
            yield from _write_series(root, run, signal, f"recording-{label}{'' if number == 1 else number}")


def _slot_sources(facts: SessionFacts) -> set[str]:
    """Return the sources of series on slots, which have no constant rate as BIDS requires of physio files."""
    preprocess = facts.contents.header.get("preprocess", {})
    return {physio_source(series["name"]) for series in preprocess.get("slot_series", [])}


def _is_physio(info: StreamInfo) -> bool:
    name = f"{info.type} {info.name}".lower()
    return info.kind == "physio" or (
        info.kind == "other" and info.sfreq > 0 and any(w in name for w in _PHYSIO_KEYWORDS)
    )


def _write_series(root: Path, run: BidsRun, signal: RegularSignal, entity: str) -> Iterator[Path]:
    columns = [name or f"channel{n}" for n, name in enumerate(signal.info.ch_names, start=1)]
    units = signal.info.units or (signal.info.unit,) * len(columns)
    sidecar: dict[str, Any] = {
        "SamplingFrequency": signal.sfreq,
        "StartTime": run.signal.seconds_of(signal.t0),
        "Columns": columns,
        "Manufacturer": signal.info.manufacturer or "n/a",
        **{name: {"Units": unit or "n/a"} for name, unit in zip(columns, units, strict=True)},
    }
    table = Table(tuple(columns), tuple(tuple(row) for row in signal.x.T.tolist()))
    write_json(root / run.names.eeg("physio.json", entity), sidecar)
    write_gzip(tsv_text(table, head=False), root / run.names.eeg("physio.tsv.gz", entity))
    yield from (run.names.eeg(ending, entity) for ending in ("physio.json", "physio.tsv.gz"))


def _write_predictions(root: Path, names: BidsNames, runs: Sequence[BidsRun], facts: SessionFacts) -> Iterator[Path]:
    """Write the predictions as a derivative; onsets count from the first sample of the first run."""
    if not facts.contents.predictions:
        return
    table = window_table(facts)
    start_column, end_column = table.columns.index("t_start"), table.columns.index("t_end")
    rows = []
    for row in table.rows:
        t_start, t_end = row[start_column], row[end_column]
        assert isinstance(t_start, float) and isinstance(t_end, float)
        rows.append((runs[0].signal.seconds_of(t_start), t_end - t_start, *row))
    path = Path("derivatives", "clmer") / names.eeg("predictions.tsv", "desc-clmer")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    text = tsv_text(Table(("onset", "duration", *table.columns), tuple(rows)))
    (root / path).write_text(text, encoding="utf-8")
    yield path
