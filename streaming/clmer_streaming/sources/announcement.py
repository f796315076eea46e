"""From what a stream's header says, live or recorded, to the item that announces it."""

from __future__ import annotations

import math

from clmer_streaming.types import StreamInfo, StreamKind
from clmer_streaming.xdf.description import StreamDescription


def announcement(header: StreamDescription, kind: StreamKind, extractor: str = "") -> StreamInfo:
    """Return the announcement of a stream, whose source key is its kind.

    The delay is ``desc/synchronization/offset_mean``, which is to be subtracted from the stamps (XDF meta-data).

    Args:
        header: The stream's own description; LSL and XDF share the layout.
        kind: What the stream carries.
        extractor: Of a face stream: which extractor made the numbers.
    """
    return StreamInfo(
        source=kind,
        kind=kind,
        name=header.name,
        ch_names=header.ch_names,
        sfreq=header.sfreq,
        unit=header.unit,
        units=header.units if len(set(filter(None, header.units))) > 1 else (),
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
