"""Where a session is recorded: a folder of its own, never one that is there already."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from clmer_streaming.errors import RecordingError, SettingsError

SESSION_FILE = "session.xdf"
PREDICTIONS_FILE = "predictions.jsonl"
VIDEO_FILE = "face.avi"

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # leads out of no folder, hides nothing


@dataclass(frozen=True)
class RecordingFolder:
    """The files of one recorded session."""

    path: Path

    @property
    def session(self) -> Path:
        """What was fed and what was answered, as XDF."""
        return self.path / SESSION_FILE

    @property
    def video(self) -> Path:
        """The camera's pictures, where they are kept."""
        return self.path / VIDEO_FILE

    def open_predictions(self) -> FileIO:
        """Create the file of the predictions, one JSON object per line.

        Raises:
            RecordingError: It cannot be created.
        """
        try:
            return (self.path / PREDICTIONS_FILE).open("xb", buffering=0)
        except OSError as error:
            raise RecordingError(
                f"a file that can be written in {self.path}", error.strerror or repr(error), "check --record"
            ) from error

    def discard(self) -> None:
        """Remove a folder that was made for a recording which could not begin."""
        shutil.rmtree(self.path, ignore_errors=True)


def make_recording_folder(parent: Path, session: str) -> RecordingFolder:
    """Make the folder of a session, which its owner alone may open.

    Raises:
        SettingsError: It is there already, cannot be made, or the session's name cannot name a folder.
    """
    if not _SAFE_NAME.fullmatch(session):
        raise SettingsError("a session name of letters, digits, - and _", repr(session), "name it otherwise")
    folder = parent / session
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)  # what is in it is about a person
    except FileExistsError as error:
        found = f"{folder}, which is there already" if folder.exists() else f"{parent}, which is no folder"
        raise SettingsError("a new folder for the recording", found, "name another one with --record") from error
    except OSError as error:
        raise _cannot_record(folder, error.strerror or repr(error)) from error
    return RecordingFolder(folder)


def _cannot_record(folder: Path, found: str) -> SettingsError:
    return SettingsError(
        expected=f"a folder that can be made at {folder}",
        found=found,
        mend="name a folder that you may write to with --record",
    )


def try_recordings(parent: Path) -> None:
    """Find out whether sessions can be recorded below a folder; it is not made, and nothing stays.

    Raises:
        SettingsError: It cannot be written to, or made.
    """
    try:
        there = next(folder for folder in (parent, *parent.absolute().parents) if folder.exists())
        if there.is_file():
            raise _cannot_record(parent, f"{there}, which is no folder")
        with tempfile.TemporaryDirectory(dir=there):
            return
    except OSError as error:
        raise _cannot_record(parent, error.strerror or repr(error)) from error
