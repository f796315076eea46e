"""Markers from the rows of marker streams, live and recorded: their label, value, fields and time.

``parse_marker_rows`` reads a recorded stream, ``MarkerDecoder`` a live one; both use the same rules for a row. The
three channels MarkerTime, MarkerValue and CurrentTime are those by which PsychoPy sends markers to EmotivPRO (EmotivPRO
manual, LSL inlet).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import Marker, StreamInfo
from clmer_streaming.xdf.reader import XdfStream

_VALUE_LABEL = "MARKERVALUE"
_PSYCHOPY_CHANNELS = 3  # MarkerTime, MarkerValue, CurrentTime
_LONGEST_AGE_S = 60.0  # s; an apparently older row does not follow these rules
_YEAR_2001_S = 1e9  # s, Unix time


class MarkerDecoder:
    """Makes markers of the rows of one live stream.

    Example::

        decoder = MarkerDecoder(info, itertools.count(1))
        decoder.decode(12.5, ["stimulus/joy"])

    Args:
        info: The announced stream.
        numbers: Numbers for the ids of its markers; they continue when the stream was restarted.
    """

    def __init__(self, info: StreamInfo, numbers: Iterator[int]) -> None:
        self._info = info
        self._numbers = numbers
        self._value_channel = value_channel(info.ch_names)

    def decode(self, t: float, row: Sequence[str] | Sequence[float]) -> Marker:
        """Return the marker of one row.

        Args:
            t: Stamp of the row in seconds.
            row: One entry for each channel of the stream: strings, or numbers.
        """
        source = self._info.source
        if self._info.channel_format == "string":
            parsed = _parse_strings([str(cell) for cell in row])
        else:
            parsed = _parse_numbers(
                [cell if isinstance(cell, int) else float(cell) for cell in row], self._value_channel
            )
        t = t - self._info.delay_s - parsed.age_s
        return Marker(t, f"{source}-{next(self._numbers)}", parsed.label, parsed.value, source, parsed.fields)


@dataclass(frozen=True, slots=True)
class MarkerRow:
    """One row of a marker stream."""

    label: str
    value: float | None  # None where it is not a number
    fields: tuple[str, ...]  # every channel; empty where there is only the label
    age_s: float = 0.0  # how long before its stamp it happened, where the row says so


def parse_marker_rows(stream: XdfStream) -> list[MarkerRow | None]:
    """Return the markers of a recorded stream, one for each sample; None for a sample without a new one.

    A numeric stream with a nominal rate is a trigger line: only a change to a value other than 0 is a marker.
    """
    if stream.channel_format == "string":
        return [_parse_strings(row) for row in stream.strings]
    chosen = value_channel(stream.ch_names)
    values = stream.samples.read_channel(chosen)
    held = np.zeros(values.size, dtype=np.bool_)
    if stream.sfreq:
        before = np.concatenate([np.zeros(1, values.dtype), values[:-1]])
        held = (values == before) | (values == 0) | np.isnan(values)
    rows: list[MarkerRow | None] = [None] * values.size
    for i in np.flatnonzero(~held).tolist():
        rows[i] = _parse_numbers(stream.samples.read(i, i + 1)[:, 0].tolist(), chosen)
    return rows


def _parse_strings(row: Sequence[str]) -> MarkerRow:
    label = " ".join(word for word in row if word)
    return MarkerRow(label, _number(row[0]), tuple(row) if len(row) > 1 else ())


def _parse_numbers(row: Sequence[float], chosen: int) -> MarkerRow:
    """Return the marker of a row of numbers whose value is in channel ``chosen``."""
    fields = tuple(map(format_number, row))
    value = float(row[chosen]) if math.isfinite(row[chosen]) else None
    return MarkerRow(fields[chosen], value, fields if len(row) > 1 else (), marker_age_s(row))


def value_channel(ch_names: Sequence[str]) -> int:
    """Return the index of the channel with the value: the first one, but the second of PsychoPy's three."""
    names = [name.strip().upper() for name in ch_names]
    if _VALUE_LABEL in names:
        return names.index(_VALUE_LABEL)
    return 1 if len(names) == _PSYCHOPY_CHANNELS else 0


def marker_age_s(row: Sequence[float]) -> float:
    """Return how many seconds before its stamp the marker of a row happened; 0 where the row does not say.

    Of PsychoPy's three channels the last one is the Unix time at which the row was sent, by the sender's clock, and the
    first one the time of the event.
    """
    if len(row) != _PSYCHOPY_CHANNELS or not min(row[0], row[2]) > _YEAR_2001_S:
        return 0.0
    age_s = row[2] - row[0]
    return age_s if 0 <= age_s <= _LONGEST_AGE_S else 0.0


def format_number(value: float) -> str:
    """Return a number as a label: ``5`` rather than ``5.0``; ``float``, or ``int``, gives the same bits back."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return str(int(value)) if whole else repr(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
