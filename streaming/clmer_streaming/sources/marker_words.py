"""What a row of a marker stream says: words of one channel or several, or numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
