"""Marker columns among samples, as EmotivPRO sends them with its EEG: every change to a value is a marker."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import Chunk, Item, Marker, Source, StreamInfo
from clmer_streaming.xdf.reader import XdfStream

_VALUE_LABEL = "MARKERVALUE"  # PsychoPy's stream for EmotivPRO: MarkerTime, MarkerValue, CurrentTime
_PSYCHOPY_CHANNELS = 3
_LONGEST_AGE_S = 60.0  # s; what seems older was not written by these rules
_YEAR_2001_S = 1e9  # s, Unix time


@dataclass(frozen=True, slots=True)
class MarkerWords:
    """One row, as a Marker has it."""

    label: str
    value: float | None  # None where it is no number
    fields: tuple[str, ...]  # every channel; empty where the label is all there was
    age_s: float = 0.0  # how long before its stamp it happened, where the row says so


def marker_words(stream: XdfStream) -> list[MarkerWords | None]:
    """Return what each sample of a recorded marker stream says; None for a sample that says nothing new.

    A numeric stream of a regular rate is a trigger line: only a change to a value other than 0 is a marker.
    """
    if stream.channel_format == "string":
        return [string_words(row) for row in stream.strings]
    chosen = value_channel(stream.ch_names)
    values = stream.x[chosen]
    held = np.zeros(values.size, dtype=np.bool_)
    if stream.sfreq:
        before = np.concatenate([[0.0], values[:-1]])
        held = (values == before) | (values == 0) | np.isnan(values)
    rows = stream.x.T.tolist()
    return [None if skip else number_words(row, chosen) for row, skip in zip(rows, held.tolist(), strict=True)]


def string_words(row: Sequence[str]) -> MarkerWords:
    """Return what one row of strings says."""
    label = " ".join(word for word in row if word)
    return MarkerWords(label, _number(row[0]), tuple(row) if len(row) > 1 else ())


def number_words(row: Sequence[float], chosen: int) -> MarkerWords:
    """Return what one row of numbers says; ``chosen`` is the channel of the value."""
    fields = tuple(map(number_text, row))
    value = row[chosen] if math.isfinite(row[chosen]) else None
    return MarkerWords(fields[chosen], value, fields if len(row) > 1 else (), marker_age_s(row))


def value_channel(ch_names: Sequence[str]) -> int:
    """Return the channel that holds the value: the first, but the second of PsychoPy's three."""
    names = [name.strip().upper() for name in ch_names]
    if _VALUE_LABEL in names:
        return names.index(_VALUE_LABEL)
    return 1 if len(names) == _PSYCHOPY_CHANNELS else 0


def marker_age_s(row: Sequence[float]) -> float:
    """Return how many seconds before its stamp the marker of a row happened; 0 where the row does not say.

    Of the three channels MarkerTime, MarkerValue, CurrentTime (EmotivPRO's manual, LSL inlet) the last one is Unix time
    when the row was sent, by the sender's clock, and the first one when it happened.
    """
    if len(row) != _PSYCHOPY_CHANNELS or not min(row[0], row[2]) > _YEAR_2001_S:
        return 0.0
    age_s = row[2] - row[0]
    return age_s if 0 <= age_s <= _LONGEST_AGE_S else 0.0


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number_text(value: float) -> str:
    """Return a number as a label: ``5``, not ``5.0``; reading it back gives the same bits."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return str(int(value)) if whole else repr(value)


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


class MarkerRows:
    """Makes markers of a stream's rows.

    Args:
        info: The announced stream.
        numbers: For the ids; goes on where the stream was before a restart.
    """

    def __init__(self, info: StreamInfo, numbers: Iterator[int]) -> None:
        self._info = info
        self._numbers = numbers
        self._value_channel = value_channel(info.ch_names)

    def marker(self, t: float, row: Sequence[str] | Sequence[float]) -> Marker:
        """Return the marker of one row.

        Args:
            t: Its stamp in seconds.
            row: One entry for each channel of the stream: strings, or numbers.
        """
        source = self._info.source
        if self._info.channel_format == "string":
            words = string_words([str(cell) for cell in row])
        else:
            words = number_words([float(cell) for cell in row], self._value_channel)
        marker_id = f"{source}-{next(self._numbers)}"
        return Marker(t - self._info.delay_s - words.age_s, marker_id, words.label, words.value, source, words.fields)
