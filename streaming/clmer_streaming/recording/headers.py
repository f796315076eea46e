"""The XDF header of a recorded stream: copied where the stream has one, else made from its announcement."""

from __future__ import annotations

import math

from clmer_streaming.face.layout import FACE_CH_NAMES
from clmer_streaming.types import StreamInfo
from clmer_streaming.xdf.description import parse_stream_header
from clmer_streaming.xdf.format import NUMERIC_DTYPES, ChannelFormat
from clmer_streaming.xdf.writer import XdfStreamSpec, XdfWriter

_TYPES = {"eeg": "EEG", "face": "MoCap", "markers": "Markers", "contact": "Contact-Quality"}
_DELAY = "synchronization/offset_mean"


def add_announced_stream(xdf: XdfWriter, info: StreamInfo) -> tuple[int, str] | None:
    """Add a stream as it was announced; return its id and channel format, None where no header can hold it."""
    try:
        described = parse_stream_header(0, info.xml.encode())
        said = described.desc_text(_DELAY)
        known = _number(said) == info.delay_s if said else info.delay_s == 0
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
