"""Recorded sessions: folders of one root, found by name and described.

To be read in this order: folders and names, the files that were exported, the description of a session, lists of
sessions and what is kept for them, printing.
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

from clmer_server.archive.verify import Verified, recording_state, verified
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.recorder import SESSION_FILE, VIDEO_FILE
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.reader import RecordingContents, is_session_recording, read_contents
from clmer_streaming.types import StreamInfo

NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")
"""Pattern of a session's name; never ``.`` or ``..``."""


@dataclass(frozen=True)
class StoredSession:
    """The folder of one recorded session."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the session."""
        return self.path.name

    @property
    def recording(self) -> Path:
        """The recording: items and predictions, as XDF."""
        return self.path / SESSION_FILE

    @property
    def videos(self) -> tuple[Path, ...]:
        """The camera's pictures, where they were kept: one file, or more where the face process was started anew."""
        first = Path(VIDEO_FILE)
        more = sorted(self.path.glob(f"{first.stem}-*{first.suffix}"), key=lambda path: (len(path.name), path.name))
        return tuple(path for path in (self.path / first, *more) if path.is_file())

    @property
    def n_bytes(self) -> int:
        """Size of everything in the folder; links count as themselves."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if path.is_symlink() or path.is_file())


def find_sessions(root: Path) -> list[StoredSession]:
    """Return the recorded sessions right below a folder, by name; links are not followed.

    Raises:
        SettingsError: It is no folder.
    """
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
    except OSError as error:
        raise SettingsError(
            f"a folder of recorded sessions at {root}",
            error.strerror or repr(error),
            "name the folder given to --record: --root DIR",
        ) from error
    found = [StoredSession(root / name) for name in names]
    return [stored for stored in found if _holds_session(stored)]


def open_session(root: Path, name: str) -> StoredSession:
    """Return the recorded session of this name.

    Raises:
        SettingsError: The name can be none, or no recorded session lies there.
    """
    if not NAME.fullmatch(name):
        raise SettingsError(
            "a session's name: 1 to 64 letters, digits, dots, - and _", repr(name), "see clmer session list"
        )
    stored = StoredSession(root / name)
    if stored.path.is_symlink() or not stored.path.is_dir() or not _holds_session(stored):
        found = "a link, which is not followed" if stored.path.is_symlink() else "none"
        raise SettingsError(f"a recorded session at {stored.path}", found, "see clmer session list, or name --root DIR")
    return stored


def _holds_session(stored: StoredSession) -> bool:
    return not stored.recording.is_symlink() and is_session_recording(stored.recording)


EXPORTS_FILE = "exports.jsonl"


@contextlib.contextmanager
def owner_only() -> Iterator[None]:
    """Make the files and folders that this process creates readable by their owner alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def note_export(stored: StoredSession, kind: str, files: Sequence[Path]) -> None:
    """Add files to the list of exports in the session's folder; nothing is added where it cannot be written to.

    Args:
        stored: The session.
        kind: Format of the export.
        files: What was written.
    """
    line = json.dumps({"unix_time": time.time(), "format": kind, "files": [str(path.resolve()) for path in files]})
    try:
        with (stored.path / EXPORTS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        return


def exports_made(stored: StoredSession) -> list[dict[str, Any]]:
    """Return the listed exports, oldest first; lines that cannot be read are left out."""
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
    """One recorded session in numbers."""

    stored: StoredSession
    contents: RecordingContents
    verified: Verified

    @property
    def participant(self) -> str | None:
        """The pseudonym, where one was given."""
        return header_word(self.contents.header, "participant")

    @property
    def consent_ref(self) -> str | None:
        """Where the consent is filed, where that was given."""
        return header_word(self.contents.header, "consent_ref")

    @property
    def unix_start(self) -> float:
        """Wall clock in seconds when the recording began."""
        return float(self.contents.header["clock"]["unix_time"])

    def unix_of(self, t: float) -> float | None:
        """Return the wall clock at a time of the LSL clock; None in a replay, whose stamps are of another day."""
        clock = self.contents.header["clock"]
        live = self.contents.header.get("source") == "live"
        return float(clock["unix_time"]) + t - float(clock["lsl_time"]) if live else None

    @property
    def duration_s(self) -> float:
        """From the first sample to the end of the last window."""
        predictions = self.contents.predictions
        return max(0.0, float(predictions[-1]["t_end"]) - self.contents.t0) if predictions else 0.0

    @property
    def valid_share(self) -> float | None:
        """Of the windows; None without any."""
        predictions = self.contents.predictions
        return sum(bool(p["valid"]) for p in predictions) / len(predictions) if predictions else None


def session_facts(stored: StoredSession) -> SessionFacts:
    """Return the description of a session; damaged predictions are left out, and count as lost.

    Raises:
        RecordingError: Its recording cannot be read.
    """
    contents = read_contents(stored.recording)
    whole = [prediction for prediction in contents.predictions if _is_whole(prediction)]
    n_lost = contents.n_lost + len(contents.predictions) - len(whole)
    contents = dataclasses.replace(contents, predictions=whole, n_lost=n_lost)
    return SessionFacts(stored, contents, verified(stored.recording))


def _is_whole(prediction: dict[str, Any]) -> bool:
    """Return whether a prediction has all required fields; a later version may have added others."""
    try:
        EmotionEvent.model_validate(prediction)
    except ValidationError as error:
        return all(fault["type"] == "extra_forbidden" for fault in error.errors())
    return True


def header_word(header: Mapping[str, Any], name: str) -> str | None:
    """Return a text of the first record: the session's own, else that of the settings."""
    value = header.get(name) or header.get("settings", {}).get(name)
    return str(value) if value else None


def facts_as_json(facts: SessionFacts) -> dict[str, Any]:
    """Return the line of a list as JSON values."""
    return {
        "name": facts.stored.name,
        "participant": facts.participant,
        "consent_ref": facts.consent_ref,
        "unix_start": facts.unix_start,
        "source": header_word(facts.contents.header, "source"),
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
    """Return everything that ``show`` prints, as JSON values."""
    contents, model = facts.contents, facts.contents.header.get("model", {})
    reasons = Counter(reason for prediction in contents.predictions for reason in prediction["reasons"])
    return {
        **facts_as_json(facts),
        "purpose": header_word(contents.header, "purpose"),
        "folder": str(facts.stored.path),
        "clmer": contents.header.get("version"),
        "model": {name: model.get(name) for name in ("id", "sha256", "trained_on", "labels")},
        "lost_items": contents.n_lost,
        "streams": [_stream_as_json(info) for info in contents.streams.values()],
        "reasons": dict(reasons.most_common()),
        "labels": dict(Counter(p["label"] for p in contents.predictions if p["label"]).most_common()),
        "marker_labels": dict(Counter(marker.label for marker in contents.markers).most_common()),
        "exports": exports_made(facts.stored),
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


class RecordingLine(BaseModel):
    """What depends on the recording alone: it is valid as long as that does not change."""

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


class _Kept(BaseModel):
    """The file beside the recording."""

    format: Literal[1] = 1  # one of another format is made anew
    recording: list[int]  # its state when it was read
    session: RecordingLine


def listed(stored: StoredSession) -> dict[str, Any]:
    """Return the line of a list about a session, as JSON values.

    A recording that has changed since it was last listed, as one that still runs, is read anew; so is one in a folder
    that cannot be written to.

    Raises:
        RecordingError: Its recording cannot be read.
    """
    line = recording_line(stored)
    return {
        "name": stored.name,
        **line.model_dump(mode="json"),
        "verified": verified(stored.recording),
        "bytes": stored.n_bytes,
        "video": [path.name for path in stored.videos],
    }


def recording_line(stored: StoredSession) -> RecordingLine:
    """Return the line of a recording: the one that was kept, else the one that a full reading gives.

    Raises:
        RecordingError: It cannot be read.
    """
    kept = _kept(stored)
    if kept is not None:
        return kept
    state = recording_state(stored.recording)  # before it is read: it may grow meanwhile
    found = facts_as_json(session_facts(stored))
    line = RecordingLine.model_validate({name: found[name] for name in RecordingLine.model_fields})
    with contextlib.suppress(OSError):
        text = _Kept(recording=state, session=line).model_dump_json(indent=1)
        (stored.path / LISTING_FILE).write_text(text + "\n", encoding="utf-8")
    return line


def _kept(stored: StoredSession) -> RecordingLine | None:
    try:
        kept = _Kept.model_validate_json((stored.path / LISTING_FILE).read_text(encoding="utf-8"))
        return kept.session if kept.recording == recording_state(stored.recording) else None
    except (OSError, ValueError):
        return None


_COLUMNS = ("name", "participant", "start", "min:s", "from", "streams", "windows", "valid", "markers", "verified", "MB")


def print_table(sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print sessions, a line each.

    Args:
        sessions: The lines, as ``listed`` returns them.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS)
    for line in sessions:
        table.add_row(*(Text(printable(cell)) for cell in _row(line)))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(table)


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    minutes, seconds = divmod(round(line["duration_s"]), 60)
    return (
        line["name"],
        line["participant"] or "-",
        _local_time(line["unix_start"]),
        f"{minutes}:{seconds:02}",
        line["source"] or "-",
        ", ".join([*line["streams"], *(["video"] if line["video"] else [])]),
        str(line["windows"]),
        "-" if line["valid_share"] is None else f"{100 * line['valid_share']:.0f} %",
        str(line["markers"]),
        line["verified"],
        f"{line['bytes'] / 1e6:.1f}",
    )


def _local_time(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))


def print_page(details: Mapping[str, Any]) -> None:
    """Print one session.

    Args:
        details: The details, as ``details_as_json`` returns them.
    """
    for name, text in (*_lines(details), *_stream_lines(details), *_export_lines(details)):
        print(f"{name:13} {printable(text)}")


def _lines(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
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


def _stream_lines(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stream in details["streams"]:
        rate = f"{stream['nominal_rate_hz']:g} Hz" if stream["nominal_rate_hz"] else "irregular"
        delay = f", delay {stream['delay_s']:g} s" if stream["delay_s"] else ""
        yield f"  {stream['kind']}", f"{stream['name']}, {stream['channels']} channels, {rate}{delay}"


def _export_lines(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for made in details["exports"]:
        yield "exported", f"{made.get('format')}: {', '.join(made.get('files', []))}"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counted.items()) or "none"


def printable(text: object) -> str:
    """Return text without control characters: names and labels come from the network."""
    return "".join(char if char.isprintable() else " " for char in str(text))
