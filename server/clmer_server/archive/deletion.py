"""Deletion of a recorded session with all that was made from it, on request or after the retention time.

To be read in this order: ``Deletion``, ``plan_deletion``, ``keep_retention``.
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

from clmer_server.archive.sessions import StoredSession, exports_made, find_sessions, header_word, recording_line
from clmer_server.participants import calibration_files
from clmer_server.settings import ServeSettings
from clmer_streaming.errors import ClmerError, SettingsError
from clmer_streaming.recording.reader import read_contents

if TYPE_CHECKING:
    from clmer_model.training.provenance import Derived


_QUIET_S = 60.0  # s without a change, after which a recording that was not closed counts as broken off


@dataclass(frozen=True)
class Deletion:
    """What is deleted with a session, and what is left."""

    stored: StoredSession
    derived: Derived
    calibration: tuple[Path, ...]  # of the participant, where it was asked for
    stays: tuple[str, ...]  # sentences for people

    def lines(self) -> Iterator[str]:
        """Yield the lines that are printed before and after."""
        yield f"remove  {self.stored.path}: {sum(1 for _ in self.stored.path.rglob('*'))} files"
        yield from (f"remove  {path}" for path in (*self.derived.paths, *self.calibration))
        yield from (f"stays   {text}" for text in self.stays)

    def carry_out(self) -> None:
        """Delete everything, the recording last, so that a deletion that was interrupted can be repeated.

        Raises:
            SettingsError: Something cannot be removed.
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
    """Return what would be deleted with a session; nothing is deleted yet.

    Args:
        stored: The session.
        work: Folders in which stores, splits, copies and models are looked for.
        participants: Folder of the neutral faces and of the EEG at rest.
        with_calibration: Whether what is kept there of the participant goes, too.

    Raises:
        SettingsError: It is being recorded now, a folder is not there, or nobody knows whose calibration is meant.
    """
    from clmer_model.training.provenance import derived_from

    for folder in work:
        if not folder.is_dir():
            raise SettingsError("a folder to look in", str(folder), "mend --work, or work in the settings")
    pseudonym = _refuse_running(stored)
    if with_calibration and pseudonym is None:
        raise SettingsError(
            "a session with a participant, to delete the calibration of", f"none in {stored.recording}", "leave it out"
        )
    derived = derived_from(stored.recording, work)
    kept = calibration_files(participants, pseudonym) if pseudonym is not None else ()
    stays = [*derived.stays, *_exports(stored), *_others(stored, pseudonym)]
    if not with_calibration:
        stays += [f"{path}: calibration of {pseudonym}, which goes by --with-calibration" for path in kept]
    if not work:
        stays.append("window stores, split files and models: not looked for, name their folders with --work")
    return Deletion(stored, derived, kept if with_calibration else (), tuple(stays))


def _refuse_running(stored: StoredSession) -> str | None:
    """Return the pseudonym of the session; a recording that cannot be read can be deleted all the same."""
    try:
        contents = read_contents(stored.recording)
    except ClmerError:
        return None
    if not contents.closed and time.time() - stored.recording.stat().st_mtime < _QUIET_S:
        raise SettingsError("a session that has ended", f"{stored.recording}, which is being written", "end it first")
    return header_word(contents.header, "participant")


def _others(stored: StoredSession, pseudonym: str | None) -> Iterator[str]:
    """Yield a sentence for each other session of a participant beside one; those that cannot be read are anybody's."""
    for other in find_sessions(stored.path.parent) if pseudonym is not None else ():
        with contextlib.suppress(ClmerError):
            if other != stored and recording_line(other).participant == pseudonym:
                yield f"{other.path}: another session of {pseudonym}"


def _exports(stored: StoredSession) -> Iterator[str]:
    for made in exports_made(stored):
        there = [name for name in made.get("files", []) if Path(name).exists()]
        if there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            yield f"{there[0]}{more}: exported as {made.get('format')}; delete by hand"


_DAY_S = 86400.0


def keep_retention(settings: ServeSettings, now: float) -> None:
    """Delete recorded sessions that are older than the settings allow; one that cannot be deleted stops no other.

    The printed lines contain counts and names of sessions alone: files may be named after a participant, and the
    output of a service is kept in the log of the machine.

    Args:
        settings: Without ``record`` or ``retention_days`` nothing is done. Recordings that they replay are kept.
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
