"""The records of a recorded session: JSON for everything that is not samples, and back.

A recording is an XDF file whose first stream is the string stream ``CLMER-Session``. Its first record describes the
session. The chunks of the file are in the order in which the Preprocessor was fed: samples in their own streams,
everything else as records of this stream. Samples that their stream cannot hold bit for bit (values beyond its format,
implausible stamps, a stream that was never announced) are records, too.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from clmer_streaming.types import (
    Chunk,
    FaceFlag,
    FaceSample,
    FloatArray,
    Gap,
    Item,
    Marker,
    RestBaseline,
    StreamInfo,
    Tick,
)

CONTROL_STREAM = "CLMER-Session"
CONTROL_TYPE = "Control"
PREDICTION_STREAM = "CLMER-Predictions"
PREDICTION_TYPE = "Predictions"
RECORDING_FORMAT = 1
"""Version of the records; readers refuse later ones."""

SESSION, STREAM, LOST = "session", "stream", "lost"
"""Kinds of records beside items: the first one, an announcement with its XDF stream, and missing items."""

_PLAIN: dict[str, type[Tick | Gap | Marker | RestBaseline]] = {
    "tick": Tick,
    "gap": Gap,
    "marker": Marker,
    "rest": RestBaseline,
}
_FACE_ARRAYS = ("landmarks", "aus", "gaze", "pose")


@dataclass(frozen=True, slots=True)
class Lost:
    """Items that are missing in the recording: the disk was too slow, or the file is damaged."""

    n_items: int


def session_record(header: dict[str, Any]) -> str:
    """Return the first record of a recording.

    Args:
        header: What is known of the session, as plain JSON values.
    """
    return _text({"record": SESSION, "format": RECORDING_FORMAT, **header})


def stream_record(info: StreamInfo, stream_id: int | None) -> str:
    """Return the record of an announcement; ``stream_id`` is the XDF stream of its samples, or None."""
    return _text({"record": STREAM, "stream": stream_id, "info": dataclasses.asdict(info)})


def lost_record(n_items: int) -> str:
    """Return the record of missing items."""
    return _text({"record": LOST, "n_items": n_items})


def item_record(item: Chunk | FaceSample | Marker | Tick | Gap | RestBaseline) -> str:
    """Return the record of an item, bit for bit: arrays are base64 of little-endian float64, or int64."""
    if isinstance(item, Chunk):
        fields: dict[str, Any] = {"source": item.source, "t": _packed(item.t), "x": _packed(item.x)}
        return _text({"record": "chunk", **fields})
    if isinstance(item, FaceSample):
        fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
        fields |= {name: _packed(fields[name]) for name in _FACE_ARRAYS} | {"flags": int(item.flags)}
        return _text({"record": "face", **fields})
    kind = next(kind for kind, cls in _PLAIN.items() if isinstance(item, cls))
    return _text({"record": kind, **dataclasses.asdict(item)})


def parse_record(text: str) -> dict[str, Any]:
    """Return a record as a dictionary with the key ``record``.

    Raises:
        ValueError: The text is not a record.
    """
    record = json.loads(text)
    if not isinstance(record, dict) or "record" not in record:
        raise ValueError(f"no record: {text[:80]!r}")
    return record


def record_item(record: dict[str, Any]) -> Item | Lost | None:
    """Return the content of a record; None for the first one, and for kinds of later versions.

    Raises:
        ValueError: A field is missing or not valid.
    """
    fields = {key: value for key, value in record.items() if key != "record"}
    try:
        return _item(record["record"], fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a record {record['record']!r} with {sorted(fields)}: {error}") from error


def _item(kind: str, fields: dict[str, Any]) -> Item | Lost | None:
    if kind == STREAM:
        return _announcement(fields["info"])
    if kind == LOST:
        return Lost(fields["n_items"])
    if kind == "chunk":
        return Chunk(fields["source"], _unpacked(fields["t"]), _unpacked(fields["x"]))
    if kind == "face":
        arrays = {name: _unpacked(fields[name]) for name in _FACE_ARRAYS}
        return FaceSample(**{**fields, **arrays, "flags": FaceFlag(fields["flags"])})
    frozen = {name: _frozen(value) for name, value in fields.items()}
    return _PLAIN[kind](**frozen) if kind in _PLAIN else None


def _announcement(info: dict[str, Any]) -> StreamInfo:
    known = {field.name for field in dataclasses.fields(StreamInfo)}
    given: dict[str, Any] = {name: _frozen(value) for name, value in info.items() if name in known}
    return StreamInfo(**given)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _packed(values: FloatArray) -> dict[str, Any]:
    name, dtype = ("int64", "<i8") if values.dtype == np.int64 else ("float64", "<f8")
    content = np.ascontiguousarray(values, dtype=dtype).tobytes()
    return {"shape": values.shape, name: base64.b64encode(content).decode()}


def _unpacked(packed: dict[str, Any]) -> FloatArray:
    name, dtype = ("int64", "<i8") if "int64" in packed else ("float64", "<f8")
    content = np.frombuffer(base64.b64decode(packed[name]), dtype=dtype)
    values: FloatArray = content.reshape(packed["shape"]).astype(name)
    return values


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))
