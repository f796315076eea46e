"""Writing a session as it is fed to the Preprocessor; see ``records`` for the format of the file."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clmer_streaming.clock import StreamClock
from clmer_streaming.face.layout import FACE_CH_NAMES, face_to_row, row_to_face
from clmer_streaming.lsl.markers import marker_age_s
from clmer_streaming.recording.records import (
    CONTROL_STREAM,
    CONTROL_TYPE,
    PREDICTION_STREAM,
    PREDICTION_TYPE,
    item_record,
    lost_record,
    session_record,
    stream_record,
)
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, Marker, StreamInfo
from clmer_streaming.xdf.format import MAX_STAMP_S, NUMERIC_DTYPES, ChannelFormat
from clmer_streaming.xdf.header import XdfStreamSpec, parse_stream_header
from clmer_streaming.xdf.writer import XdfWriter

_TYPES = {"eeg": "EEG", "face": "MoCap", "markers": "Markers", "contact": "Contact-Quality"}
_DELAY = "synchronization/offset_mean"
_OFFSET_S = 5.0  # s of stream time between two clock offsets, as in LabRecorder
_BOUNDARY_S = 10.0  # s of stream time between two boundaries (XDF 1.0)


@dataclass(frozen=True)
class _Target:
    """The XDF stream of an announced stream."""

    info: StreamInfo
    stream_id: int
    channel_format: str


class SessionWriter:
    """Writes the recording of one session.

    Example::

        header = {"session": "P01", "clock": {"lsl_time": local_clock(), "unix_time": time.time()}}
        writer = SessionWriter(Path("session.xdf"), header)
        for item in source.items():
            writer.write(item)
        writer.close()

    Args:
        path: File to create.
        header: What is known of the session before it begins, as plain JSON values; ``clock`` in it has ``lsl_time``
            and ``unix_time``, the same moment on both clocks in seconds.
        datetime: Wall clock time for the file header (ISO 8601).

    Raises:
        RecordingError: The file cannot be created. Of every call: the disk is full or failed.
    """

    def __init__(self, path: Path, header: dict[str, Any], datetime: str = "") -> None:
        self._xdf = XdfWriter(path, datetime=datetime)
        self._control = self._xdf.add_stream(_string_stream(CONTROL_STREAM, CONTROL_TYPE, "record"))
        self._predictions = self._xdf.add_stream(_string_stream(PREDICTION_STREAM, PREDICTION_TYPE, "prediction"))
        self._targets: dict[str, _Target] = {}  # by source
        self._added: dict[StreamInfo, _Target] = {}  # a stream that returns unchanged goes on where it was
        self._now = float(header["clock"]["lsl_time"])  # s, a stamp that XDF can hold
        self._clock = StreamClock(self._now)
        self._offset_due = self._boundary_due = -math.inf
        self._write_record(session_record(header))

    def write(self, item: Item) -> None:
        """Write one item."""
        t = self._clock.update(item)
        self._now = t if abs(t) <= MAX_STAMP_S else self._now
        match item:
            case StreamInfo():
                self._announce(item)
            case Chunk() if (target := self._targets.get(item.source)) and _holds(target, item):
                self._xdf.write_samples(target.stream_id, item.t, item.x)
            case FaceSample() if (target := self._targets.get(item.source)) and _holds_face(target, item):
                self._xdf.write_samples(target.stream_id, [item.t], face_to_row(item)[:, np.newaxis])
            case _:
                self._write_record(item_record(item))
                if isinstance(item, Marker):
                    self._write_marker(item)
        self._write_periodic()

    def write_prediction(self, t_end: float, text: str) -> None:
        """Write a prediction as clients receive it.

        Args:
            t_end: End of its window in seconds.
            text: One JSON object.
        """
        self._xdf.write_samples(self._predictions, [t_end], [text])

    def write_lost(self, n_items: int) -> None:
        """Write that ``n_items`` items are missing here."""
        self._write_record(lost_record(n_items))

    def flush(self, *, to_disk: bool = False) -> None:
        """Write everything to the operating system, or ``to_disk``; see ``ChunkFile``."""
        self._xdf.flush(to_disk=to_disk)

    def close(self) -> None:
        """Write the footers and close the file."""
        self._xdf.close()

    def _announce(self, info: StreamInfo) -> None:
        self._targets.pop(info.source, None)
        target = self._added.get(info)
        if target is None and (added := add_announced_stream(self._xdf, info)) is not None:
            target = self._added[info] = _Target(info, *added)
        if target is not None:
            self._targets[info.source] = target
        self._write_record(stream_record(info, target.stream_id if target else None))

    def _write_marker(self, marker: Marker) -> None:
        """Write the marker again in a marker stream, where other programs look for it."""
        if marker.source not in self._targets:
            self._targets[marker.source] = self._unannounced_markers(marker.source)
        target = self._targets[marker.source]
        row = marker.fields if len(marker.fields) == len(target.info.ch_names) else (marker.label,)
        if len(row) != len(target.info.ch_names) or not abs(marker.t) <= MAX_STAMP_S:
            return
        with contextlib.suppress(ValueError):  # a value that the stream's format cannot hold; the record has it
            values: Any = [row]
            age_s = 0.0
            if target.channel_format != "string":
                number = int if target.channel_format == "int64" else float
                values = np.array([[number(field)] for field in row])
                age_s = marker_age_s([float(field) for field in row])
            self._xdf.write_samples(target.stream_id, [marker.t + age_s], values)

    def _unannounced_markers(self, source: str) -> _Target:
        info = StreamInfo(source, "markers", source, ("label",), 0.0, type="Markers", channel_format="string")
        return _Target(info, self._xdf.add_stream(_string_stream(source, "Markers", "label")), "string")

    def _write_record(self, text: str) -> None:
        self._xdf.write_samples(self._control, [self._now], [text])

    def _write_periodic(self) -> None:
        """Write clock offsets, which are 0 here, and boundaries at the intervals that readers expect."""
        if self._now >= self._offset_due:
            own = {self._control, self._predictions}
            for stream_id in sorted(own | {target.stream_id for target in self._targets.values()}):
                self._xdf.write_offset(stream_id, self._now, 0.0)
            self._offset_due = self._now + _OFFSET_S
        if self._now >= self._boundary_due:
            self._xdf.boundary()
            self._boundary_due = self._now + _BOUNDARY_S


def _string_stream(name: str, kind: str, label: str) -> XdfStreamSpec:
    return XdfStreamSpec(name, kind, (label,), channel_format="string", manufacturer="CLMER")


def _holds(target: _Target, chunk: Chunk) -> bool:
    """Return whether a stream holds the samples of a chunk bit for bit."""
    fits = chunk.x.shape == (len(target.info.ch_names), chunk.t.size) and chunk.t.size > 0
    if not fits or target.channel_format not in NUMERIC_DTYPES or not np.all(np.abs(chunk.t) <= MAX_STAMP_S):
        return False
    if chunk.x.dtype == np.int64:
        return target.channel_format == "int64"
    with np.errstate(over="ignore", invalid="ignore"):
        stored = chunk.x.astype(NUMERIC_DTYPES[target.channel_format]).astype(np.float64)
    return np.array_equal(stored, chunk.x, equal_nan=True)


def _holds_face(target: _Target, sample: FaceSample) -> bool:
    """Return whether a stream holds a face sample bit for bit."""
    if target.info.kind != "face" or not abs(sample.t) <= MAX_STAMP_S:
        return False
    read = row_to_face(sample.t, face_to_row(sample), sample.source)
    arrays = ("landmarks", "aus", "gaze", "pose")
    alike = (read.quality, read.flags, read.calibration) == (sample.quality, sample.flags, sample.calibration)
    return alike and all(_same(getattr(read, name), getattr(sample, name)) for name in arrays)


def _same(a: FloatArray, b: FloatArray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def add_announced_stream(xdf: XdfWriter, info: StreamInfo) -> tuple[int, str] | None:
    """Add a stream as it was announced; return its id and channel format, or None if no header can hold it."""
    try:
        described = parse_stream_header(0, info.xml.encode())
        declared = described.desc_text(_DELAY)
        known = _number(declared) == info.delay_s if declared else info.delay_s == 0
        return xdf.add_stream_xml(info.xml, {} if known else {_DELAY: repr(info.delay_s)}), described.channel_format
    except ValueError:
        spec = _spec(info)
        return (xdf.add_stream(spec), spec.channel_format) if spec.ch_names else None


def _spec(info: StreamInfo) -> XdfStreamSpec:
    ch_names = FACE_CH_NAMES if info.kind == "face" else info.ch_names
    desc = {_DELAY: repr(info.delay_s)}
    return XdfStreamSpec(
        name=info.name,
        type=info.type or _TYPES.get(info.kind, ""),
        ch_names=ch_names,
        sfreq=info.sfreq,
        channel_format=_channel_format(info),
        units=(info.unit,) * len(ch_names) if info.unit else (),
        source_id=info.source_id,
        hostname=info.hostname,
        manufacturer=info.manufacturer,
        desc={**desc, "extractor": info.extractor} if info.extractor else desc,
    )


def _channel_format(info: StreamInfo) -> ChannelFormat:
    if info.kind == "face":
        return "float32"  # a FaceSample was rounded to float32 when it was made
    if info.kind == "markers" and not info.xml:
        return "string"
    known: dict[str, ChannelFormat] = {
        "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
        "float32": "float32", "string": "string",
    }  # fmt: skip
    assert known.keys() - {"string"} <= NUMERIC_DTYPES.keys()
    return known.get(info.channel_format, "double64")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
