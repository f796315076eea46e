"""Writing XDF 1.0: a file that any reader of the format opens, the same bytes for the same calls."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.format import BOUNDARY_UUID, MAGIC, MAX_STAMP_S, NUMERIC_DTYPES, Tag, encode_length
from clmer_streaming.xdf.header import StreamRecord, XdfStreamSpec, file_header, stream_footer, stream_header

__all__ = ["XdfStreamSpec", "XdfWriter"]


class XdfWriter:
    """Writes one file chunk by chunk; what was written stays readable when the program dies.

    ::

        with XdfWriter(path) as xdf:
            eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", ("AF3", "AF4"), sfreq=128.0))
            xdf.write_samples(eeg, t, x)

    Args:
        path: File to create; an existing one is replaced.
        datetime: Wall clock of the recording (ISO 8601) for the file header; left out when empty.

    Raises:
        RecordingError: The file cannot be created.
    """

    def __init__(self, path: str | Path, *, datetime: str = "") -> None:
        self._streams: dict[int, StreamRecord] = {}
        self._closed = False
        self._file = _create(Path(path))
        self._file.write(MAGIC)
        self._chunk(Tag.FILE_HEADER, file_header(datetime))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_stream(self, spec: XdfStreamSpec) -> int:
        """Write the header of a stream and return the id that its samples go by; streams may come late."""
        stream_id = len(self._streams) + 1
        self._streams[stream_id] = StreamRecord(spec)
        self._chunk(Tag.STREAM_HEADER, stream_header(spec), stream_id)
        return stream_id

    def write_samples(self, stream_id: int, t: npt.ArrayLike, x: npt.ArrayLike) -> None:
        """Write one chunk of samples, each with its own stamp.

        Args:
            stream_id: From ``add_stream``.
            t: (n,) stamps in seconds of the stream's clock.
            x: (C, n) values; for a string stream n strings, or n rows of C strings.

        Raises:
            ValueError: Shapes disagree, a stamp is not a plausible time, or the stream's integer format
                cannot hold a value.
        """
        written = self._streams[stream_id]
        stamps = np.asarray(t, dtype=np.float64)
        if stamps.ndim != 1 or not np.all(np.abs(stamps) <= MAX_STAMP_S):
            raise ValueError(f"stamps of {written.spec.name!r} must be (n,) finite seconds, got {stamps!r}")
        if not stamps.size:
            return
        if written.spec.channel_format == "string":
            body = _string_samples(written.spec, stamps, x)
        else:
            body = _numeric_samples(written.spec, stamps, np.asarray(x))
        self._chunk(Tag.SAMPLES, encode_length(stamps.size) + body, stream_id)
        written.first = written.first if written.count else float(stamps[0])
        written.last = float(stamps[-1])
        written.count += stamps.size

    def write_offset(self, stream_id: int, collection_time: float, offset: float) -> None:
        """Write a measurement of a stream's clock.

        Args:
            stream_id: From ``add_stream``.
            collection_time: When it was measured, in seconds of the stream's own clock: the recorder's clock
                less the offset, as LabRecorder writes it and readers expect it.
            offset: Seconds to add to the stream's stamps.
        """
        self._chunk(Tag.CLOCK_OFFSET, struct.pack("<dd", collection_time, offset), stream_id)
        self._streams[stream_id].offsets.append((collection_time, offset))

    def boundary(self) -> None:
        """Write a mark behind which a damaged file is taken up again, and hand everything to the disk's cache.

        Readers expect one every 10 s.
        """
        self._chunk(Tag.BOUNDARY, BOUNDARY_UUID)
        self._file.flush()

    def close(self) -> None:
        """Write the footers and close the file; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._file:
            for stream_id, written in self._streams.items():
                self._chunk(Tag.STREAM_FOOTER, stream_footer(written), stream_id)

    def _chunk(self, tag: Tag, content: bytes, stream_id: int | None = None) -> None:
        body = struct.pack("<H", tag) + (b"" if stream_id is None else struct.pack("<I", stream_id)) + content
        self._file.write(encode_length(len(body)) + body)


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise RecordingError(
            expected=f"a file that can be written at {path}",
            found=error.strerror or repr(error),
            mend="name a file in a folder that exists and that you may write to",
        ) from error


def _numeric_samples(spec: XdfStreamSpec, stamps: npt.NDArray[np.float64], x: npt.NDArray[np.generic]) -> bytes:
    n_channels = len(spec.ch_names)
    if x.shape != (n_channels, stamps.size):
        raise ValueError(f"{spec.name!r} takes ({n_channels}, {stamps.size}) values, got {x.shape}")
    dtype = np.dtype(NUMERIC_DTYPES[spec.channel_format])
    with np.errstate(over="ignore", invalid="ignore"):
        values = x.astype(dtype)
    if dtype.kind == "i" and not np.array_equal(values, x):
        raise ValueError(f"{spec.name!r} is {spec.channel_format}, which cannot hold every value given")
    rows = np.empty(stamps.size, dtype=[("n", "u1"), ("t", "<f8"), ("x", dtype, (n_channels,))])
    rows["n"], rows["t"], rows["x"] = 8, stamps, values.T
    return rows.tobytes()


def _string_samples(spec: XdfStreamSpec, stamps: npt.NDArray[np.float64], x: npt.ArrayLike) -> bytes:
    cells = np.asarray(x, dtype=object)
    cells = cells[:, np.newaxis] if cells.ndim == 1 else cells
    if cells.shape != (stamps.size, len(spec.ch_names)) or not all(isinstance(cell, str) for cell in cells.flat):
        raise ValueError(f"{spec.name!r} takes {stamps.size} rows of {len(spec.ch_names)} strings, got {x!r}")
    parts: list[bytes] = []
    for stamp, row in zip(stamps.tolist(), cells.tolist(), strict=True):
        parts.append(b"\x08" + struct.pack("<d", stamp))
        for cell in row:
            text = cell.encode("utf-8", errors="replace")
            parts.append(encode_length(len(text)) + text)
    return b"".join(parts)
