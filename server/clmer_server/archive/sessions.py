"""Recorded sessions on disk: finding them, describing them, and listing them.

In reading order: ``StoredSession`` and how it is found by name, the log of its exports, ``SessionFacts`` and their
JSON values, the list of sessions with its cache beside each recording, printing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from clmer_server.archive.verify import VerificationStatus, recording_state, verification_status
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.recorder import SESSION_FILE, VIDEO_FILE
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.reader import RecordingContents, is_session_recording, read_contents
from clmer_streaming.types import StreamInfo

_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")  # of a session; never . or ..


@dataclass(frozen=True)
class StoredSession:
    """The folder of one recorded session.

    Example::

        for stored in find_sessions(Path("recordings")):
            print(stored.name, session_facts(stored).duration_s)
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the session."""
        return self.path.name

    @property
    def recording(self) -> Path:
        """Path of the XDF file with items and predictions."""
        return self.path / SESSION_FILE

    @property
    def videos(self) -> tuple[Path, ...]:
        """Paths of the camera's videos: none, one, or one for each start of the face process."""
        first = Path(VIDEO_FILE)
        more = sorted(self.path.glob(f"{first.stem}-*{first.suffix}"), key=lambda path: (len(path.name), path.name))
        return tuple(path for path in (self.path / first, *more) if path.is_file())

    @property
    def n_bytes(self) -> int:
        """Size in bytes of everything in the folder; of a link, its own size."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if path.is_symlink() or path.is_file())


def find_sessions(root: Path) -> list[StoredSession]:
    """Return the recorded sessions right below a folder, sorted by name; links are not followed.

    Args:
        root: Folder of recorded sessions.

    Raises:
        SettingsError: It is not a folder, or cannot be read.
    """
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if _NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
    except OSError as error:
        raise SettingsError(
            f"a folder of recorded sessions at {root}",
            error.strerror or repr(error),
            "name the folder given to --record: --root DIR",
        ) from error
    found = [StoredSession(root / name) for name in names]
    return [stored for stored in found if _has_recording(stored)]


def open_session(root: Path, name: str) -> StoredSession:
    """Return the recorded session of a name.

    Args:
        root: Folder of recorded sessions.
        name: Name of the session, which is that of its folder.

    Raises:
        SettingsError: The name is not valid, or there is no recorded session of this name.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            "a session's name: 1 to 64 letters, digits, dots, - and _", repr(name), "see clmer session list"
        )
    stored = StoredSession(root / name)
    if stored.path.is_symlink() or not stored.path.is_dir() or not _has_recording(stored):
        found = "a link, which is not followed" if stored.path.is_symlink() else "none"
        raise SettingsError(f"a recorded session at {stored.path}", found, "see clmer session list, or name --root DIR")
    return stored


def _has_recording(stored: StoredSession) -> bool:
    return not stored.recording.is_symlink() and is_session_recording(stored.recording)


