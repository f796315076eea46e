"""The streams of a recording as lanes of items, and the one order in which a replay delivers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clmer_streaming.face.layout import row_to_face
from clmer_streaming.sources.marker_words import MarkerWords
from clmer_streaming.sources.replay_cuts import LONGEST_CHUNK_S, chunk_edges
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, Marker, Tick

_TICK_S = 0.5  # s of silence after which, and then at which pace, ticks are given
LONGEST_SILENCE_S = 600.0
"""Seconds of one silence in which ticks are given; what is longer is passed over."""


class Lane(Protocol):
    """Items of one kind, in order."""

    due: FloatArray
    """(n,) s, stream time at which each item is delivered; never steps back."""

    def item(self, i: int, shift_s: float, lap: int) -> Item:
        """Return item ``i`` with its stamps moved by ``shift_s``, in the ``lap``-th round through the recording."""


class FaceLane:
    """One FaceSample per row of a ``CLMER-Face`` stream: t (n,) seconds, x (249, n)."""

    def __init__(self, source: str, t: FloatArray, x: FloatArray) -> None:
        self.due = running_maximum(t)
        self._source, self._t = source, t
        self._rows = np.ascontiguousarray(x.T)

    def item(self, i: int, shift_s: float, lap: int) -> FaceSample:
        """Return frame ``i``; a row of NaN is a frame without a face."""
        return row_to_face(float(self._t[i]) + shift_s, self._rows[i], self._source)


class MarkerLane:
    """Markers with running numbers as ids: t (n,) seconds, and what each of the n says."""

    def __init__(self, source: str, t: FloatArray, words: Sequence[MarkerWords]) -> None:
        self.due = running_maximum(t)
        self._source, self._t, self._words = source, t, words

    def item(self, i: int, shift_s: float, lap: int) -> Marker:
        """Return marker ``i``; its number goes on from lap to lap."""
        number, words = lap * len(self._words) + i + 1, self._words[i]
        t = float(self._t[i]) - words.age_s + shift_s
        return Marker(t, str(number), words.label, words.value, self._source, words.fields)


class TickLane:
    """Ticks every 0.5 s wherever a stream has no sample for that long between ``begin`` and ``end``.

    Args:
        source: The stream that is silent.
        sample_due: (n,) seconds, when its samples are delivered.
        begin: Seconds, the first sample of any stream that should be heard throughout.
        end: Seconds, the last one.
    """

    def __init__(self, source: str, sample_due: FloatArray, begin: float, end: float) -> None:
        edges = np.concatenate([[begin], sample_due, [end]])
        spans = np.minimum(np.diff(edges), LONGEST_SILENCE_S)
        counts = np.maximum(np.ceil(spans / _TICK_S) - 1, 0).astype(np.intp)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        self.due: FloatArray = np.repeat(edges[:-1], counts) + _TICK_S * nth
        self._source = source

    def item(self, i: int, shift_s: float, lap: int) -> Tick:
        """Return tick ``i``."""
        return Tick(float(self.due[i]) + shift_s, self._source)


class EegLane:
    """Chunks of EEG of at most 0.25 s, cut wherever an item comes between that must find all EEG before it.

    Args:
        source: Name that the chunks carry.
        t: (n,) stamps in seconds.
        x: (C, n) in the stream's own unit.
        sfreq: Nominal rate in Hz; 0 where none is declared.
        between: (m,) seconds, when such items are delivered; they come behind samples of equal time.
        ahead: A chunk is due when its first sample is, rather than its last.
    """

    def __init__(  # noqa: PLR0913 - a stream, and how it is to be cut
        self, source: str, t: FloatArray, x: FloatArray, sfreq: float, between: FloatArray, *, ahead: bool = False
    ) -> None:
        sample_due = running_maximum(t)
        n_longest = max(1, int(LONGEST_CHUNK_S * sfreq) if sfreq else t.size)
        self._cuts = chunk_edges(sample_due, n_longest, between)
        self.due = sample_due[self._cuts[:-1] if ahead else self._cuts[1:] - 1]
        self._source, self._t, self._x = source, t, x

    def item(self, i: int, shift_s: float, lap: int) -> Chunk:
        """Return chunk ``i``."""
        start, stop = self._cuts[i], self._cuts[i + 1]
        return Chunk(self._source, self._t[start:stop] + shift_s, self._x[:, start:stop].copy())


class Merge:
    """The items of all lanes by the time they are due; where that is equal, in the order of the lanes."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        sizes = [lane.due.size for lane in lanes]
        due = np.concatenate([lane.due for lane in lanes])
        lane_of = np.repeat(np.arange(len(lanes)), sizes)
        index = np.concatenate([np.arange(size) for size in sizes])
        order = np.lexsort((index, lane_of, due))
        self._lanes = tuple(lanes)
        self._due, self._lane_of, self._index = due[order], lane_of[order], index[order]

    def items(self, shift_s: float, lap: int) -> Iterator[tuple[float, Item]]:
        """Yield when each item is due, in seconds of stream time, and the item."""
        for due, lane, i in zip(self._due.tolist(), self._lane_of.tolist(), self._index.tolist(), strict=True):
            yield due + shift_s, self._lanes[lane].item(i, shift_s, lap)


def running_maximum(t: npt.NDArray[np.float64]) -> FloatArray:
    """Return for each stamp (n,) the largest up to it: stamps may step back, the order of the file is kept."""
    largest: FloatArray = np.maximum.accumulate(t)
    return largest
