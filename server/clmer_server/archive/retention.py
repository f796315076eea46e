"""Retention: recorded sessions that are older than the settings allow are deleted as ``clmer-serve`` starts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from clmer_server.archive.deletion import Deletion, plan_deletion
from clmer_server.archive.folders import StoredSession, find_sessions
from clmer_server.archive.listing import recording_line
from clmer_server.settings import ServeSettings
from clmer_streaming.errors import ClmerError

_DAY_S = 86400.0


def keep_retention(settings: ServeSettings, now: float) -> None:
    """Delete recorded sessions that are older than the settings allow, and tell; what cannot go holds up nothing.

    What is told counts and names sessions alone: files may be called after a participant, and a service's words are
    kept in the log of the machine.

    Args:
        settings: Without ``record`` or ``retention_days`` nothing is done. What they play is kept.
        now: Wall clock in seconds.
    """
    if settings.record is None or settings.retention_days is None:
        return
    played = set(_played(settings))
    for stored in expired_sessions(settings.record, settings.retention_days, now):
        if stored.path.resolve() in played:
            continue
        try:
            deletion = plan_deletion(stored, settings.work, settings.participants)
            deletion.carry_out()
        except ClmerError:
            mend = f"clmer session delete {stored.name} says why"
            print(f"warning: {stored.name} is too old and cannot be deleted: {mend}", file=sys.stderr)
            continue
        print(f"deleted    {stored.name}: older than {settings.retention_days} days{_counts(deletion)}")


def _counts(deletion: Deletion) -> str:
    n_gone, n_stay = len(deletion.derived.paths), len(deletion.stays)
    gone = f"; deleted with it, made from it: {n_gone}" if n_gone else ""
    return gone + (f"; left, exports and the like: {n_stay}" if n_stay else "")


def _played(settings: ServeSettings) -> Iterator[Path]:
    """Yield the folders of everything that the sessions of a service are about to play: recordings and videos."""
    for session in (settings, *settings.sessions):
        for file in (session.replay, session.video, session.camera):
            if file is not None:
                yield from Path(file).resolve().parents


def expired_sessions(root: Path, days: int, now: float) -> list[StoredSession]:
    """Return the sessions that began more than so many days ago; those that cannot be read go by the file's age.

    Args:
        root: Folder of recorded sessions; may be missing.
        days: How long a session is kept.
        now: Wall clock in seconds.
    """
    return [stored for stored in find_sessions(root) if now - _began(stored) > days * _DAY_S] if root.is_dir() else []


def _began(stored: StoredSession) -> float:
    try:
        return recording_line(stored).unix_start
    except ClmerError:
        return stored.recording.stat().st_mtime