EXPORTS_FILE = "exports.jsonl"


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Within the context, let only their owner read the files and folders that this process creates."""
    previous = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(previous)


def log_export(stored: StoredSession, kind: str, files: Sequence[Path]) -> None:
    """Append an export to the log in the session's folder; do nothing where the folder cannot be written to.

    Args:
        stored: The session.
        kind: Format of the export.
        files: Files that were written.
    """
    line = json.dumps({"unix_time": time.time(), "format": kind, "files": [str(path.resolve()) for path in files]})
    try:
        with (stored.path / EXPORTS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        return


def logged_exports(stored: StoredSession) -> list[dict[str, Any]]:
    """Return the logged exports, oldest first, without lines that cannot be read.

    Returns:
        For each export ``unix_time`` (s), ``format`` and ``files`` (absolute paths).
    """
    try:
        lines = (stored.path / EXPORTS_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(dict(json.loads(line)))
    return found


@dataclass(frozen=True)
class SessionFacts:
    """What a recorded session contains, and whether it was verified."""

    stored: StoredSession
    contents: RecordingContents
    verified: VerificationStatus

    @property
    def participant(self) -> str | None:
        """Pseudonym of the participant; None where none was given."""
        return header_text(self.contents.header, "participant")

    @property
    def consent_ref(self) -> str | None:
        """Reference to the consent; None where none was given."""
        return header_text(self.contents.header, "consent_ref")

    @property
    def unix_start(self) -> float:
        """Unix time in seconds at which the recording began."""
        return float(self.contents.header["clock"]["unix_time"])

    def unix_of(self, t: float) -> float | None:
        """Return the Unix time in seconds at ``t`` seconds of the LSL clock; None for a replay with old stamps."""
        clock = self.contents.header["clock"]
        live = self.contents.header.get("source") == "live"
        return float(clock["unix_time"]) + t - float(clock["lsl_time"]) if live else None

    @property
    def duration_s(self) -> float:
        """Seconds from the first sample to the end of the last window; 0 without windows."""
        predictions = self.contents.predictions
        return max(0.0, float(predictions[-1]["t_end"]) - self.contents.t0) if predictions else 0.0

    @property
    def valid_share(self) -> float | None:
        """Share of valid windows, 0 to 1; None without windows."""
        predictions = self.contents.predictions
        return sum(bool(p["valid"]) for p in predictions) / len(predictions) if predictions else None


def session_facts(stored: StoredSession) -> SessionFacts:
    """Return the description of a session; damaged predictions are left out and counted as lost.

    Raises:
        RecordingError: The recording cannot be read.
    """
    contents = read_contents(stored.recording)
    complete = [prediction for prediction in contents.predictions if _is_complete(prediction)]
    n_lost = contents.n_lost + len(contents.predictions) - len(complete)
    contents = dataclasses.replace(contents, predictions=complete, n_lost=n_lost)
    return SessionFacts(stored, contents, verification_status(stored.recording))


def _is_complete(prediction: dict[str, Any]) -> bool:
    """Return whether a prediction has all required fields; a later version may have added others."""
    try:
        EmotionEvent.model_validate(prediction)
    except ValidationError as error:
        return all(fault["type"] == "extra_forbidden" for fault in error.errors())
    return True


def header_text(header: Mapping[str, Any], name: str) -> str | None:
    """Return a text field of a recording's first record.

    Args:
        header: The first record.
        name: Name of the field; looked up in the record, then in its ``settings``.

    Returns:
        The text; None where the field is missing or empty.
    """
    value = header.get(name) or header.get("settings", {}).get(name)
    return str(value) if value else None


def facts_as_json(facts: SessionFacts) -> dict[str, Any]:
    """Return the entry of a session in the list of sessions, as plain JSON values."""
    return {
        "name": facts.stored.name,
        "participant": facts.participant,
        "consent_ref": facts.consent_ref,
        "unix_start": facts.unix_start,
        "source": header_text(facts.contents.header, "source"),
        "duration_s": facts.duration_s,
        "streams": [str(info.name) for info in facts.contents.streams.values()],
        "windows": len(facts.contents.predictions),
        "valid_share": facts.valid_share,
        "markers": len(facts.contents.markers),
        "verified": facts.verified,
        "closed": facts.contents.closed,
        "bytes": facts.stored.n_bytes,
        "video": [path.name for path in facts.stored.videos],
    }


def details_as_json(facts: SessionFacts) -> dict[str, Any]:
    """Return everything that ``clmer session show`` prints, as plain JSON values."""
    contents, model = facts.contents, facts.contents.header.get("model", {})
    reasons = Counter(reason for prediction in contents.predictions for reason in prediction["reasons"])
    return {
        **facts_as_json(facts),
        "purpose": header_text(contents.header, "purpose"),
        "folder": str(facts.stored.path),
        "clmer": contents.header.get("version"),
        "model": {name: model.get(name) for name in ("id", "sha256", "trained_on", "labels")},
        "lost_items": contents.n_lost,
        "streams": [_stream_as_json(info) for info in contents.streams.values()],
        "reasons": dict(reasons.most_common()),
        "labels": dict(Counter(p["label"] for p in contents.predictions if p["label"]).most_common()),
        "marker_labels": dict(Counter(marker.label for marker in contents.markers).most_common()),
        "exports": logged_exports(facts.stored),
    }


def _stream_as_json(info: StreamInfo) -> dict[str, Any]:
    return {
        "source": info.source,
        "kind": info.kind,
        "name": info.name,
        "channels": len(info.ch_names),
        "nominal_rate_hz": info.sfreq,
        "delay_s": info.delay_s,
    }


LISTING_FILE = "listing.json"


class RecordingSummary(BaseModel):
    """The part of a list entry that depends on the recording alone; it holds as long as that does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    participant: str | None
    consent_ref: str | None
    unix_start: float  # s
    source: str | None
    duration_s: float
    streams: tuple[str, ...]  # names
    windows: int
    valid_share: float | None
    markers: int
    closed: bool


class _ListingFile(BaseModel):
    """Content of ``listing.json`` beside the recording."""

    format: Literal[1] = 1  # a file of another format is replaced
    recording: list[int]  # recording_state when it was read
    session: RecordingSummary


