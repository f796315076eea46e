"""The XML of XDF and LSL headers and footers: parsing it, and writing it.

``parse_stream_header`` gives a ``StreamDescription``, and ``announcement`` makes a ``StreamInfo`` of that. Headers are
written from an ``XdfStreamSpec``, or copied from foreign ones; footers from what was written (``WrittenStream``).
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clmer_streaming.types import StreamInfo, StreamKind
from clmer_streaming.xdf.format import NUMERIC_DTYPES, ChannelFormat

_MAX_DEPTH = 100  # of nested elements; headers have about ten, and functions that walk through them recurse
_MAX_CHANNELS = 100_000  # a header with more is damaged

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (https://www.w3.org/TR/xml/#charsets)."""

_ELEMENT_PATH = re.compile(r"[A-Za-z_][\w.-]*(/[A-Za-z_][\w.-]*)*", re.ASCII)
"""Paths of elements that are accepted; XML allows more names."""


@dataclass(frozen=True, eq=False)
class StreamDescription:
    """The header of a stream; a missing text is ``""``."""

    stream_id: int
    name: str
    type: str
    ch_names: tuple[str, ...]  # C labels; all "" where the header has more or fewer
    units: tuple[str, ...]  # C, likewise
    ch_types: tuple[str, ...]  # C, likewise
    unit: str  # the most frequent one of the channels
    sfreq: float  # Hz, nominal; 0 for irregular streams
    channel_format: str
    source_id: str
    hostname: str
    manufacturer: str
    desc: ET.Element  # the whole <desc>; empty where there is none
    xml: str  # the whole header, as it came
    n_labels: int | None  # channels that the header describes, where they are not as many as the stream has

    @property
    def n_channels(self) -> int:
        """Number of channels, C."""
        return len(self.ch_names)

    def desc_text(self, path: str) -> str:
        """Return the text of an element of ``<desc>``, by a path such as ``"synchronization/offset_mean"``."""
        return _text(self.desc, path)


def parse_stream_header(stream_id: int, content: bytes) -> StreamDescription:
    """Parse the content of a StreamHeader chunk, or the header of an LSL stream.

    Args:
        stream_id: Id of the stream in the file; 0 for an LSL stream.
        content: The XML.

    Raises:
        ValueError: The XML is broken, or has no valid channel count or format.
    """
    info = parse_xml(content)
    channel_format = _text(info, "channel_format").lower()
    if channel_format not in NUMERIC_DTYPES and channel_format != "string":
        raise ValueError(f"unknown channel format {channel_format!r}")
    n_channels = int(_text(info, "channel_count") or 0)
    if not 0 < n_channels <= _MAX_CHANNELS:
        raise ValueError(f"{n_channels} channels")
    found = info.find("desc")
    desc = found if found is not None else ET.Element("desc")
    channels = desc.findall("channels/channel") or desc.findall("channel") or info.findall("channels/channel")
    labels = [_text(channel, "label") or _text(channel, "name") for channel in channels]
    units = [_text(channel, "unit") for channel in channels]
    return StreamDescription(
        stream_id=stream_id,
        name=_text(info, "name"),
        type=_text(info, "type"),
        ch_names=_per_channel(n_channels, labels),
        units=_per_channel(n_channels, units),
        ch_types=_per_channel(n_channels, [_text(channel, "type") for channel in channels]),
        unit=_commonest(units),
        sfreq=_rate(_text(info, "nominal_srate")),
        channel_format=channel_format,
        source_id=_text(info, "source_id"),
        hostname=_text(info, "hostname"),
        manufacturer=_text(desc, "manufacturer") or _text(desc, "acquisition/manufacturer"),
        desc=desc,
        xml=content.decode("utf-8", errors="replace"),
        n_labels=len(labels) if any(labels) and len(labels) != n_channels else None,
    )


