"""Reading a recorded session: the very items that the Preprocessor was fed, in the order of the file.

``SessionReader`` yields everything. ``read_contents`` returns what a session tells without its samples, for lists and
exports; ``is_session_recording`` tells a recorded session from a foreign XDF file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.layout import row_to_face
from clmer_streaming.recording.records import (
    CONTROL_STREAM,
    CONTROL_TYPE,
    PREDICTION_STREAM,
    PREDICTION_TYPE,
    RECORDING_FORMAT,
    SESSION,
    Lost,
    parse_record,
    record_item,
)
from clmer_streaming.types import Chunk, FaceSample, Item, Marker, StreamInfo
from clmer_streaming.xdf.chunks import PiecewiseFile, RawChunk, chunk_at
from clmer_streaming.xdf.format import MAGIC, MAX_STAMP_S, Tag
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header
from clmer_streaming.xdf.scan import Footer, SampleBlock, read_in_order

_PROGRESS_EVERY = 256  # entries
_HEAD_BYTES = 1 << 16  # bytes at the beginning of a file that contain its first stream header
_TEXT_STREAMS = {(CONTROL_STREAM, CONTROL_TYPE), (PREDICTION_STREAM, PREDICTION_TYPE)}


def is_session_recording(path: Path) -> bool:
    """Return whether a file is a session that CLMER recorded; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    at = len(MAGIC) if head.startswith(MAGIC) else len(head)
    while (chunk := chunk_at(memoryview(head), at)) is not None and chunk.whole:
        if chunk.tag == Tag.STREAM_HEADER:
            return _begins_control(chunk)
        at = chunk.end
    return False


@dataclass(frozen=True, slots=True)
class RecordedPrediction:
    """A prediction at its place in the file, as clients received it."""

    text: str  # one JSON object


Entry: TypeAlias = Item | Lost | RecordedPrediction
"""An entry of a recording."""


