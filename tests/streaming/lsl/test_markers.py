"""Claims about markers that others send in streams of their own: what a row says, and when it happened."""

from __future__ import annotations

import itertools

import pytest

from clmer_streaming.lsl.markers import MarkerDecoder, format_number
from clmer_streaming.types import Marker, StreamInfo


def rows(ch_names: tuple[str, ...], channel_format: str, delay_s: float = 0.0) -> MarkerDecoder:
    info = StreamInfo("lsl:M", "markers", "M", ch_names, 0.0, channel_format=channel_format, delay_s=delay_s)
    return MarkerDecoder(info, itertools.count(1))


def test_words_are_the_label_and_a_number_among_them_is_the_value() -> None:
    """Several columns become one label; all of them are kept."""
    stream = rows(("what", "which"), "string", delay_s=0.5)
    assert stream.decode(2.0, ("刺激", "")) == Marker(1.5, "lsl:M-1", "刺激", None, "lsl:M", ("刺激", ""))
    assert stream.decode(3.0, ("7", "links")) == Marker(2.5, "lsl:M-2", "7 links", 7.0, "lsl:M", ("7", "links"))


def test_the_value_of_psychopys_three_channels_is_the_second() -> None:
    """MarkerTime, MarkerValue, CurrentTime, with labels or without; it happened half a second before it was sent."""
    fields = ("1700000000.25", "5", "1700000000.75")
    for names in (("MarkerTime", "MarkerValue", "CurrentTime"), ("", "", "")):
        marker = rows(names, "double64").decode(2.0, [1.7e9 + 0.25, 5.0, 1.7e9 + 0.75])
        assert (marker.t, marker.label, marker.value, marker.fields) == (1.5, "5", 5.0, fields)


@pytest.mark.parametrize("times", [(12.0, 11.0), (1.7e9, 1.7e9 - 1), (1.7e9, 1.7e9 + 61), (float("nan"), 1.7e9)])
def test_times_that_cannot_be_psychopys_leave_the_stamp_alone(times: tuple[float, float]) -> None:
    """Three numbers may be something else; a marker from the future or of long ago is a mistake."""
    names = ("MarkerTime", "MarkerValue", "CurrentTime")
    assert rows(names, "double64").decode(2.0, [times[0], 5.0, times[1]]).t == 2.0


def test_a_number_that_is_none_has_no_value() -> None:
    """NaN is a label, never a value."""
    marker = rows(("code",), "float32").decode(2.0, [float("nan")])
    assert (marker.label, marker.value, marker.fields) == ("nan", None, ())


@pytest.mark.parametrize("value", [5.0, -1.0, 0.1, 1e300, 2.0**60, float("inf")])
def test_a_number_as_a_label_reads_back_to_the_same_bits(value: float) -> None:
    assert float(format_number(value)) == value
