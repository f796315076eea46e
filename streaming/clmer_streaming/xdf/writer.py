"""Writing XDF 1.0 files that any reader of the format opens; the same calls give the same bytes.

``XdfWriter`` encodes streams and samples; ``ChunkFile`` writes whole chunks, so that a file is readable whenever the
program ends.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.format import BOUNDARY_UUID, MAGIC, MAX_STAMP_S, NUMERIC_DTYPES, Tag, encode_length
from clmer_streaming.xdf.header import (
    WrittenStream,
    XdfStreamSpec,
    copied_header,
    file_header,
    stream_footer,
    stream_header,
)

_MOST_PENDING = 2**16  # bytes after which pending chunks are written without a flush


class XdfWriter:
    """Writes one XDF file chunk by chunk; what was written stays readable if the program dies or the disk is full.

    Example::

        with XdfWriter(path) as xdf:
            eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", ("AF3", "AF4"), sfreq=128.0))
            xdf.write_samples(eeg, t, x)

    For a live recording, call ``flush`` every second, and ``boundary`` and ``flush(to_disk=True)`` every 10 s: then a
    killed program loses at most the last second, and a power cut at most the last ten.

    Args:
        path: File to create; an existing one is replaced.
        datetime: Wall clock time of the recording (ISO 8601) for the file header; left out if empty.

    Raises:
        RecordingError: The file cannot be created. Of every later call: the disk is full or failed, now or
            before; the file then holds whole chunks and is closed.
    """

    def __init__(self, path: str | Path, *, datetime: str = "") -> None:
        self._streams: dict[int, WrittenStream] = {}
        self._file = ChunkFile(Path(path))
        self._file.append(MAGIC)
        self._chunk(Tag.FILE_HEADER, file_header(datetime))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_stream(self, spec: XdfStreamSpec) -> int:
        """Write the header of a stream and return its id; streams may be added at any time."""
        return self._add(WrittenStream(spec.name, spec.channel_format, len(spec.ch_names)), stream_header(spec))

    def add_stream_xml(self, xml: str, desc: Mapping[str, str] | None = None) -> int:
        """Write a foreign stream's header and return the id of the stream.

        Args:
            xml: The whole header of an LSL or XDF stream; without ``desc`` it is written unchanged.
            desc: Elements of ``<desc>`` to set: path -> text, as in XdfStreamSpec.

        Raises:
            ValueError: The XML is broken, or has no valid channel count or format.
        """
        return self._add(*copied_header(xml, desc or {}))

    def write_samples(self, stream_id: int, t: npt.ArrayLike, x: npt.ArrayLike) -> None:
        """Write one chunk of samples, each with its own stamp.

        Args:
            stream_id: Id from ``add_stream``.
            t: (n,) stamps in seconds of the stream's clock.
            x: (C, n) values; for a string stream n strings, or n rows of C strings.

        Raises:
            ValueError: Shapes disagree, a stamp is not a plausible time, or the stream's integer format
                cannot hold a value; nothing is written then.
        """
        written = self._streams[stream_id]
        stamps = np.asarray(t, dtype=np.float64)
        if stamps.ndim != 1 or not np.all(np.abs(stamps) <= MAX_STAMP_S):
            raise ValueError(f"stamps of {written.name!r} must be (n,) finite seconds, got {stamps!r}")
        if not stamps.size:
            return
        if written.channel_format == "string":
            body = _string_samples(written, stamps, x)
        else:
            body = _numeric_samples(written, stamps, np.asarray(x))
        self._chunk(Tag.SAMPLES, encode_length(stamps.size) + body, stream_id)
        written.first = written.first if written.count else float(stamps[0])
        written.last = float(stamps[-1])
        written.count += stamps.size

    def write_offset(self, stream_id: int, collection_time: float, offset: float) -> None:
        """Write a measurement of a stream's clock (a ClockOffset chunk).

        Args:
            stream_id: Id from ``add_stream``.
            collection_time: When it was measured, in seconds of the stream's own clock: the recorder's clock
                less the offset, as LabRecorder writes it and readers expect it.
            offset: Seconds to add to the stream's stamps.
        """
        self._chunk(Tag.CLOCK_OFFSET, struct.pack("<dd", collection_time, offset), stream_id)
        self._streams[stream_id].offsets.append((collection_time, offset))

    def flush(self, *, to_disk: bool = False) -> None:
        """Write everything to the operating system, or ``to_disk``; see ``ChunkFile``."""
        self._file.flush(to_disk=to_disk)

    def boundary(self) -> None:
        """Write a boundary, after which the reading of a damaged file can resume, and flush.

        Readers expect one every 10 s.
        """
        self._chunk(Tag.BOUNDARY, BOUNDARY_UUID)
        self._file.flush()

    def close(self) -> None:
        """Write the footers and close the file; a second call, or one after a failure, does nothing."""
        if self._file.closed:
            return
        for stream_id, written in self._streams.items():
            self._chunk(Tag.STREAM_FOOTER, stream_footer(written), stream_id)
        self._file.close()

    def _add(self, record: WrittenStream, header: bytes) -> int:
        stream_id = len(self._streams) + 1
        self._chunk(Tag.STREAM_HEADER, header, stream_id)
        self._streams[stream_id] = record
        return stream_id

    def _chunk(self, tag: Tag, content: bytes, stream_id: int | None = None) -> None:
        body = struct.pack("<H", tag) + (b"" if stream_id is None else struct.pack("<I", stream_id)) + content
        self._file.append(encode_length(len(body)) + body)


def _numeric_samples(stream: WrittenStream, stamps: npt.NDArray[np.float64], x: npt.NDArray[np.generic]) -> bytes:
    n_channels = stream.n_channels
    if x.shape != (n_channels, stamps.size):
        raise ValueError(f"{stream.name!r} takes ({n_channels}, {stamps.size}) values, got {x.shape}")
    dtype = np.dtype(NUMERIC_DTYPES[stream.channel_format])
    with np.errstate(over="ignore", invalid="ignore"):
        values = x.astype(dtype)
    if dtype.kind == "i" and not np.array_equal(values, x):
        raise ValueError(f"{stream.name!r} is {stream.channel_format}, which cannot hold every value given")
    rows = np.empty(stamps.size, dtype=[("n", "u1"), ("t", "<f8"), ("x", dtype, (n_channels,))])
    rows["n"], rows["t"], rows["x"] = 8, stamps, values.T
    return rows.tobytes()


def _string_samples(stream: WrittenStream, stamps: npt.NDArray[np.float64], x: npt.ArrayLike) -> bytes:
    cells = np.asarray(x, dtype=object)
    cells = cells[:, np.newaxis] if cells.ndim == 1 else cells
    if cells.shape != (stamps.size, stream.n_channels) or not all(isinstance(cell, str) for cell in cells.flat):
        raise ValueError(f"{stream.name!r} takes {stamps.size} rows of {stream.n_channels} strings, got {x!r}")
    parts: list[bytes] = []
    for stamp, row in zip(stamps.tolist(), cells.tolist(), strict=True):
        parts.append(b"\x08" + struct.pack("<d", stamp))
        for cell in row:
            text = cell.encode("utf-8", errors="replace")
            parts.append(encode_length(len(text)) + text)
    return b"".join(parts)


class ChunkFile:
    """A file of whole chunks, of which several are written at once.

    Flushed chunks survive the end of the program (``kill -9``); chunks flushed ``to_disk`` also survive a power cut.
    When the disk is full or fails, the file is truncated to its last whole chunk and closed, and every later call
    raises the same error.

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
        """Whether the file was closed, or has failed."""
        return self._file.closed

    def append(self, chunk: bytes) -> None:
        """Append one whole chunk.

        Raises:
            RecordingError: The disk is full or failed, now or before.
        """
        self._raise_failure()
        self._pending.append(chunk)
        self._n_pending += len(chunk)
        if self._n_pending >= _MOST_PENDING:
            self.flush()

    def flush(self, *, to_disk: bool = False) -> None:
        """Write all pending chunks; with ``to_disk``, wait until the disk has them.

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
        """Write all pending chunks and close; a second call, or one after a failure, does nothing.

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
        """Truncate the file to its last whole chunk, close it, and raise.

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
        """Return the byte where the last whole chunk ends if writing got as far as byte ``reached``."""
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
