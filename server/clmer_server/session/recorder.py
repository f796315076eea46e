"""The recording of a session: a thread of its own between the pipeline and the disk.

To be read in this order: the folder of a recording, what its first record holds, ``Recorder``, its queue.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import re
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.outbound import Message, Notice
from clmer_server.protocol.parts import EmotionEvent
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.recording.records import Lost
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.types import Item, StreamInfo

if TYPE_CHECKING:
    from clmer_server.session.config import SessionConfig
    from clmer_server.session.events import EventContext
    from clmer_server.settings import ServeSettings
    from clmer_streaming.config import PreprocessConfig

logger = logging.getLogger(__name__)

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
        """Path of the XDF file with items and predictions."""
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
    """Make the folder of a session, with access for its owner alone.

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
    """Check whether sessions can be recorded below a folder; it is not made, and nothing is left behind.

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


_PASSWORD = re.compile(r"//[^/@\s]*@")  # user and password within a camera's URL


@dataclass(frozen=True)
class RecordingPlan:
    """Folder and first record of a session's recording."""

    folder: RecordingFolder
    header: dict[str, Any]  # plain JSON values


def plan_recording(
    config: SessionConfig,
    context: EventContext,
    preprocess: PreprocessConfig,
    settings: ServeSettings | None = None,
    name: str | None = None,
) -> RecordingPlan | None:
    """Make the folder of the session; return None where nothing is to be recorded.

    Args:
        config: The session.
        context: What its events share.
        preprocess: The signal settings of the model.
        settings: Those of the service, which the recording keeps, too; None: there is no service.
        name: Name of the new folder; None: that of the session.

    Raises:
        SettingsError: The folder is there already or cannot be made.
    """
    if config.recordings is None:
        return None
    of_service = {} if settings is None else settings.model_dump(mode="json", exclude={"sessions"})
    header = {
        "version": version("clmer"),
        "session": context.session,
        "participant": context.participant,
        "consent_ref": config.consent_ref,
        "first_seq": context.first_seq,
        "source": context.source,
        "model": context.model.model_dump(mode="json"),
        "preprocess": preprocess.to_dict(),
        "settings": _without_passwords(of_service | config.options()),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    return RecordingPlan(make_recording_folder(config.recordings, name or context.session), header)


def _without_passwords(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: _PASSWORD.sub("//", value) if isinstance(value, str) else value for name, value in settings.items()}


CAPACITY = 65_536
"""Items that may wait for the disk: eight minutes of EEG at 128 Hz that comes sample by sample."""

FLUSH_S = 0.5
"""Seconds between two flushes: what is lost at most when the program is killed, and half of what is promised."""

SYNC_S = 10.0
"""Seconds after which what was flushed is on the disk itself: what a power cut may cost."""

_Entry: TypeAlias = Item | Lost | EmotionEvent


class Recorder:
    """Writes ``session.xdf`` and ``predictions.jsonl``; a disk that fails ends the recording, never the session.

    Args:
        plan: Where to, and what the recording begins with.
        clock: The same moment on the LSL clock and on the wall clock, in seconds.
        blocking: Whether a slow disk holds the session back (a replay), or items are lost and counted (live).
        notify: Sends a notice to the clients; called in any thread.

    Raises:
        RecordingError: The files cannot be created.
    """

    def __init__(
        self, plan: RecordingPlan, clock: tuple[float, float], *, blocking: bool, notify: Callable[[Notice], None]
    ) -> None:
        lsl_time, unix_time = clock
        header = {**plan.header, "clock": {"lsl_time": lsl_time, "unix_time": unix_time}}
        datetime = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(unix_time))
        self._xdf = SessionWriter(plan.folder.session, header, datetime)
        self._lines: list[str] = []  # predictions that wait for the next flush
        try:
            self._xdf.flush()
            self._jsonl = plan.folder.open_predictions()
        except Exception:
            with contextlib.suppress(RecordingError):
                self._xdf.close()
            raise
        self._path = plan.folder.session
        self._log = logging.LoggerAdapter(logger, {OF_SESSION: plan.header["session"]})
        self._backlog = Backlog(CAPACITY, blocking=blocking)
        self._notify = notify
        self._thread = threading.Thread(target=self._run, name="clmer-recorder", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def item(self, item: Item) -> None:
        """Queue an item that the Preprocessor is fed; called in the pipeline thread, in that order."""
        if not self._backlog.put(item):
            self._log.error("the disk is too slow for the recording %s: items are missing in it", self._path)
            text = f"The disk is too slow: {self._path} has a hole from here."
            self._notify(Notice(code=NoticeCode.RECORDING_GAP, message=text))

    def message(self, message: Message) -> None:
        """Queue a message to the clients; only predictions are recorded."""
        if isinstance(message, EmotionEvent):
            self._backlog.put(message)

    def close(self, timeout_s: float) -> None:
        """Write what waits and close the files; do not wait longer than ``timeout_s`` seconds for the disk."""
        self._backlog.close()
        if self._thread.ident is None:  # it was never started: nothing waits, and the files are closed here
            self._run()
        elif self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._log.error("the disk is too slow for the recording %s: its end may be missing", self._path)

    def _run(self) -> None:
        flush_at, sync_at = time.monotonic() + FLUSH_S, time.monotonic() + SYNC_S
        try:
            while not self._backlog.ended:
                for entry in self._backlog.get_all(max(0.0, flush_at - time.monotonic())):
                    self._write(entry)
                if (now := time.monotonic()) >= flush_at:
                    self._flush(to_disk=now >= sync_at)
                    flush_at, sync_at = now + FLUSH_S, now + SYNC_S if now >= sync_at else sync_at
            self._flush()
            self._xdf.close()
        except Exception as error:
            self._fail(error)
        finally:
            self._jsonl.close()

    def _write(self, entry: _Entry) -> None:
        if isinstance(entry, Lost):
            self._xdf.write_lost(entry.n_items)
        elif isinstance(entry, EmotionEvent):
            text = encode(entry)
            self._xdf.write_prediction(entry.t_end, text)
            self._lines.append(text + "\n")
        else:
            self._xdf.write(entry)

    def _flush(self, *, to_disk: bool = False) -> None:
        """Hand everything to the system; a prediction never gets there before what it was made from."""
        self._xdf.flush(to_disk=to_disk)
        if self._lines:
            self._jsonl.write("".join(self._lines).encode())
            self._lines.clear()

    def _fail(self, error: Exception) -> None:
        """End the recording and notify the clients; let the session go on."""
        self._backlog.close()
        found = error.found if isinstance(error, RecordingError) else repr(error)
        traceback = None if isinstance(error, RecordingError | OSError) else error  # a disk's failure needs none
        self._log.error("the recording %s has ended: %s", self._path, found, exc_info=traceback)
        text = f"The recording has ended, the session goes on: {found}. What was written so far can be read."
        self._notify(Notice(code=NoticeCode.RECORDING_FAILED, message=text))


class Backlog:
    """The queue of what waits to be written; a full one loses items and counts them, or makes a replay wait.

    Args:
        capacity: Items that may wait; announcements and predictions always have room.
        blocking: Whether ``put`` waits for room.
    """

    def __init__(self, capacity: int, *, blocking: bool) -> None:
        self._capacity = capacity
        self._blocking = blocking
        self._entries: deque[_Entry] = deque()
        self._n_lost = 0  # since the last entry that was taken in
        self._closed = False
        self._changed = threading.Condition()

    def put(self, entry: _Entry) -> bool:
        """Add an entry; return False where it is the first one lost. After ``close`` it is discarded."""
        with self._changed:
            optional = not isinstance(entry, StreamInfo | EmotionEvent)
            if optional and self._blocking:
                self._changed.wait_for(lambda: self._closed or len(self._entries) < self._capacity)
            if self._closed:
                return True
            if optional and len(self._entries) >= self._capacity:
                self._n_lost += 1
                return self._n_lost > 1
            self._add_loss()
            self._entries.append(entry)
            self._changed.notify_all()
            return True

    def get_all(self, timeout_s: float) -> list[_Entry]:
        """Return all entries that wait; where there are none, wait ``timeout_s`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._entries), timeout_s)
            entries = list(self._entries)
            self._entries.clear()
            self._changed.notify_all()
            return entries

    @property
    def ended(self) -> bool:
        """Whether nothing waits and nothing will come."""
        with self._changed:
            return self._closed and not self._entries

    def close(self) -> None:
        """Accept no more entries; those that wait are still returned."""
        with self._changed:
            self._add_loss()
            self._closed = True
            self._changed.notify_all()

    def _add_loss(self) -> None:
        if self._n_lost:
            self._entries.append(Lost(self._n_lost))
            self._n_lost = 0
