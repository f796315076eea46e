"""What the header of a stream says, read from XML that others wrote."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from clmer_streaming.xdf.format import NUMERIC_DTYPES

_MAX_DEPTH = 100  # elements within each other; headers have about ten, and what walks through them recurses
_MAX_CHANNELS = 100_000  # a header beyond is damaged; no device comes near


@dataclass(frozen=True, eq=False)
class StreamDescription:
    """The header of a stream; a word that is missing there is ``""``."""

    stream_id: int
    name: str
    type: str
    ch_names: tuple[str, ...]  # C labels
    units: tuple[str, ...]  # C
    ch_types: tuple[str, ...]  # C
    unit: str  # the one most channels declare
    sfreq: float  # Hz, nominal; 0 for irregular streams
    channel_format: str
    source_id: str
    hostname: str
    manufacturer: str
    desc: ET.Element  # the whole <desc>; empty where there is none
    xml: str  # the whole header, as it came

    @property
    def n_channels(self) -> int:
        """Number of channels, C."""
        return len(self.ch_names)

    def desc_text(self, path: str) -> str:
        """Return the text below ``<desc>`` at a path such as ``"synchronization/offset_mean"``."""
        return _text(self.desc, path)


def parse_xml(content: bytes) -> ET.Element:
    """Return the root element of a header or footer.

    Raises:
        ValueError: It is not well-formed, nests its elements without sense, or declares a document type, which
            XDF never needs and which is the door to entity bombs.
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


def parse_stream_header(stream_id: int, content: bytes) -> StreamDescription:
    """Return what a StreamHeader chunk says.

    Raises:
        ValueError: Its samples could not be decoded: no sensible channel count or format, or broken XML.
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
    units = _per_channel(n_channels, (_text(channel, "unit") for channel in channels))
    return StreamDescription(
        stream_id=stream_id,
        name=_text(info, "name"),
        type=_text(info, "type"),
        ch_names=_per_channel(n_channels, (_text(channel, "label") or _text(channel, "name") for channel in channels)),
        units=units,
        ch_types=_per_channel(n_channels, (_text(channel, "type") for channel in channels)),
        unit=_commonest(units),
        sfreq=_rate(_text(info, "nominal_srate")),
        channel_format=channel_format,
        source_id=_text(info, "source_id"),
        hostname=_text(info, "hostname"),
        manufacturer=_text(desc, "manufacturer") or _text(desc, "acquisition/manufacturer"),
        desc=desc,
        xml=content.decode("utf-8", errors="replace"),
    )


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _per_channel(n_channels: int, words: Iterable[str]) -> tuple[str, ...]:
    given = tuple(words)[:n_channels]
    return given + ("",) * (n_channels - len(given))


def _commonest(words: tuple[str, ...]) -> str:
    counts = Counter(word for word in words if word)
    return counts.most_common(1)[0][0] if counts else ""


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        return 0.0
    return rate if math.isfinite(rate) and rate > 0 else 0.0
