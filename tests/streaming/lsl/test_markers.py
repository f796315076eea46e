"""Claims about markers that others send: in streams of their own, and in columns of an EEG stream."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from clmer_streaming.lsl.markers import MarkerColumns, MarkerRows, number_text
from clmer_streaming.types import Chunk, Item, Marker, StreamInfo
from tests.support.session_parts import ListSource

EMOTIV = StreamInfo("eeg", "eeg", "Epoc", ("Counter", "AF3", "HardwareMarker", "Markers"), 128.0)


def rows(ch_names: tuple[str, ...], channel_format: str, delay_s: float = 0.0) -> MarkerRows:
    info = StreamInfo("lsl:M", "markers", "M", ch_names, 0.0, channel_format=channel_format, delay_s=delay_s)
    return MarkerRows(info, itertools.count(1))


def test_words_are_the_label_and_a_number_among_them_is_the_value() -> None:
    """Several columns become one label; all of them are kept."""
    stream = rows(("what", "which"), "string", delay_s=0.5)
    assert stream.marker(2.0, ("刺激", "")) == Marker(1.5, "lsl:M-1", "刺激", None, "lsl:M", ("刺激", ""))
    assert stream.marker(3.0, ("7", "links")) == Marker(2.5, "lsl:M-2", "7 links", 7.0, "lsl:M", ("7", "links"))


def test_the_value_of_psychopys_three_channels_is_the_second() -> None:
    """MarkerTime, MarkerValue, CurrentTime, with labels or without; it happened half a second before it was sent."""
    fields = ("1700000000.25", "5", "1700000000.75")
    for names in (("MarkerTime", "MarkerValue", "CurrentTime"), ("", "", "")):
        marker = rows(names, "double64").marker(2.0, [1.7e9 + 0.25, 5.0, 1.7e9 + 0.75])
        assert (marker.t, marker.label, marker.value, marker.fields) == (1.5, "5", 5.0, fields)


@pytest.mark.parametrize("times", [(12.0, 11.0), (1.7e9, 1.7e9 - 1), (1.7e9, 1.7e9 + 61), (float("nan"), 1.7e9)])
def test_times_that_cannot_be_psychopys_leave_the_stamp_alone(times: tuple[float, float]) -> None:
    """Three numbers may be something else; a marker from the future or of long ago is a mistake."""
    names = ("MarkerTime", "MarkerValue", "CurrentTime")
    assert rows(names, "double64").marker(2.0, [times[0], 5.0, times[1]]).t == 2.0


def test_a_number_that_is_none_has_no_value() -> None:
    """NaN is a label, never a value."""
    marker = rows(("code",), "float32").marker(2.0, [float("nan")])
    assert (marker.label, marker.value, marker.fields) == ("nan", None, ())


@pytest.mark.parametrize("value", [5.0, -1.0, 0.1, 1e300, 2.0**60, float("inf")])
def test_a_number_as_a_label_reads_back_to_the_same_bits(value: float) -> None:
    assert float(number_text(value)) == value


def delivered(*items: Item) -> list[Item]:
    """Return what comes out of the source around the items."""
    found: list[Item] = []
    MarkerColumns(ListSource(items)).run(found.append, threading.Event())
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
