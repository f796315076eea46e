"""The line that a list of sessions has for each: found by a full reading once, then kept beside the recording."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from clmer_server.archive.facts import facts_as_json, session_facts
from clmer_server.archive.folders import StoredSession
from clmer_server.archive.verdicts import recording_state, verified

LISTING_FILE = "listing.json"


class RecordingLine(BaseModel):
    """What hangs on the recording alone: it holds as long as that does not change."""

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
    """Return what a list tells of a session, as JSON values.

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
    """Return what a recording tells of itself in a line: what was kept of it, else what a full reading finds.

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
