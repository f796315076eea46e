"""A file that grows by whole chunks: what is in it can be read, whatever happens to the program or the disk."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path

from clmer_streaming.errors import RecordingError

_MOST_PENDING = 2**16  # bytes held back until they are handed over, asked or not


class ChunkFile:
    """Takes chunks and hands them to the operating system, several at once.

    What was flushed outlives the program (``kill -9``); what was flushed ``to_disk`` outlives a power cut too.
    When the disk is full, or fails, the file is cut back to its last whole chunk and closed, and every later
    chunk raises the same error.

    Args:
        path: File to create; an existing one is replaced.

    Raises:
        RecordingError: The file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[bytes] = []
        self._n_pending = 0
        self._size = 0  # bytes of the file, always whole chunks
        self._failure: RecordingError | None = None
        self._file = _create(path)

    @property
    def closed(self) -> bool:
        """Whether the file takes no more: it was closed, or it failed."""
        return self._file.closed

    def append(self, chunk: bytes) -> None:
        """Take one whole chunk.

        Raises:
            RecordingError: The disk is full or failed, now or before.
        """
        self._raise_failure()
        self._pending.append(chunk)
        self._n_pending += len(chunk)
        if self._n_pending >= _MOST_PENDING:
            self.flush()

    def flush(self, *, to_disk: bool = False) -> None:
        """Hand over all chunks taken so far; with ``to_disk``, wait until the disk has them.

        Raises:
            RecordingError: The disk is full or failed, now or before.
        """
        self._raise_failure()
        pending, self._pending, self._n_pending = self._pending, [], 0
        try:
            self._write(b"".join(pending))
            if to_disk:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._fail(error, pending)
        self._size += sum(map(len, pending))

    def close(self) -> None:
        """Hand over what is left and close; a second call, or one behind a failure, does nothing.

        Raises:
            RecordingError: The disk is full or failed.
        """
        if self.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    def _fail(self, error: OSError, pending: list[bytes]) -> None:
        """Keep the chunks that arrived whole, close, and raise.

        Raises:
            RecordingError: Always.
        """
        with contextlib.suppress(OSError), self._file:
            self._file.truncate(self._whole(self._file.tell(), pending))
        self._failure = RecordingError(
            expected=f"room and leave to write to {self._path}",
            found=error.strerror or repr(error),
            mend="free space on that disk, or record to another one; what was written so far can be read",
        )
        raise self._failure from error

    def _whole(self, reached: int, pending: list[bytes]) -> int:
        """Return where the last whole chunk ends, in bytes, when writing got as far as ``reached``."""
        end = self._size
        for chunk in pending:
            if end + len(chunk) > reached:
                break
            end += len(chunk)
        return end

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _create(path: Path) -> FileIO:
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise RecordingError(
            expected=f"a file that can be written at {path}",
            found=error.strerror or repr(error),
            mend="name a file in a folder that exists and that you may write to",
        ) from error