def listing_entry(stored: StoredSession) -> dict[str, Any]:
    """Return the entry of a session in the list of sessions, as plain JSON values.

    It comes from ``recording_summary``, and is read anew where the recording has changed since.

    Raises:
        RecordingError: The recording cannot be read.
    """
    return {
        "name": stored.name,
        **recording_summary(stored).model_dump(mode="json"),
        "verified": verification_status(stored.recording),
        "bytes": stored.n_bytes,
        "video": [path.name for path in stored.videos],
    }


def recording_summary(stored: StoredSession) -> RecordingSummary:
    """Return the summary of a recording, from ``listing.json`` if that is current, else by reading the recording.

    A summary that was read is saved, unless the folder cannot be written to.

    Raises:
        RecordingError: The recording cannot be read.
    """
    saved = _read_listing(stored)
    if saved is not None:
        return saved
    state = recording_state(stored.recording)  # before it is read: it may grow meanwhile
    facts = facts_as_json(session_facts(stored))
    summary = RecordingSummary.model_validate({name: facts[name] for name in RecordingSummary.model_fields})
    with contextlib.suppress(OSError):
        text = _ListingFile(recording=state, session=summary).model_dump_json(indent=1)
        (stored.path / LISTING_FILE).write_text(text + "\n", encoding="utf-8")
    return summary


def _read_listing(stored: StoredSession) -> RecordingSummary | None:
    try:
        listing = _ListingFile.model_validate_json((stored.path / LISTING_FILE).read_text(encoding="utf-8"))
        return listing.session if listing.recording == recording_state(stored.recording) else None
    except (OSError, ValueError):
        return None


_COLUMNS = ("name", "participant", "start", "min:s", "from", "streams", "windows", "valid", "markers", "verified", "MB")


def print_table(sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print sessions as a table.

    Args:
        sessions: The entries, as ``listing_entry`` returns them.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS)
    for entry in sessions:
        table.add_row(*(Text(printable(cell)) for cell in _table_row(entry)))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(table)


def _table_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    minutes, seconds = divmod(round(entry["duration_s"]), 60)
    return (
        entry["name"],
        entry["participant"] or "-",
        _local_time(entry["unix_start"]),
        f"{minutes}:{seconds:02}",
        entry["source"] or "-",
        ", ".join([*entry["streams"], *(["video"] if entry["video"] else [])]),
        str(entry["windows"]),
        "-" if entry["valid_share"] is None else f"{100 * entry['valid_share']:.0f} %",
        str(entry["markers"]),
        entry["verified"],
        f"{entry['bytes'] / 1e6:.1f}",
    )


def _local_time(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))


def print_details(details: Mapping[str, Any]) -> None:
    """Print one session in detail.

    Args:
        details: The session, as ``details_as_json`` returns it.
    """
    for name, text in (*_detail_rows(details), *_stream_rows(details), *_export_rows(details)):
        print(f"{name:13} {printable(text)}")


def _detail_rows(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    share, model = details["valid_share"], details["model"]
    valid = "" if share is None else f", {100 * share:.1f} % valid"
    lost = f", {details['lost_items']} items are missing" if details["lost_items"] else ""
    closed = "closed in order" if details["closed"] else "not closed: it runs, or was broken off"
    yield "session", f"{details['name']} in {details['folder']}, {details['bytes'] / 1e6:.1f} MB"
    yield "participant", details["participant"] or "not named"
    yield "consent", details["consent_ref"] or "no reference given"
    yield "purpose", details["purpose"] or "not said"
    yield "start", f"{_local_time(details['unix_start'])}, {details['source']}, clmer {details['clmer']}"
    yield "duration", f"{details['duration_s']:.1f} s, {closed}{lost}"
    yield "video", ", ".join(details["video"]) or "none was kept"
    yield "model", f"{model['id']}, trained on {model['trained_on']}, SHA-256 {model['sha256']}"
    yield "verified", details["verified"]
    yield "windows", f"{details['windows']}{valid}"
    yield "labels", _counts(details["labels"])
    yield "reasons", _counts(details["reasons"])
    yield "markers", f"{details['markers']}: {_counts(details['marker_labels'])}"


def _stream_rows(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stream in details["streams"]:
        rate = f"{stream['nominal_rate_hz']:g} Hz" if stream["nominal_rate_hz"] else "irregular"
        delay = f", delay {stream['delay_s']:g} s" if stream["delay_s"] else ""
        yield f"  {stream['kind']}", f"{stream['name']}, {stream['channels']} channels, {rate}{delay}"


def _export_rows(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for export in details["exports"]:
        yield "exported", f"{export.get('format')}: {', '.join(export.get('files', []))}"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counted.items()) or "none"


def printable(text: object) -> str:
    """Return text with control characters replaced by spaces, since names and labels come from the network."""
    return "".join(char if char.isprintable() else " " for char in str(text))
