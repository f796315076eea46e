"""Claims about what a headset says of its own electrodes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.contact_quality import ContactQuality
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.types import Chunk, FloatArray, Item, StreamInfo, Window
from signals import EEG_INFO, cut, eeg_like, stamps

LABELS = ("battery", "overall", "signal", *EPOC_CH_NAMES)
CONTACT = StreamInfo("contact", "contact", "EmotivDataStream-Contact-Quality", LABELS, 2.0)
SECONDS = 16


def contact(t: float, source: str = "contact", **values: float) -> Chunk:
    """Return one sample in which every sensor is at 4, but for those named."""
    row = [90.0, 100.0, 2.0, *(values.get(name, 4.0) for name in EPOC_CH_NAMES)]
    return Chunk(source, np.array([t]), np.array(row)[:, None])


def windows(*others: Item, sizes: tuple[int, ...] = (16,), info: StreamInfo = CONTACT) -> dict[float, Window]:
    """Return by end the windows of 16 s of good EEG and of contact values, each put in by its time."""
    chunks: list[Item] = list(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), sizes))

    def when(item: Item) -> float:
        assert isinstance(item, Chunk)
        return float(item.t[-1])

    stage = Preprocessor(PreprocessConfig())
    items = [EEG_INFO, info, *sorted([*chunks, *others], key=when)]
    return {window.t_end: window for item in items for window in stage.push(item)}


def bad(window: Window) -> list[str]:
    return [channel.name for channel in window.channels if not channel.good]


def test_a_sensor_without_contact_is_masked_from_the_next_window_on() -> None:
    """T7 falls to 0 at 105.2 s and is back at 108.2 s; its signal looked fine throughout."""
    at = windows(contact(103.0), contact(105.2, T7=0.0), contact(107.0, T7=1.0), contact(108.2, T7=2.0))
    assert bad(at[105.0]) == []
    assert bad(at[105.5]) == bad(at[108.0]) == ["T7"]
    assert bad(at[108.5]) == []
    assert at[106.0].channels[4].faults == ("contact",)
    assert not at[106.0].mask["eeg"][4]


def test_a_value_of_the_future_is_not_used() -> None:
    """What was measured at the end of a window or later belongs to the next one."""
    at = windows(contact(103.0), contact(106.0, O1=0.0))
    assert bad(at[106.0]) == []
    assert bad(at[106.5]) == ["O1"]


def test_after_five_seconds_of_silence_a_value_tells_nothing() -> None:
    """The contact stream dies on a bad value: the sensor is judged by its signal again."""
    at = windows(contact(104.0, F4=0.0))
    assert bad(at[109.0]) == ["F4"]
    assert bad(at[109.5]) == []
    assert np.isnan(at[109.5].channels[0].contact)


def test_either_stream_may_condemn_a_sensor() -> None:
    """Contact-Quality and EEG-Quality side by side: the worse value counts."""
    other = StreamInfo("quality", "contact", "EmotivDataStream-EEG-Quality", LABELS, 2.0)
    stage = Preprocessor(PreprocessConfig())
    items: list[Item] = [EEG_INFO, CONTACT, other, contact(102.5, F3=1.0), contact(102.6, "quality", O2=0.0)]
    items += cut(stamps(128 * 4), eeg_like(128 * 4), [16])
    out = [window for item in items for window in stage.push(item)]
    assert bad(out[-1]) == ["F3", "O2"]


def test_labels_may_carry_a_prefix_and_come_in_any_order() -> None:
    """CQ_T7 is the sensor T7; what the stream does not report is not known."""
    info = StreamInfo("contact", "contact", "CQ", ("CQ_T7", "cq.af3", "battery"), 2.0)
    known = ContactQuality(info, EPOC_CH_NAMES)
    known.push(Chunk("contact", np.array([1.0]), np.array([[3.0], [1.0], [90.0]])))
    values = known.at(2.0)
    assert (values[0], values[4]) == (1.0, 3.0)
    assert np.isnan(np.delete(values, [0, 4])).all()


def test_nan_and_the_declared_delay_are_heeded() -> None:
    """A sample that is not there tells nothing; a stream that is late is put back in time."""
    info = StreamInfo("contact", "contact", "CQ", EPOC_CH_NAMES, 2.0, delay_s=0.5)
    known = ContactQuality(info, EPOC_CH_NAMES)
    x: FloatArray = np.full((14, 2), 4.0)
    x[0, 0] = np.nan
    known.push(Chunk("contact", np.array([10.0, np.nan]), x))
    assert np.isnan(known.at(9.5)).all()
    assert np.isnan(known.at(9.6)[0])
    assert known.at(9.6)[1] == 4.0


@settings(max_examples=6, deadline=None)
@given(sizes=st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_the_cut_of_the_eeg_changes_nothing(sizes: list[int]) -> None:
    """Stream time decides which contact value a window has, not the order of arrival within a chunk's length."""
    values = [contact(102.0 + 0.5 * i, P7=float(i % 5)) for i in range(24)]
    whole, pieces = windows(*values, sizes=(1,)), windows(*values, sizes=tuple(sizes))
    shared = sorted(whole.keys() & pieces.keys())
    assert [whole[t].crc for t in shared if t < 113] == [pieces[t].crc for t in shared if t < 113]
