"""An LSL outlet that says of itself what a recorded header says."""

from __future__ import annotations

import ctypes
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from clmer_streaming.xdf.reader import XdfStream


@dataclass(frozen=True)
class PlayedStream:
    """One stream of a recording as it is published."""

    xdf: XdfStream
    name: str  # never empty, which LSL demands
    source_id: str
    sfreq: float  # Hz, announced; 0 for an irregular stream

    @property
    def n_samples(self) -> int:
        """Samples of one round."""
        return int(self.xdf.t.size)


def make_outlet(pylsl: Any, played: PlayedStream, buffer_s: int) -> Any:
    """Return an outlet with the whole ``<desc>`` of a recorded header; host, session and times are LSL's own.

    Args:
        pylsl: The module.
        played: What is published.
        buffer_s: Seconds that are kept for a slow listener (hundreds of samples of an irregular stream).
    """
    header = played.xdf
    plain = pylsl.StreamInfo(
        played.name, header.type, header.n_channels, played.sfreq, header.channel_format, played.source_id
    )
    _fill_desc(pylsl, plain, header.desc)
    return pylsl.StreamOutlet(plain, max_buffered=buffer_s)


def _fill_desc(pylsl: Any, info: Any, desc: ET.Element) -> None:
    """Copy a whole ``<desc>`` into a description, attributes and mixed text included.

    pylsl makes elements one by one and knows no attributes, but it can copy them out of a description that
    liblsl read as text.
    """
    root = ET.fromstring(info.as_xml())
    root.append(desc)
    empty, uid = root.find("desc"), root.find("uid")
    assert empty is not None and uid is not None  # liblsl always writes both
    root.remove(empty)
    uid.text = "to be copied from"  # liblsl reads none without
    from_xml = pylsl.lib.lib.lsl_streaminfo_from_xml
    from_xml.restype = ctypes.c_void_p
    read = pylsl.StreamInfo(handle=from_xml(ET.tostring(root, encoding="utf-8")))
    child = read.desc().first_child()
    while not child.empty():
        info.desc().append_copy(child)
        child = child.next_sibling()
