"""Deleting a recorded session with all that was made from it; for ``clmer session`` and ``clmer-serve``."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.archive.exports_made import exports_made
from clmer_server.archive.facts import SessionFacts
from clmer_server.archive.folders import StoredSession, find_sessions
from clmer_server.cli import error_text
from clmer_server.participants import neutral_file
from clmer_server.settings import ServeSettings
from clmer_streaming.errors import ClmerError, SettingsError
from clmer_streaming.recording.contents import read_contents

if TYPE_CHECKING:
    from clmer_model.training.derived import Derived

_QUIET_S = 60.0  # s without a change, after which a recording that was not closed counts as broken off
_DAY_S = 86400.0


@dataclass(frozen=True)
class Deletion:
    """What goes with a session, and what stays."""

    stored: StoredSession
    derived: Derived
    stays: tuple[str, ...]  # sentences for people

    def lines(self) -> Iterator[str]:
        """Yield what is to be told before and behind the deed."""
        yield f"remove  {self.stored.path}: {sum(1 for _ in self.stored.path.rglob('*'))} files"
        yield from (f"remove  {path}" for path in self.derived.paths)
        yield from (f"stays   {text}" for text in self.stays)

    def carry_out(self) -> None:
        """Remove it all, the recording last, so that a deletion that was broken off can be done again.

        Raises:
            SettingsError: Something cannot be removed.
        """
        try:
            self.derived.remove()
            shutil.rmtree(self.stored.path)
        except OSError as error:
            raise SettingsError(
                f"{error.filename} to be removed", error.strerror or repr(error), "mend that, and delete once more"
            ) from error


def plan_deletion(stored: StoredSession, work: Sequence[Path], participants: Path) -> Deletion:
    """Find out what goes with a session; nothing is touched.

    Args:
        stored: The session.
        work: Folders in which stores, splits, copies and models are looked for.
        participants: Folder of the neutral faces.

    Raises:
        SettingsError: It is being recorded now, or a folder is not there.
    """
    from clmer_model.training.derived import derived_from

    for folder in work:
        if not folder.is_dir():
            raise SettingsError("a folder to look in", str(folder), "mend --work, or work in the settings")
    pseudonym = _refuse_running(stored)
    derived = derived_from(stored.recording, work)
    stays = [*derived.stays, *_exports(stored)]
    if pseudonym is not None and (face := neutral_file(participants, pseudonym)).is_file():
        stays.append(f"{face}: the neutral face of {pseudonym}, which belongs to no session")
    if not work:
        stays.append("window stores, split files and models: not looked for, name their folders with --work")
    return Deletion(stored, derived, tuple(stays))


def _refuse_running(stored: StoredSession) -> str | None:
    """Return the pseudonym of the session; a recording that cannot be read can be deleted all the same."""
    try:
        contents = read_contents(stored.recording)
    except ClmerError:
        return None
    if not contents.closed and time.time() - stored.recording.stat().st_mtime < _QUIET_S:
        raise SettingsError("a session that has ended", f"{stored.recording}, which is being written", "end it first")
    return SessionFacts(stored, contents, "no").participant


def _exports(stored: StoredSession) -> Iterator[str]:
    for made in exports_made(stored):
        there = [name for name in made.get("files", []) if Path(name).exists()]
        if there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            yield f"{there[0]}{more}: exported as {made.get('format')}; delete by hand"


def keep_retention(settings: ServeSettings, now: float) -> None:
    """Delete recorded sessions that are older than the settings allow, and tell; what cannot go holds up nothing.

    Args:
        settings: Without ``record`` or ``retention_days`` nothing is done.
        now: Wall clock in seconds.
    """
    if settings.record is None or settings.retention_days is None:
        return
    for stored in expired_sessions(settings.record, settings.retention_days, now):
        if settings.replay is not None and stored.path.resolve() in settings.replay.resolve().parents:
            continue  # it is about to be replayed
        try:
            deletion = plan_deletion(stored, settings.work, settings.participants)
            lines = list(deletion.lines())
            deletion.carry_out()
        except ClmerError as error:
            print(f"warning: {stored.name} is too old and cannot be deleted\n{error_text(error)}", file=sys.stderr)
            continue
        print(f"deleted    {stored.name}: older than {settings.retention_days} days", *lines, sep="\n           ")


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
        return float(read_contents(stored.recording).header["clock"]["unix_time"])
    except (ClmerError, KeyError, TypeError, ValueError):
        return stored.recording.stat().st_mtime
