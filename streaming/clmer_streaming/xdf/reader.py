"""Reading XDF 1.0 files: everything an intact one says, and what a damaged one still holds."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import RecordingError
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.chunks import RawChunk, behind_next_boundary, chunk_at, may_follow
from clmer_streaming.xdf.clock_sync import synchronise
from clmer_streaming.xdf.description import StreamDescription, parse_stream_header, parse_xml
from clmer_streaming.xdf.format import MAGIC, MAX_STAMP_S, Tag
from clmer_streaming.xdf.samples import SampleLayout, Samples, decode_samples
from clmer_streaming.xdf.stamps import plausible_stamps


@dataclass(frozen=True, eq=False)
class XdfStream(StreamDescription):
    """One stream of a file: its header and all its samples, in file order."""

    t: FloatArray  # (n,) s, stamps as stored: the sender's clock
    t_synced: FloatArray  # (n,) s, with the clock offsets applied: the recorder's clock
    x: FloatArray  # (C, n); (0, n) for string streams; integers beyond 2**53 lose their last bits
    strings: tuple[tuple[str, ...], ...]  # n rows of C; empty for numeric streams
    clock_times: FloatArray  # (m,) s, the sender's clock, when each offset was measured
    clock_offsets: FloatArray  # (m,) s to add to the sender's clock
    footer: ET.Element | None  # None where the recording was not closed


@dataclass(frozen=True, eq=False)
class XdfFile:
    """A whole file."""

    path: Path
    streams: tuple[XdfStream, ...]  # in the order of their headers
    warnings: tuple[str, ...]  # sentences for people: what was damaged, missing or left out


@dataclass(eq=False)
class _Stream:
    """A stream while the file is read."""

    description: StreamDescription
    layout: SampleLayout
    chunks: list[Samples] = field(default_factory=list)
    offsets: list[tuple[float, float]] = field(default_factory=list)
    footer: ET.Element | None = None
    last: float = 0.0  # s, stamp of the newest sample


def read_xdf(path: str | Path) -> XdfFile:
    """Read a file; damage in it is skipped, and said in the ``warnings`` of the result.

    Raises:
        RecordingError: The file is missing, empty, not XDF, or holds no stream.
    """
    path = Path(path)
    data = _load(path)
    reading = _Reading(data)
    reading.run()
    if not reading.streams:
        raise RecordingError(
            expected="an XDF recording with at least one stream",
            found=f"{path} with {len(data)} bytes and no readable stream header",
            mend="record the session again; the recorder seems to have stopped before it saw a stream",
        )
    warnings = reading.warnings()
    streams = tuple(_finish(stream, warnings) for stream in reading.streams)
    if all(stream.footer is None for stream in streams):
        warnings.append("The recording was not closed properly (no footers); its last seconds may be missing.")
    return XdfFile(path, streams, tuple(warnings))


def _load(path: Path) -> bytes:
    found = mend = ""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        found, mend = f"no file at {path}", "check the path"
    except IsADirectoryError:
        found, mend = f"the folder {path}", "name a file in it"
    except OSError as error:
        found, mend = f"{path}, which cannot be read: {error.strerror or error!r}", "check the file's permissions"
    else:
        if not data:
            found, mend = f"{path}, which is empty", "record the session again; nothing was written to this file"
        elif data[: len(MAGIC)] != MAGIC:
            found = f"{path}, which begins with {data[:4]!r}"
            mend = "name a file that LabRecorder or clmer wrote; unpack it first if it is compressed"
    if found:
        raise RecordingError(expected="an XDF recording (a file that begins with 'XDF:')", found=found, mend=mend)
    return data


class _Reading:
    """One pass over the chunks of a file."""

    def __init__(self, data: bytes) -> None:
        self.streams: list[_Stream] = []
        self._data = data
        self._view = memoryview(data)
        self._by_id: dict[int | None, _Stream] = {}
        self._damage: list[tuple[int, int]] = []  # byte, bytes skipped
        self._cut_off = False
        self._headless: set[int | None] = set()
        self._notes: list[str] = []

    def run(self) -> None:
        at = len(MAGIC)
        while at < len(self._data):
            chunk = chunk_at(self._view, at)
            if chunk is not None and chunk.whole and self._take(chunk):
                at = chunk.end
                continue
            at = self._behind_damage(at, chunk)

    def warnings(self) -> list[str]:
        warnings = list(self._notes)
        if self._damage:
            skipped = sum(n_bytes for _, n_bytes in self._damage)
            warnings.append(
                f"The file is damaged in {len(self._damage)} place(s), first at byte {self._damage[0][0]}; "
                f"{skipped} bytes around the damage were left out."
            )
        if self._cut_off:
            warnings.append("The file is cut off within its last chunk.")
        if self._headless:
            ids = ", ".join(str(i) for i in sorted(i for i in self._headless if i is not None))
            warnings.append(f"Samples of stream id {ids} were left out, because that stream has no readable header.")
        return warnings

    def _take(self, chunk: RawChunk) -> bool:
        """Use a whole chunk; return False where it is damaged."""
        if chunk.tag == Tag.STREAM_HEADER:
            return self._take_header(chunk)
        if chunk.stream_id is not None and chunk.stream_id not in self._by_id:
            self._headless.add(chunk.stream_id)
            return may_follow(self._view, chunk.end, self._by_id.keys() | self._headless)
        if chunk.tag == Tag.SAMPLES:
            return self._take_samples(chunk)
        if chunk.tag == Tag.CLOCK_OFFSET:
            return self._take_offset(chunk)
        if chunk.tag == Tag.STREAM_FOOTER:
            return self._take_footer(chunk)
        return chunk.tag in tuple(Tag) or may_follow(self._view, chunk.end, self._by_id)

    def _take_header(self, chunk: RawChunk) -> bool:
        assert chunk.stream_id is not None
        try:
            description = parse_stream_header(chunk.stream_id, bytes(chunk.content))
        except ValueError as error:
            self._notes.append(f"The header of stream id {chunk.stream_id} cannot be used: {error}.")
            return may_follow(self._view, chunk.end, self._by_id)
        before = self._by_id.get(chunk.stream_id)
        if before is not None:
            self._notes.append(f"Stream id {chunk.stream_id} ({description.name!r}) has more than one header.")
            old = before.description
            if (old.channel_format, old.n_channels) == (description.channel_format, description.n_channels):
                return True
        interval = 1.0 / description.sfreq if description.sfreq else 0.0
        layout = SampleLayout(description.channel_format, description.n_channels, interval)
        self._by_id[chunk.stream_id] = _Stream(description, layout)
        self.streams.append(self._by_id[chunk.stream_id])
        return True

    def _take_samples(self, chunk: RawChunk) -> bool:
        stream = self._by_id[chunk.stream_id]
        samples = decode_samples(chunk.content, stream.layout, stream.last)
        if samples.t.size:
            stream.chunks.append(samples)
            stream.last = float(samples.t[-1])
        return samples.intact

    def _take_offset(self, chunk: RawChunk) -> bool:
        if len(chunk.content) != 16:
            return False
        time, offset = struct.unpack("<dd", chunk.content)
        if abs(time) <= MAX_STAMP_S and abs(offset) <= MAX_STAMP_S:
            self._by_id[chunk.stream_id].offsets.append((time, offset))
        return True

    def _take_footer(self, chunk: RawChunk) -> bool:
        try:
            self._by_id[chunk.stream_id].footer = parse_xml(bytes(chunk.content))
        except ValueError:
            return False
        return True

    def _behind_damage(self, at: int, chunk: RawChunk | None) -> int:
        """Return where to go on: behind the damaged chunk where that can be, else behind the next boundary."""
        if chunk is not None and chunk.whole and may_follow(self._view, chunk.end, self._by_id):
            self._damage.append((at, chunk.end - at))
            return chunk.end
        end = behind_next_boundary(self._data, at)
        if chunk is not None and not chunk.whole and end == len(self._data):
            self._cut_off = True
            if chunk.tag == Tag.SAMPLES and chunk.stream_id in self._by_id:
                self._take_samples(chunk)
        else:
            self._damage.append((at, end - at))
        return end


def _finish(stream: _Stream, warnings: list[str]) -> XdfStream:
    d = stream.description
    t = np.concatenate([np.empty(0), *(chunk.t for chunk in stream.chunks)])
    kept = plausible_stamps(t, regular=d.sfreq > 0)
    if not kept.all():
        warnings.append(f"{np.count_nonzero(~kept)} sample(s) of {d.name!r} were left out: impossible stamps.")
    offsets = np.array(stream.offsets, dtype=np.float64).reshape(-1, 2)
    t = t[kept]
    strings = [row for chunk in stream.chunks for row in chunk.strings]
    return XdfStream(
        **vars(d),
        t=t,
        t_synced=synchronise(t, offsets[:, 0], offsets[:, 1]),
        x=_values(stream, kept),
        strings=tuple(row for row, keep in zip(strings, kept, strict=False) if keep),
        clock_times=offsets[:, 0],
        clock_offsets=offsets[:, 1],
        footer=stream.footer,
    )


def _values(stream: _Stream, kept: npt.NDArray[np.bool_]) -> FloatArray:
    d = stream.description
    if d.channel_format == "string":
        return np.empty((0, int(np.count_nonzero(kept))))
    parts = [np.empty((0, d.n_channels)), *(chunk.x for chunk in stream.chunks)]
    with np.errstate(invalid="ignore"):  # damage can look like a signalling NaN
        rows = np.concatenate(parts, dtype=np.float64)
    return np.ascontiguousarray(rows[kept].T)
