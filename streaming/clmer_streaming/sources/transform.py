"""Changes to the items of a source on their way: corrected announcements, series names, and marker columns.

A transform takes one item and returns the items to deliver in its place; ``TransformedSource`` applies several to
everything that a source delivers.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from clmer_streaming.config import physio_source
from clmer_streaming.lsl.markers import format_number, value_channel
from clmer_streaming.pipeline.channels import with_unit
from clmer_streaming.types import Chunk, Gap, Item, Marker, Source, StreamInfo, Tick

Transform: TypeAlias = Callable[[Item], list[Item]]
"""Returns the items to deliver in place of one item."""


class TransformedSource:
    """Source: the items of another source after one or more transforms.

    Example::

        source = TransformedSource(headset, EegCorrections(unit="mV").apply, MarkerColumns().apply)

    Args:
        source: The source whose items are changed; each of its streams has to be delivered by one thread.
        transforms: Applied in this order.
    """

    def __init__(self, source: Source, *transforms: Transform) -> None:
        self._source = source
        self._transforms = transforms

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver until the source ends or ``stop`` is set."""

        def put_transformed(item: Item) -> None:
            items = [item]
            for transform in self._transforms:
                items = [changed for one in items for changed in transform(one)]
            for changed in items:
                put(changed)

        self._source.run(put_transformed, stop)


@dataclass(frozen=True)
class EegCorrections:
    """Corrections of what an EEG stream declares of itself."""

    unit: str | None = None  # in place of the declared one
    delay_s: float = 0.0  # in addition to the declared one
    sfreq: float | None = None  # Hz, in place of the declared rate

    def apply(self, item: Item) -> list[Item]:
        """Return the announcement of an EEG stream corrected, and every other item unchanged."""
        if not isinstance(item, StreamInfo) or item.kind != "eeg":
            return [item]
        info = item if self.unit is None else with_unit(item, self.unit)
        if self.sfreq is not None and self.sfreq != info.sfreq:
            declared = f"declares {info.sfreq:g} Hz" if info.sfreq else "declares no rate"
            note = f"{declared}, taken as {self.sfreq:g} Hz (--eeg-rate)"
            info = dataclasses.replace(info, sfreq=self.sfreq, note="; ".join(filter(None, (info.note, note))))
        return [dataclasses.replace(info, delay_s=info.delay_s + self.delay_s) if self.delay_s else info]


class SeriesNames:
    """Announces streams of given names or types as physiological series of the model.

    A session is recorded with every stream that was there, whether the model of that day had a series for it or not.
    Streams that were series then keep their names.

    Args:
        streams: Series -> name or type of the stream that gives it, in any case; the first such stream is used.
    """

    def __init__(self, streams: Mapping[str, str]) -> None:
        self._streams = {series: stream.lower() for series, stream in streams.items()}
        self._renamed: dict[str, str] = {}  # source key -> source key of the series

    def apply(self, item: Item) -> list[Item]:
        """Return an item of a named stream under the source key of its series, and every other item unchanged."""
        if isinstance(item, StreamInfo) and item.kind in ("other", "contact"):
            self._assign(item)
            if item.source in self._renamed:
                return [dataclasses.replace(item, source=self._renamed[item.source], kind="physio")]
        if isinstance(item, Chunk | Gap | Tick) and item.source in self._renamed:
            return [dataclasses.replace(item, source=self._renamed[item.source])]
        return [item]

    def _assign(self, info: StreamInfo) -> None:
        """Assign a stream to the series that asks for it and has none yet."""
        for series, stream in self._streams.items():
            key = physio_source(series)
            if stream in (info.name.lower(), info.type.lower()) and key not in self._renamed.values():
                self._renamed.setdefault(info.source, key)


_COLUMN_NAMES = ("MARKERS", "MARKER", "HARDWAREMARKER", "HARDWAREMARKERS", "MARKERHARDWARE")  # without - and _


@dataclass
class _Column:
    """One marker column of a stream."""

    row: int  # of the chunk
    info: StreamInfo  # of its markers; announced with the first one
    delay_s: float
    last: float = 0.0  # its value before the next sample
    announced: bool = False


class MarkerColumns:
    """Adds the markers that are columns of sampled streams, behind the chunk that holds them.

    Marker columns are those of an EEG stream that are named so, as EmotivPRO sends them, and trigger lines: numeric
    streams of type Markers with a nominal rate. A column is 0 where there is nothing; each change to another value is
    a marker, however many samples the value lasts.
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[_Column]] = {}  # by source
        self._numbers = itertools.count(1)  # for the ids

    def apply(self, item: Item) -> list[Item]:
        """Return the item, and the markers in it by stamp, each column's announcement before its first marker."""
        if isinstance(item, StreamInfo):
            self._columns[item.source] = _marker_columns(item)
        found: list[tuple[float, Item]] = []
        if isinstance(item, Chunk):
            for column in self._columns.get(item.source, ()):
                changes = self._changes(column, item)
                if changes and not column.announced:
                    column.announced = True
                    found.append((-np.inf, column.info))
                found.extend(changes)
        return [item, *(marker for _, marker in sorted(found, key=lambda pair: pair[0]))]

    def _changes(self, column: _Column, chunk: Chunk) -> list[tuple[float, Marker]]:
        """Return the stamp and the marker of each change in a chunk."""
        values = np.nan_to_num(chunk.x[column.row])
        before = np.concatenate([np.array([column.last], values.dtype), values])[:-1]
        column.last = values[-1].item() if values.size else column.last
        at = np.flatnonzero((values != before) & (values != 0))
        return [(float(chunk.t[i]), self._marker(column, float(chunk.t[i]), values[i].item())) for i in at.tolist()]

    def _marker(self, column: _Column, t: float, value: float) -> Marker:
        source, label = column.info.source, format_number(value)
        return Marker(t - column.delay_s, f"{source}-{next(self._numbers)}", label, float(value), source, (label,))


def _marker_columns(info: StreamInfo) -> list[_Column]:
    if info.kind == "other" and "MARKER" in info.type.upper():
        rows = [value_channel(info.ch_names)]
    else:
        names = [name.upper().replace("_", "").replace("-", "").replace(" ", "") for name in info.ch_names]
        rows = [row for row, name in enumerate(names) if info.kind == "eeg" and name in _COLUMN_NAMES]
    return [_Column(row, _column_info(info, row), info.delay_s) for row in rows]


def _column_info(stream: StreamInfo, row: int) -> StreamInfo:
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