class SessionReader:
    """One recorded session.

    Example::

        reader = SessionReader(Path("session.xdf"))
        windows = [window for item in reader.items() for window in preprocessor.push(item)]

    Args:
        path: An XDF file for which ``is_session_recording`` is true.

    Attributes:
        header: The first record: settings, model, clocks.
        summary: Whether the file is complete, and its span in time.

    Raises:
        RecordingError: The file cannot be read, has no first record, or was made by a later version of clmer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.summary = _summarize(path)
        self.header = self._first_record()

    def entries(self, progress: Callable[[float], None] | None = None) -> Iterator[Entry]:
        """Yield everything but the first record, in the order of the file; ``Lost`` where the file is damaged.

        Args:
            progress: Called with the share of the file that was read, 0 to 1.
        """
        decoder, scan, n_damaged = _Decoder(), read_in_order(self.path), 0
        for number, entry in enumerate(scan):
            if progress is not None and number % _PROGRESS_EVERY == 0:
                progress(scan.position / scan.report.n_bytes)
            if len(scan.report.damage) > n_damaged:
                n_damaged = len(scan.report.damage)
                yield Lost(1)
            if isinstance(entry, SampleBlock) and entry.samples.intact:
                try:
                    yield from decoder.decode(entry)
                except ValueError:
                    yield Lost(1)

    def items(self) -> Iterator[Item]:
        """Return an iterator over the items that the Preprocessor was fed."""
        return (entry for entry in self.entries() if not isinstance(entry, Lost | RecordedPrediction))

    def _first_record(self) -> dict[str, Any]:
        blocks = (entry for entry in read_in_order(self.path) if isinstance(entry, SampleBlock))
        first = next(blocks, None)
        if first is None or not first.strings:
            raise self._unreadable("no first record: it was cut off as it began")
        try:
            record = parse_record(first.strings[0][0])
        except ValueError as error:
            raise self._unreadable(str(error)) from error
        if record.get("format", 0) > RECORDING_FORMAT:
            raise self._unreadable(f"format {record['format']}, of clmer {record.get('version', 'unknown')}")
        return record

    def _unreadable(self, found: str) -> RecordingError:
        return RecordingError(
            expected=f"a session recorded by clmer, of format {RECORDING_FORMAT}",
            found=f"{self.path}: {found}",
            mend="use a clmer at least as new as the one that recorded it; a file cut off at once holds nothing",
        )


class _Decoder:
    """Makes entries of blocks of samples."""

    def __init__(self) -> None:
        self._infos: dict[int, StreamInfo] = {}  # by XDF stream

    def decode(self, block: SampleBlock) -> Iterator[Entry]:
        """Yield the entries of a block.

        Raises:
            ValueError: It is a record that is not valid.
        """
        info = self._infos.get(block.stream.stream_id)
        if _is_control(block.stream):
            for (text,) in block.strings:
                yield from self._record(text)
        elif (block.stream.name, block.stream.type) == (PREDICTION_STREAM, PREDICTION_TYPE):
            yield from (RecordedPrediction(text) for (text,) in block.strings)
        elif info is not None and info.kind == "face":
            with np.errstate(invalid="ignore"):  # a damaged byte can make a NaN that signals
                rows = block.samples.x.astype(np.float64)
            yield from (row_to_face(t, row, info.source) for t, row in zip(block.t.tolist(), rows, strict=True))
        elif info is not None and info.kind != "markers":
            yield Chunk(info.source, block.t, block.x)

    def _record(self, text: str) -> Iterator[Item | Lost]:
        record = parse_record(text)
        entry = record_item(record)
        if isinstance(entry, StreamInfo) and isinstance(stream_id := record.get("stream"), int):
            self._infos[stream_id] = entry
        if entry is not None:
            yield entry


@dataclass(frozen=True, slots=True)
class FileSummary:
    """Summary of a file, read from its chunks without decoding them."""

    first: float  # s, the first stamp of any stream; NaN without samples
    last: float  # s, the latest one
    closed: bool  # whether the recording was ended in order
    warnings: tuple[str, ...]  # sentences for the user


def _summarize(path: Path) -> FileSummary:
    """Return the summary of a file.

    Raises:
        RecordingError: It cannot be read.
    """
    file, at = PiecewiseFile(path), len(MAGIC)
    first, last, n_open, damaged = math.nan, math.nan, 0, 0
    while at < file.size:
        chunk = chunk_at(file.view_chunk(at), 0)
        if chunk is None or not chunk.whole:
            damaged += 1
            at = file.after_next_boundary(at)
            continue
        n_open += (chunk.tag == Tag.STREAM_HEADER) - (chunk.tag == Tag.STREAM_FOOTER)
        t = _first_stamp(chunk) if chunk.tag == Tag.SAMPLES else math.nan
        first, last = t if math.isnan(first) else first, t if math.isnan(last) else max(last, t)
        at += chunk.end
    warnings = [f"The recording is damaged in {damaged} place(s)."] if damaged else []
    if n_open:
        warnings.append("The recording was not closed; up to its last second may be missing.")
    return FileSummary(first, last, n_open == 0, tuple(warnings))


def _first_stamp(chunk: RawChunk) -> float:
    """Return the stamp of a chunk's first sample in seconds without decoding the rest; NaN if it has none."""
    content = chunk.content
    at = 1 + content[0] if len(content) else 0
    if len(content) < at + 9 or content[at] != 8:
        return math.nan
    (t,) = struct.unpack_from("<d", content, at + 1)
    return float(t)


