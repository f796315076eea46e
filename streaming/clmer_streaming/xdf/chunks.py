"""The chunks of an XDF file, not yet decoded: ``PiecewiseFile`` reads them piece by piece, ``chunk_at`` splits them.

Memory does not grow with the file: one piece of it is held at a time, or one chunk where that is longer.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.format import BOUNDARY_UUID, MAGIC, Tag, decode_length

_LENGTH = struct.Struct("<I")
_OF_STREAM = struct.Struct("<HI")  # tag and stream id
_OF_A_STREAM = (Tag.STREAM_HEADER, Tag.SAMPLES, Tag.CLOCK_OFFSET, Tag.STREAM_FOOTER)
_PIECE = 1 << 20  # bytes that are read at once
_LARGE_CHUNK = 1 << 26  # bytes; a longer chunk is read only if another one begins where it ends
_HEAD = 32  # bytes that tell whether a chunk begins


class PiecewiseFile:
    """The bytes of an XDF file, of which one piece is in memory at a time.

    Args:
        path: Path of the file.

    Attributes:
        size: Bytes of the file.

    Raises:
        RecordingError: The file is missing, cannot be read, is empty or does not begin as XDF does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = _check_recording(path)
        self._begin = 0  # byte at which the piece in memory begins
        self._piece = b""

    def view(self, at: int, n_bytes: int = _PIECE) -> memoryview:
        """Return the bytes from ``at`` on: so many, more if they are in memory, or all up to the end of the file.

        Raises:
            RecordingError: The file cannot be read any more.
        """
        behind = at - self._begin
        if behind < 0 or behind + min(n_bytes, self.size - at) > len(self._piece):
            self._piece = b""  # so that there are never two in memory
            self._piece = self._read(at, max(n_bytes, _PIECE))
            self._begin, behind = at, 0
        return memoryview(self._piece)[behind:]

    def view_chunk(self, at: int) -> memoryview:
        """Return the bytes from ``at`` on: the whole chunk that begins there, if there is one, and the next head.

        Damage can look like a chunk of any length: a long one is read if its end is that of the file, or if a chunk of
        a known kind begins there.

        Raises:
            RecordingError: The file cannot be read any more.
        """
        view = self.view(at, _HEAD)
        length = decode_length(view, 0)
        if length is None:
            return view
        n_bytes, start = length
        needed, left = start + n_bytes, self.size - at
        if needed + _HEAD <= len(view) or needed > left:
            return view
        if n_bytes > _LARGE_CHUNK and not can_continue(memoryview(self._read(at + needed, _HEAD)), 0):
            return view
        return self.view(at, needed + _HEAD)

    def _read(self, at: int, n_bytes: int) -> bytes:
        """Return so many bytes from ``at`` on, fewer at the end; the file is open no longer than that."""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(at)
                return file.read(n_bytes)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def after_next_boundary(self, at: int) -> int:
        """Return the byte after the next boundary chunk behind ``at``; the end of the file if there is none."""
        while at < self.size:
            view = self.view(at, _PIECE)
            found = bytes(view).find(BOUNDARY_UUID)
            if found >= 0:
                return at + found + len(BOUNDARY_UUID)
            at += max(1, len(view) - len(BOUNDARY_UUID) + 1)
        return self.size


@dataclass(frozen=True, slots=True)
class RawChunk:
    """One chunk, not yet decoded."""

    tag: int
    stream_id: int | None  # None for chunks of the file
    content: memoryview  # behind tag and stream id
    end: int  # byte where the next chunk begins
    whole: bool = True  # False if the file ends within the chunk


def chunk_at(data: memoryview, at: int) -> RawChunk | None:
    """Return the chunk that begins at byte ``at``; None if no valid chunk begins there."""
    length = decode_length(data, at)
    if length is None:
        return None
    n_bytes, start = length
    end, body = start + n_bytes, data[start : start + n_bytes]
    if n_bytes < 2 or len(body) < 2:
        return None
    tag = int.from_bytes(body[:2], "little")
    whole = end <= len(data)
    if tag not in _OF_A_STREAM:
        return RawChunk(tag, None, body[2:], end, whole)
    if len(body) < 6:
        return None
    (stream_id,) = struct.unpack_from("<I", body, 2)
    return RawChunk(tag, stream_id, body[6:], end, whole)


def skip_samples_of(data: memoryview, at: int, stream_ids: Container[int | None]) -> int:
    """Return the byte where a run of whole sample chunks of these streams ends that begins at byte ``at``.

    Written for speed: an hour of a session has hundreds of thousands of such chunks.
    """
    n = len(data)
    while at + 9 <= n:  # the shortest chunk of a stream: two bytes of length, two of tag, four of stream, one of count
        n_length = data[at]
        start = at + 1 + n_length
        if n_length == 1:
            length = data[at + 1]
        elif n_length == 4 and start + 6 <= n:
            (length,) = _LENGTH.unpack_from(data, at + 1)
        else:
            break
        tag, stream_id = _OF_STREAM.unpack_from(data, start)
        end = start + length
        if tag != Tag.SAMPLES or stream_id not in stream_ids or length < 6 or end > n:
            break
        at = end
    return at


def can_continue(data: memoryview, at: int, known: Container[int | None] | None = None) -> bool:
    """Return whether the file ends at byte ``at``, or a chunk of a known kind and stream begins there.

    Args:
        data: The file, or what follows byte 0 of it: to its end, or for 32 bytes from ``at`` on at least.
        at: Byte of it.
        known: Ids of the known streams; None: any stream will do.
    """
    if at == len(data):
        return True
    chunk = chunk_at(data, at)
    if chunk is None or chunk.tag not in tuple(Tag):
        return False
    if known is None or chunk.stream_id is None or chunk.tag == Tag.STREAM_HEADER:
        return True
    return chunk.stream_id in known


def _check_recording(path: Path) -> int:
    """Return the size of an XDF file in bytes.

    Raises:
        RecordingError: The file is missing, cannot be read, is empty or does not begin as XDF does.
    """
    found = mend = ""
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(len(MAGIC))
    except FileNotFoundError:
        found, mend = f"no file at {path}", "check the path"
    except IsADirectoryError:
        found, mend = f"the folder {path}", "name a file in it"
    except OSError as error:
        raise _unreadable(path, error) from error
    else:
        if not size:
            found, mend = f"{path}, which is empty", "record the session again; nothing was written to this file"
        elif head != MAGIC:
            found = f"{path}, which begins with {head!r}"
            mend = "name a file that LabRecorder or clmer wrote; unpack it first if it is compressed"
    if found:
        raise RecordingError(expected="an XDF recording (a file that begins with 'XDF:')", found=found, mend=mend)
    return size


def _unreadable(path: Path, error: OSError) -> RecordingError:
    return RecordingError(
        expected="an XDF recording (a file that begins with 'XDF:')",
        found=f"{path}, which cannot be read: {error.strerror or error!r}",
        mend="check the file's permissions, and the disk that it is on",
    )
