"""Deletion of a recorded session and of everything made from it, on request or after the retention time.

In reading order: ``Deletion``, ``plan_deletion``, which makes one, and ``apply_retention``, which deletes old sessions.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.archive.sessions import StoredSession, find_sessions, header_text, logged_exports, recording_summary
from clmer_server.participants import calibration_files
from clmer_server.settings import ServeSettings
from clmer_streaming.errors import ClmerError, SettingsError
from clmer_streaming.recording.reader import read_contents

if TYPE_CHECKING:
    from clmer_model.training.provenance import Derived


_QUIET_S = 60.0  # s without a change, after which a recording that was not closed counts as broken off


@dataclass(frozen=True)
class Deletion:
    """What is deleted with a session, and what is left.

    Example::

        deletion = plan_deletion(stored, [Path("work")], Path("participants"))
        print(*deletion.lines(), sep=" | ")
        deletion.execute()
    """

    stored: StoredSession
    derived: Derived
    calibration: tuple[Path, ...]  # files of the participant, where they are to be deleted, too
    left: tuple[str, ...]  # what is not deleted, in sentences for people

    def lines(self) -> Iterator[str]:
        """Yield one line for each thing that is removed or left."""
        yield f"remove  {self.stored.path}: {sum(1 for _ in self.stored.path.rglob('*'))} files"
        yield from (f"remove  {path}" for path in (*self.derived.paths, *self.calibration))
        yield from (f"stays   {text}" for text in self.left)

    def execute(self) -> None:
        """Delete everything, the recording last, so that an interrupted deletion can be repeated.

        Raises:
            SettingsError: A file or folder cannot be removed.
        """
        try:
            self.derived.remove()
            for path in self.calibration:
                path.unlink(missing_ok=True)
            shutil.rmtree(self.stored.path)
        except OSError as error:
            raise SettingsError(
                f"{error.filename} to be removed", error.strerror or repr(error), "mend that, and delete once more"
            ) from error


def plan_deletion(
    stored: StoredSession, work: Sequence[Path], participants: Path, *, with_calibration: bool = False
) -> Deletion:
    """Return what would be deleted with a session, without deleting anything.

    Args:
        stored: The session.
        work: Folders in which stores, splits, copies and models are looked for.
        participants: Folder of the neutral faces and of the EEG at rest.
        with_calibration: Whether the participant's files there are deleted, too.

    Raises:
        SettingsError: The session is being recorded, a folder of ``work`` does not exist, or the calibration is to be
            deleted and the session names no participant.
    """
    from clmer_model.training.provenance import derived_from

    for folder in work:
        if not folder.is_dir():
            raise SettingsError("a folder to look in", str(folder), "mend --work, or work in the settings")
    pseudonym = _check_ended(stored)
    if with_calibration and pseudonym is None:
        raise SettingsError(
            "a session with a participant, to delete the calibration of", f"none in {stored.recording}", "leave it out"
        )
    derived = derived_from(stored.recording, work)
    calibration = calibration_files(participants, pseudonym) if pseudonym is not None else ()
    left = [*derived.stays, *_existing_exports(stored), *_other_sessions(stored, pseudonym)]
    if not with_calibration:
        left += [f"{path}: calibration of {pseudonym}, which goes by --with-calibration" for path in calibration]
    if not work:
        left.append("window stores, split files and models: not looked for, name their folders with --work")
    return Deletion(stored, derived, calibration if with_calibration else (), tuple(left))


def _check_ended(stored: StoredSession) -> str | None:
    """Return the pseudonym of a session that has ended; None where the recording names none or cannot be read.

    Raises:
        SettingsError: The session is being recorded.
    """
    try:
        contents = read_contents(stored.recording)
    except ClmerError:
        return None
    if not contents.closed and time.time() - stored.recording.stat().st_mtime < _QUIET_S:
        raise SettingsError("a session that has ended", f"{stored.recording}, which is being written", "end it first")
    return header_text(contents.header, "participant")


def _other_sessions(stored: StoredSession, pseudonym: str | None) -> Iterator[str]:
    """Yield a sentence for each other session of the participant; recordings that cannot be read are skipped."""
    for other in find_sessions(stored.path.parent) if pseudonym is not None else ():
        with contextlib.suppress(ClmerError):
            if other != stored and recording_summary(other).participant == pseudonym:
                yield f"{other.path}: another session of {pseudonym}"


def _existing_exports(stored: StoredSession) -> Iterator[str]:
    for export in logged_exports(stored):
        existing = [name for name in export.get("files", []) if Path(name).exists()]
        if existing:
            more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
            yield f"{existing[0]}{more}: exported as {export.get('format')}; delete by hand"


_DAY_S = 86400.0


def apply_retention(settings: ServeSettings, now: float) -> None:
    """Delete recorded sessions that are older than the settings allow; go on after one that cannot be deleted.

    The printed lines contain only counts and names of sessions: files may be named after a participant, and the
    output of a service is kept in the log of the machine.

    Args:
        settings: Settings of the service. Without ``record`` or ``retention_days`` nothing is deleted; recordings that
            the service replays are kept.
        now: Unix time in seconds.
    """
    if settings.record is None or settings.retention_days is None:
        return
    replayed = set(_replayed_folders(settings))
    for stored in expired_sessions(settings.record, settings.retention_days, now):
        if stored.path.resolve() in replayed:
            continue
        try:
            deletion = plan_deletion(stored, settings.work, settings.participants)
            deletion.execute()
        except ClmerError:
            mend = f"clmer session delete {stored.name} says why"
            print(f"warning: {stored.name} is too old and cannot be deleted: {mend}", file=sys.stderr)
            continue
        print(f"deleted    {stored.name}: older than {settings.retention_days} days{_counts(deletion)}")


def _counts(deletion: Deletion) -> str:
    n_derived, n_left = len(deletion.derived.paths), len(deletion.left)
    derived = f"; deleted with it, made from it: {n_derived}" if n_derived else ""
    return derived + (f"; left, exports and the like: {n_left}" if n_left else "")


def _replayed_folders(settings: ServeSettings) -> Iterator[Path]:
    """Yield the folders above every recording and video that the sessions of a service replay."""
    for session in (settings, *settings.sessions):
        for file in (session.replay, session.video, session.camera):
            if file is not None:
                yield from Path(file).resolve().parents


def expired_sessions(root: Path, days: int, now: float) -> list[StoredSession]:
    """Return the sessions that began more than ``days`` ago; of a recording that cannot be read, its age counts.

    Args:
        root: Folder of recorded sessions; may be missing.
        days: Days for which a session is kept.
        now: Unix time in seconds.
    """
    return (
        [stored for stored in find_sessions(root) if now - _start_time(stored) > days * _DAY_S] if root.is_dir() else []
    )


def _start_time(stored: StoredSession) -> float:
    try:
        return recording_summary(stored).unix_start
    except ClmerError:
        return stored.recording.stat().st_mtime