def parse_xml(content: bytes) -> ET.Element:
    """Return the root element of a header or footer.

    Raises:
        ValueError: It is not well-formed, nests its elements too deeply, or declares a document type, which XDF never
            needs and which allows entity expansion attacks.
    """
    text = content.decode("utf-8", errors="replace")
    if "<!DOCTYPE" in text:
        raise ValueError("a document type declaration is refused")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    level, depth = [root], 0
    while level:
        level, depth = [child for element in level for child in element], depth + 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} elements within each other")
    return root


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _per_channel(n_channels: int, words: Sequence[str]) -> tuple[str, ...]:
    """Return the words where there is one for each channel; else nobody can know which belongs to which: all ``""``."""
    return tuple(words) if len(words) == n_channels else ("",) * n_channels


def _commonest(words: Iterable[str]) -> str:
    counts = Counter(word for word in words if word)
    return counts.most_common(1)[0][0] if counts else ""


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        return 0.0
    return rate if math.isfinite(rate) and rate > 0 else 0.0


def announcement(header: StreamDescription, kind: StreamKind, extractor: str = "") -> StreamInfo:
    """Return the announcement of a stream, with its kind as its source key.

    The delay is ``desc/synchronization/offset_mean``, which is subtracted from the stamps (XDF meta-data,
    https://github.com/sccn/xdf/wiki/Meta-Data).

    Args:
        header: Header of the stream; LSL and XDF share the layout.
        kind: What the stream carries.
        extractor: Id of the face extractor, for a stream of faces.
    """
    return StreamInfo(
        source=kind,
        kind=kind,
        name=header.name,
        ch_names=header.ch_names,
        sfreq=header.sfreq,
        unit=header.unit,
        units=header.units if len(set(filter(None, header.units))) > 1 else (),
        n_labels=header.n_labels,
        source_id=header.source_id,
        hostname=header.hostname,
        manufacturer=header.manufacturer,
        extractor=extractor,
        type=header.type,
        channel_format=header.channel_format,
        xml=header.xml,
        delay_s=_delay_s(header.desc_text("synchronization/offset_mean")),
    )


def _delay_s(text: str) -> float:
    try:
        delay = float(text)
    except ValueError:
        return 0.0
    return delay if math.isfinite(delay) else 0.0


@dataclass(frozen=True)
class XdfStreamSpec:
    """The header of a stream to be written.

    ``units`` and ``ch_types`` have one entry for each channel, or none. A path in ``desc`` is the name of an element,
    or names separated by slashes: ``{"synchronization/offset_mean": "0.2"}``.

    Example::

        XdfStreamSpec("EPOC", "EEG", ("AF3", "AF4"), sfreq=128.0, units=("microvolts", "microvolts"))

    Raises:
        ValueError: ``units`` or ``ch_types`` has another number of entries, or a path in ``desc`` is not valid.
    """

    name: str
    type: str  # content, e.g. "EEG", "Markers", "MoCap"
    ch_names: tuple[str, ...]  # one for each channel; "" if unnamed
    sfreq: float = 0.0  # Hz; 0 for irregular streams
    channel_format: ChannelFormat = "float32"
    units: tuple[str, ...] = ()
    ch_types: tuple[str, ...] = ()
    source_id: str = ""
    hostname: str = ""
    manufacturer: str = ""
    desc: Mapping[str, str] = field(default_factory=dict)  # further elements of <desc>: path -> text
    uid: str = ""  # of this start of the stream; empty by default so that equal calls give equal bytes
    created_at: float = 0.0  # s, the stream's clock

    def __post_init__(self) -> None:
        for words in (self.units, self.ch_types):
            if words and len(words) != len(self.ch_names):
                raise ValueError(f"{self.name!r} has {len(self.ch_names)} channels, but {len(words)} in {words!r}")
        _check_paths(self.desc, self.name)


@dataclass
class WrittenStream:
    """Counts of a stream that is being written, for its footer."""

    name: str
    channel_format: str
    n_channels: int
    first: float = 0.0  # s
    last: float = 0.0  # s
    count: int = 0
    offsets: list[tuple[float, float]] = field(default_factory=list)  # (collection time, offset) in s