@dataclass
class RecordingContents:
    """A recorded session without its samples."""

    header: dict[str, Any] = field(default_factory=dict)  # the first record
    streams: dict[str, StreamInfo] = field(default_factory=dict)  # by source, as announced last
    first_t: dict[str, float] = field(default_factory=dict)  # s, by source: its first sample, minus the device delay
    markers: list[Marker] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)  # as clients received them
    n_lost: int = 0  # missing items: the disk was too slow, or the file is damaged
    closed: bool = False  # whether the recording was ended in order

    @property
    def t0(self) -> float:
        """Beginning of the session in seconds: the first sample of EEG, else of a face, else of any stream.

        Without samples it is the start of the first window; NaN without windows.
        """
        for kinds in (("eeg",), ("face",), ("physio", "contact", "other")):
            first = [t for source, t in self.first_t.items() if self.streams[source].kind in kinds]
            if first:
                return min(first)
        return float(self.predictions[0]["t_start"]) if self.predictions else math.nan


def read_contents(path: Path) -> RecordingContents:
    """Return the contents of a recorded session in one pass, without decoding its samples.

    Raises:
        RecordingError: The file cannot be read, or is not a session that CLMER recorded.
    """
    contents, seen, sources, n_open = RecordingContents(), set[int](), dict[int, str](), 0

    def wanted(stream: StreamDescription) -> bool:
        return _is_text(stream) or stream.stream_id not in seen

    scan = read_in_order(path, wanted)
    for entry in scan:
        n_open += isinstance(entry, StreamDescription) - isinstance(entry, Footer)
        if isinstance(entry, SampleBlock) and _is_text(entry.stream):
            for (text,) in entry.strings:
                _add_text(text, entry.stream.name == PREDICTION_STREAM, contents, sources)
        elif isinstance(entry, SampleBlock):
            seen.add(entry.stream.stream_id)
            source = sources.get(entry.stream.stream_id)
            if source is not None:
                _set_first(contents, source, float(entry.t[0]))
    contents.n_lost += len(scan.report.damage)
    contents.closed = n_open == 0
    if contents.header.get("record") != SESSION or not _has_clock(contents.header):
        raise RecordingError("a session that clmer recorded", f"{path} without a first record", "see --record")
    return contents


def _has_clock(header: dict[str, Any]) -> bool:
    clock = header.get("clock")
    return isinstance(clock, dict) and all(isinstance(clock.get(n), int | float) for n in ("lsl_time", "unix_time"))


def _add_text(text: str, prediction: bool, contents: RecordingContents, sources: dict[int, str]) -> None:
    """Add one text; a damaged one counts as lost."""
    try:
        if prediction:
            contents.predictions.append(json.loads(text))
            return
        record = parse_record(text)
        if not contents.header:
            contents.header = record
            return
        item = record_item(record)
    except ValueError:
        contents.n_lost += 1
        return
    if isinstance(item, StreamInfo):
        contents.streams[item.source] = item
        if isinstance(record.get("stream"), int):
            sources[record["stream"]] = item.source
    elif isinstance(item, Marker):
        contents.markers.append(item)
    elif isinstance(item, Lost):
        contents.n_lost += item.n_items
    elif isinstance(item, Chunk | FaceSample) and item.source in contents.streams:
        times = item.t[:1].tolist() if isinstance(item, Chunk) else [item.t]
        for t in times:
            _set_first(contents, item.source, t)


def _set_first(contents: RecordingContents, source: str, t: float) -> None:
    if abs(t) <= MAX_STAMP_S and contents.streams[source].kind != "markers":
        contents.first_t.setdefault(source, t - contents.streams[source].delay_s)


def _is_text(stream: StreamDescription) -> bool:
    return (stream.name, stream.type) in _TEXT_STREAMS


def _begins_control(chunk: RawChunk) -> bool:
    try:
        described = parse_stream_header(chunk.stream_id or 0, bytes(chunk.content))
    except ValueError:
        return False
    return (described.name, described.type) == (CONTROL_STREAM, CONTROL_TYPE)


def _is_control(stream: StreamDescription) -> bool:
    return (stream.name, stream.type) == (CONTROL_STREAM, CONTROL_TYPE)
