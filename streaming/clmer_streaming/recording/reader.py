"""Reading a recorded session back: the very items that the Preprocessor was fed, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    Lost,
    parse_record,
    record_item,
)
from clmer_streaming.recording.survey import Survey, survey
from clmer_streaming.types import Chunk, Item, StreamInfo
from clmer_streaming.xdf.description import StreamDescription
from clmer_streaming.xdf.scan import SampleBlock, read_in_order


@dataclass(frozen=True, slots=True)
class RecordedPrediction:
    """A prediction at its place in the file, as clients got it."""

    text: str  # one JSON object


Entry: TypeAlias = Item | Lost | RecordedPrediction
"""What a recording holds, one after the other."""


class SessionReader:
    """One recorded session.

    Args:
        path: An XDF file that ``is_session_recording``.

    Attributes:
        header: The first record: settings, model, clocks.
        survey: Whether the file is whole, and its span in time.

    Raises:
        RecordingError: The file cannot be read, has no first record, or was made by a later version of clmer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.survey: Survey = survey(path)
        self.header = self._first_record()

    def entries(self) -> Iterator[Entry]:
        """Yield everything but the first record, in the order of the file; ``Lost`` where it is damaged."""
        decoder, scan, n_damaged = _Decoder(), read_in_order(self.path), 0
        for entry in scan:
            if len(scan.report.damage) > n_damaged:
                n_damaged = len(scan.report.damage)
                yield Lost(1)
            if isinstance(entry, SampleBlock) and entry.samples.intact:
                try:
                    yield from decoder.decode(entry)
                except ValueError:
                    yield Lost(1)

    def items(self) -> Iterator[Item]:
        """Yield what the Preprocessor was fed."""
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
    """Turns blocks of samples into entries."""

    def __init__(self) -> None:
        self._infos: dict[int, StreamInfo] = {}  # by XDF stream

    def decode(self, block: SampleBlock) -> Iterator[Entry]:
        """Yield what a block holds.

        Raises:
            ValueError: It is a record that cannot be read.
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


def _is_control(stream: StreamDescription) -> bool:
    return (stream.name, stream.type) == (CONTROL_STREAM, CONTROL_TYPE)
