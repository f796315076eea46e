"""Marker columns among samples, as EmotivPRO sends them with its EEG: every change to a value is a marker."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clmer_streaming.sources.marker_words import number_text, value_channel
from clmer_streaming.types import Chunk, Item, Marker, Source, StreamInfo

_COLUMNS = ("MARKERS", "MARKER", "HARDWAREMARKER", "HARDWAREMARKERS", "MARKERHARDWARE")  # without - and _


@dataclass
class _Column:
    """One column of the stream that is delivered now."""

    row: int
    info: StreamInfo  # of its markers; announced with the first one
    delay_s: float
    last: float = 0.0  # its value before the next sample
    announced: bool = False


class MarkerColumns:
    """Source: what another source delivers, and the markers in it behind the chunk that holds them.

    Looked at are the marker columns of EEG, and trigger lines: numeric streams of type Markers that are sampled. A
    column is 0 where there is nothing; a value that stays for several samples is one marker.

    Args:
        source: Delivers the samples; those of one stream in one thread.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._columns: dict[str, list[_Column]] = {}  # by source
        self._numbers = itertools.count(1)  # for the ids

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver until the source ends or ``stop`` is set."""

        def put_with_markers(item: Item) -> None:
            put(item)
            for marker in self.markers(item):
                put(marker)

        self._source.run(put_with_markers, stop)

    def markers(self, item: Item) -> list[Item]:
        """Return the markers within an item, announced where they are the first of their column."""
        if isinstance(item, StreamInfo):
            self._columns[item.source] = _columns(item)
        found: list[tuple[float, Item]] = []
        if isinstance(item, Chunk):
            for column in self._columns.get(item.source, ()):
                changes = self._changes(column, item)
                if changes and not column.announced:
                    column.announced = True
                    found.append((-np.inf, column.info))
                found.extend(changes)
        return [marker for _, marker in sorted(found, key=lambda pair: pair[0])]

    def _changes(self, column: _Column, chunk: Chunk) -> list[tuple[float, Marker]]:
        values = np.nan_to_num(chunk.x[column.row])
        before = np.concatenate([[column.last], values])[:-1]
        column.last = float(values[-1]) if values.size else column.last
        at = np.flatnonzero((values != before) & (values != 0))
        return [(float(chunk.t[i]), self._marker(column, float(chunk.t[i]), values[i])) for i in at.tolist()]

    def _marker(self, column: _Column, t: float, value: float) -> Marker:
        source, label = column.info.source, number_text(float(value))
        return Marker(t - column.delay_s, f"{source}-{next(self._numbers)}", label, float(value), source, (label,))


def _columns(info: StreamInfo) -> list[_Column]:
    if info.kind == "other" and "MARKER" in info.type.upper():
        rows = [value_channel(info.ch_names)]
    else:
        names = [name.upper().replace("_", "").replace("-", "").replace(" ", "") for name in info.ch_names]
        rows = [row for row, name in enumerate(names) if info.kind == "eeg" and name in _COLUMNS]
    return [_Column(row, _info(info, row), info.delay_s) for row in rows]


def _info(stream: StreamInfo, row: int) -> StreamInfo:
    label = stream.ch_names[row] or str(row)
    return StreamInfo(
        source=f"{stream.source}:{label}",
        kind="markers",
        name=f"{stream.name}-{label}",
        ch_names=("label",),
        sfreq=0.0,
        source_id=stream.source_id and f"{stream.source_id}-{label}",
        hostname=stream.hostname,
        manufacturer=stream.manufacturer,
        type="Markers",
        channel_format="string",
    )
