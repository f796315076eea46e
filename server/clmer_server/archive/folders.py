"""Where recorded sessions lie: folders of one root, under names that lead nowhere else."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from clmer_server.recording_folder import SESSION_FILE, VIDEO_FILE
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.survey import is_session_recording

NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")
"""What a session may be called; never ``.`` or ``..``."""


@dataclass(frozen=True)
class StoredSession:
    """The folder of one recorded session."""

    path: Path

    @property
    def name(self) -> str:
        """By which it is asked for."""
        return self.path.name

    @property
    def recording(self) -> Path:
        """What was fed and what was answered, as XDF."""
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
