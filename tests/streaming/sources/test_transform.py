"""Claims about changes to the items of a source: marker columns of sampled streams."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from clmer_streaming.sources.transform import MarkerColumns, TransformedSource
from clmer_streaming.types import Chunk, Item, Marker, StreamInfo
from tests.support.session_parts import ListSource

EMOTIV = StreamInfo("eeg", "eeg", "Epoc", ("Counter", "AF3", "HardwareMarker", "Markers"), 128.0)


def delivered(*items: Item) -> list[Item]:
    """Return what comes out of the source around the items."""
    found: list[Item] = []
    TransformedSource(ListSource(items), MarkerColumns().apply).run(found.append, threading.Event())
    return found


def emotiv_chunk(t0: int, hardware: Sequence[float], software: Sequence[float]) -> Chunk:
    x = np.zeros((4, len(hardware)))
    x[2], x[3] = hardware, software
    return Chunk("eeg", t0 + np.arange(len(hardware), dtype=np.float64), x)


def test_every_change_to_a_value_in_a_marker_column_is_one_marker() -> None:
    """A value that stays is one; back to nothing is none; NaN is nothing."""
    found = delivered(EMOTIV, emotiv_chunk(10, [0, 0, 0, 0, 0, 0], [0, 5, 5, np.nan, 5, 7]))
    markers = [(m.t, m.label, m.value) for m in found if isinstance(m, Marker)]
    assert markers == [(11.0, "5", 5.0), (14.0, "5", 5.0), (15.0, "7", 7.0)]


def test_markers_of_both_columns_come_in_the_order_of_time_behind_their_chunk() -> None:
    """Each column is announced as a stream with its first marker."""
    found = delivered(EMOTIV, emotiv_chunk(10, [0, 0, 3], [0, 5, 5]))
    assert [type(item).__name__ for item in found] == [
        "StreamInfo",
        "Chunk",
        "StreamInfo",
        "StreamInfo",
        *2 * ["Marker"],
    ]
    assert [(m.t, m.source) for m in found if isinstance(m, Marker)] == [
        (11.0, "eeg:Markers"),
        (12.0, "eeg:HardwareMarker"),
    ]
    assert {m.name for m in found if isinstance(m, StreamInfo)} == {"Epoc", "Epoc-Markers", "Epoc-HardwareMarker"}


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_how_the_stream_is_cut_changes_no_marker(size: int) -> None:
    """A value that goes on from one chunk to the next is still one marker."""
    values = [0, 4, 4, 4, 0, 4, 6, 6]
    chunks = [emotiv_chunk(i, [0.0] * len(values[i : i + size]), values[i : i + size]) for i in range(0, 8, size)]
    markers = [item for item in delivered(EMOTIV, *chunks) if isinstance(item, Marker)]
    assert [(m.t, m.value, m.id) for m in markers] == [
        (1.0, 4.0, "eeg:Markers-1"),
        (5.0, 4.0, "eeg:Markers-2"),
        (6.0, 6.0, "eeg:Markers-3"),
    ]


def test_a_sampled_trigger_line_gives_markers_beside_its_samples() -> None:
    """A numeric stream of type Markers with a rate is recorded as it is, and understood."""
    line = StreamInfo("lsl:Trigger", "other", "Trigger", ("",), 512.0, type="Markers", channel_format="int32")
    chunk = Chunk("lsl:Trigger", np.arange(5.0), np.array([[0.0, 0.0, 9.0, 9.0, 0.0]]))
    found = delivered(line, chunk)
    assert found[:2] == [line, chunk]
    assert [(m.t, m.value) for m in found if isinstance(m, Marker)] == [(2.0, 9.0)]


def test_integers_of_64_bits_in_a_trigger_line_are_told_apart() -> None:
    """Two that are one float64 are two markers, and the label has every digit, also from chunk to chunk."""
    line = StreamInfo("lsl:Trigger", "other", "Trigger", ("",), 512.0, type="Markers", channel_format="int64")
    codes = [2**62 + 1, 2**62 + 2, 2**62 + 2, 2**62 + 3]
    chunks = [Chunk("lsl:Trigger", np.arange(2.0) + 2 * i, np.array([codes[2 * i : 2 * i + 2]])) for i in range(2)]
    found = [item for item in delivered(line, *chunks) if isinstance(item, Marker)]
    assert [(m.t, m.label) for m in found] == [(0.0, str(codes[0])), (1.0, str(codes[1])), (3.0, str(codes[3]))]
