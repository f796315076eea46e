"""What a recorded session tells in words: announcements, markers, predictions. Its samples are passed over."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clmer_streaming.errors import RecordingError
from clmer_streaming.recording.records import (
    CONTROL_STREAM,
    CONTROL_TYPE,
    PREDICTION_STREAM,
    PREDICTION_TYPE,
    SESSION,
    Lost,
    parse_record,
    record_item,
)
from clmer_streaming.types import Chunk, FaceSample, Marker, StreamInfo
from clmer_streaming.xdf.description import StreamDescription
from clmer_streaming.xdf.format import MAX_STAMP_S
from clmer_streaming.xdf.scan import Footer, SampleBlock, read_in_order

_WORDS = {(CONTROL_STREAM, CONTROL_TYPE), (PREDICTION_STREAM, PREDICTION_TYPE)}


@dataclass
class Contents:
    """A recorded session without its samples."""

    header: dict[str, Any] = field(default_factory=dict)  # the first record
    streams: dict[str, StreamInfo] = field(default_factory=dict)  # by source, as it was announced last
    first_t: dict[str, float] = field(default_factory=dict)  # s by source: its first sample, device delay taken off
    markers: list[Marker] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)  # as clients got them
    n_lost: int = 0  # items that are missing: the disk was too slow, or the file is damaged
    closed: bool = False  # the recording was ended in order

    @property
    def t0(self) -> float:
        """Stamp in seconds at which the session begins: the first sample of EEG, else of a face, else of any stream.

        Without any sample it is the first window's start; NaN where there is none either.
        """
        for kinds in (("eeg",), ("face",), ("physio", "contact", "other")):
            first = [t for source, t in self.first_t.items() if self.streams[source].kind in kinds]
            if first:
                return min(first)
        return float(self.predictions[0]["t_start"]) if self.predictions else math.nan


def read_contents(path: Path) -> Contents:
    """Return what a recorded session tells in words; one pass, in which samples are not decoded.

    Raises:
        RecordingError: The file cannot be read, or is no session that clmer recorded.
    """
    contents, seen, sources, n_open = Contents(), set[int](), dict[int, str](), 0

    def wanted(stream: StreamDescription) -> bool:
        return _is_words(stream) or stream.stream_id not in seen

    scan = read_in_order(path, wanted)
    for entry in scan:
        n_open += isinstance(entry, StreamDescription) - isinstance(entry, Footer)
        if isinstance(entry, SampleBlock) and _is_words(entry.stream):
            for (text,) in entry.strings:
                _take(text, entry.stream.name == PREDICTION_STREAM, contents, sources)
        elif isinstance(entry, SampleBlock):
            seen.add(entry.stream.stream_id)
            source = sources.get(entry.stream.stream_id)
            if source is not None:
                _note_first(contents, source, float(entry.t[0]))
    contents.n_lost += len(scan.report.damage)
    contents.closed = n_open == 0
    if contents.header.get("record") != SESSION or not _has_clock(contents.header):
        raise RecordingError("a session that clmer recorded", f"{path} without a first record", "see --record")
    return contents


def _has_clock(header: dict[str, Any]) -> bool:
    clock = header.get("clock")
    return isinstance(clock, dict) and all(isinstance(clock.get(n), int | float) for n in ("lsl_time", "unix_time"))


def _is_words(stream: StreamDescription) -> bool:
    return (stream.name, stream.type) in _WORDS


def _take(text: str, prediction: bool, contents: Contents, sources: dict[int, str]) -> None:
    """Take one word; one that is damaged counts as lost."""
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
            _note_first(contents, item.source, t)


def _note_first(contents: Contents, source: str, t: float) -> None:
    if abs(t) <= MAX_STAMP_S and contents.streams[source].kind != "markers":
        contents.first_t.setdefault(source, t - contents.streams[source].delay_s)
