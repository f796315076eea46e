"""Rows of a live marker stream as markers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clmer_streaming.sources.marker_words import number_words, string_words, value_channel
from clmer_streaming.types import Marker, StreamInfo


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