def file_header(datetime: str) -> bytes:
    """Return the XML of the file header; an empty ``datetime`` is left out."""
    info = ET.Element("info")
    _add(info, "version", "1.0")
    if datetime:
        _add(info, "datetime", datetime)
    return _xml(info)


def stream_header(spec: XdfStreamSpec) -> bytes:
    """Return the XML of the header of a stream."""
    info = ET.Element("info")
    for tag, text in (
        ("name", spec.name),
        ("type", spec.type),
        ("channel_count", str(len(spec.ch_names))),
        ("nominal_srate", repr(float(spec.sfreq))),
        ("channel_format", spec.channel_format),
        ("source_id", spec.source_id),
        ("created_at", repr(float(spec.created_at))),
        ("uid", spec.uid),
        ("session_id", "default"),
        ("hostname", spec.hostname),
    ):
        _add(info, tag, text)
    info.append(_desc(spec))
    return _xml(info)


def _desc(spec: XdfStreamSpec) -> ET.Element:
    desc = ET.Element("desc")
    if spec.manufacturer:
        _add(desc, "manufacturer", spec.manufacturer)
    _set_elements(desc, spec.desc)
    channels = ET.SubElement(desc, "channels")
    for i, label in enumerate(spec.ch_names):
        channel = ET.SubElement(channels, "channel")
        _add(channel, "label", label)
        for tag, words in (("unit", spec.units), ("type", spec.ch_types)):
            if words:
                _add(channel, tag, words[i])
    return desc


def copied_header(xml: str, desc: Mapping[str, str]) -> tuple[WrittenStream, bytes]:
    """Return a foreign header with further elements of ``<desc>``; without those, its bytes are unchanged.

    Args:
        xml: The header.
        desc: Elements of ``<desc>`` to set: path -> text.

    Returns:
        What is known of the stream, and the bytes of the header.

    Raises:
        ValueError: The header cannot be parsed, or a path in ``desc`` is not valid.
    """
    content = xml.encode("utf-8", errors="replace")
    described = parse_stream_header(0, content)
    record = WrittenStream(described.name, described.channel_format, described.n_channels)
    if not desc:
        return record, content
    _check_paths(desc, described.name)
    info = parse_xml(content)
    found = info.find("desc")
    _set_elements(ET.SubElement(info, "desc") if found is None else found, desc)
    return record, _xml(info)


def stream_footer(record: WrittenStream) -> bytes:
    """Return the XML of the footer of a stream."""
    info = ET.Element("info")
    if record.count:
        _add(info, "first_timestamp", repr(record.first))
        _add(info, "last_timestamp", repr(record.last))
    _add(info, "sample_count", str(record.count))
    offsets = ET.SubElement(info, "clock_offsets")
    for time, value in record.offsets:
        offset = ET.SubElement(offsets, "offset")
        _add(offset, "time", repr(float(time)))
        _add(offset, "value", repr(float(value)))
    return _xml(info)


def _check_paths(desc: Mapping[str, str], name: str) -> None:
    for path in desc:
        if not _ELEMENT_PATH.fullmatch(path) or path.partition("/")[0] in ("manufacturer", "channels"):
            raise ValueError(f"{path!r} cannot name a further element of <desc> of {name!r}")


def _set_elements(desc: ET.Element, texts: Mapping[str, str]) -> None:
    """Set the text of each path; add missing elements."""
    for path, text in texts.items():
        element = desc
        for tag in path.split("/"):
            found = element.find(tag)
            element = ET.SubElement(element, tag) if found is None else found
        element.text = _xml_text(text)


def _add(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = _xml_text(text)


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _xml(element: ET.Element) -> bytes:
    text: bytes = ET.tostring(element, encoding="utf-8", xml_declaration=False)
    return b'<?xml version="1.0"?>' + text
