"""Claims about live, stalled and lost streams."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_server.session.pipeline import StatusFeed
from clmer_streaming.pipeline.liveness import ExtraStreams, Liveness
from clmer_streaming.types import Chunk, Item, Marker, StreamInfo, StreamStatus, Tick


def test_a_stream_is_connecting_until_its_first_sample() -> None:
    """Time alone makes nothing live."""
    liveness = Liveness(10.0)
    liveness.advance(100.0)
    assert (liveness.state, liveness.since) == ("connecting", 10.0)
    liveness.observe(100.5, 100.6, 0.1)
    assert (liveness.state, liveness.since) == ("live", 100.5)


def test_silence_stalls_after_one_second_and_loses_after_five() -> None:
    """The states carry the time at which they began, not the time at which somebody looked."""
    liveness = Liveness()
    liveness.observe(0.0, 0.1, 0.1)
    liveness.advance(1.0)
    assert liveness.state == "live"
    liveness.advance(3.0)
    assert (liveness.state, liveness.since) == ("stalled", 1.1)
    liveness.advance(6.0)
    assert (liveness.state, liveness.since) == ("lost", 5.1)
    liveness.observe(7.0, 7.1, 0.1)
    assert (liveness.state, liveness.since) == ("live", 7.0)


def test_a_source_that_sends_two_seconds_at_a_time_is_given_four() -> None:
    """Silence is measured in the source's own chunks."""
    liveness = Liveness()
    liveness.observe(0.0, 2.0, 2.0)
    states = []
    for now in (5.9, 6.1):
        liveness.advance(now)
        states.append(liveness.state)
    assert states == ["live", "stalled"]


def test_a_backlog_makes_nothing_live_before_it_has_caught_up() -> None:
    """Ten seconds of samples come in three pieces: live with the last, and none of them counts as a chunk length."""
    liveness = Liveness()
    liveness.observe(0.0, 0.1, 0.1)
    liveness.advance(11.0)
    states = []
    for t_first, t_last in ((0.1, 4.0), (4.0, 8.0), (8.0, 10.9)):
        liveness.observe(t_first, t_last, t_last - t_first)
        states.append(liveness.state)
    assert states == ["lost", "lost", "live"]
    assert liveness.chunk_s == 0.1


def test_one_that_was_in_time_once_is_late_without_advice_on_its_clock() -> None:
    """A backlog of a good stream: the state says it; the sender's clock is not to blame."""
    late, good = Liveness(10.0), Liveness(10.0)
    good.observe(10.0, 10.1, 0.1)
    for liveness in (late, good):
        liveness.advance(20.0)
        liveness.observe(14.9, 15.0, 0.1)
    assert late.clock_note == "its stamps are 5 s behind the other streams: let the sender stamp in LSL time"
    assert (good.state, good.clock_note) == ("lost", "")
    late.observe(19.9, 20.0, 0.1)
    assert (late.state, late.clock_note) == ("live", "")


def test_long_chunks_are_warned_of() -> None:
    """A second is the budget: half a second says nothing, nor does one long chunk (a backlog); two say how late."""
    liveness = Liveness()
    liveness.observe(0.0, 0.5, 0.5)
    liveness.observe(0.5, 2.5, 2.0)
    liveness.observe(2.5, 3.0, 0.5)
    assert liveness.note == ""
    liveness.observe(3.0, 5.0, 2.0)
    assert liveness.note == "comes 2.0 s at a time, and so late: let the sender send shorter chunks"


MOTION = StreamInfo("lsl:Motion", "other", "Motion", ("ACCX",), 32.0)
SLOW = StreamInfo("lsl:Metrics", "other", "Performance-Metrics", ("Stress",), 0.1)
WORDS = StreamInfo("lsl:Words", "markers", "Words", ("label",), 0.0)


def statuses(side: ExtraStreams, *items: tuple[Item, float]) -> dict[str, StreamStatus]:
    """Push items, each at its stream time; return what is known then, by name."""
    known: tuple[StreamStatus, ...] = ()
    for item, now in items:
        known = side.push(item, now)
    return {status.name: status for status in known}


def moved(t: float, n: int = 16) -> tuple[Item, float]:
    """Return n samples of motion that end at t."""
    return Chunk(MOTION.source, t - (n - 1 - np.arange(n)) / 32.0, np.zeros((1, n))), t


def ticks(first: float, last: float) -> list[tuple[Item, float]]:
    """Return the silence of a headset, told each half second."""
    return [(Tick(t, "eeg"), t) for t in np.arange(first, last + 0.25, 0.5)]


def test_a_stream_with_a_rate_is_stalled_and_lost_by_its_silence() -> None:
    """As inputs are: after 1 s, after 5 s, and live again with its first sample."""
    side = ExtraStreams()
    assert statuses(side, (MOTION, 100.0), *ticks(100.0, 101.0))["Motion"].state == "connecting"
    assert statuses(side, moved(101.2), *ticks(101.5, 101.5))["Motion"].state == "live"
    assert statuses(side, *ticks(102.0, 103.0))["Motion"].state == "stalled"
    assert statuses(side, *ticks(103.5, 107.0))["Motion"].state == "lost"
    assert statuses(side, moved(107.5), *ticks(108.0, 108.0))["Motion"].state == "live"


def test_the_rate_is_that_of_the_stamps() -> None:
    """Sixteen samples each half second are 32 Hz, once 10 s of them are there."""
    side = ExtraStreams()
    statuses(side, (MOTION, 100.0))
    assert statuses(side, *(moved(100.0 + i / 2) for i in range(1, 10)))["Motion"].rate_hz == 0.0
    assert statuses(side, *(moved(100.0 + i / 2) for i in range(10, 60)))["Motion"].rate_hz == pytest.approx(32.0)


def test_one_sample_each_ten_seconds_is_no_silence() -> None:
    """EmotivPRO's metrics without a licence: live all the time between two samples."""
    side = ExtraStreams()
    sample = Chunk(SLOW.source, np.array([100.0]), np.zeros((1, 1)))
    assert statuses(side, (SLOW, 99.0), (sample, 100.0), *ticks(100.5, 119.0))["Performance-Metrics"].state == "live"
    assert statuses(side, *ticks(119.5, 121.0))["Performance-Metrics"].state != "live"


def test_words_are_live_as_long_as_their_stream_is_connected() -> None:
    """An hour without a marker is an hour of the experiment; only a connection that is gone is a loss."""
    why = {"lsl:Words": ""}
    side = ExtraStreams(lambda source: why[source])
    begin = Marker(101.0, "w-1", "begin", source="lsl:Words")
    words = statuses(side, (WORDS, 100.0), (begin, 101.0), *ticks(3700.0, 3701.0))["Words"]
    assert (words.state, words.n_samples, words.reason) == ("live", 1, "")
    why["lsl:Words"] = "Words is gone; waiting for it to come back"
    gone = statuses(side, *ticks(3702.0, 3703.0))["Words"]
    assert (gone.state, gone.reason) == ("lost", why["lsl:Words"])
    why["lsl:Words"] = ""
    assert statuses(side, (WORDS, 3704.0), *ticks(3704.0, 3705.0))["Words"].state == "live"


def test_inputs_and_columns_of_other_streams_have_no_status_here() -> None:
    """The headset is the preprocessor's; its column of markers lives and dies with it."""
    eeg = StreamInfo("eeg", "eeg", "Headset", ("AF3", "Markers"), 128.0)
    column = StreamInfo("eeg:Markers", "markers", "Headset-Markers", ("label",), 0.0)
    assert statuses(ExtraStreams(), (eeg, 100.0), (column, 100.0), *ticks(100.0, 102.0)) == {}


def test_stamps_of_another_clock_make_no_difference() -> None:
    """That samples come is what counts, not when they say they were taken."""
    side = ExtraStreams()
    unix = Chunk(MOTION.source, 1.7e9 + np.arange(16) / 32.0, np.zeros((1, 16)))
    assert statuses(side, (MOTION, 100.0), (unix, 100.5), *ticks(101.0, 101.0))["Motion"].state == "live"
    assert statuses(side, *ticks(101.5, 106.5))["Motion"].state == "lost"


def test_before_any_time_is_known_a_stream_is_announced_all_the_same() -> None:
    """Markers may come before the first tick."""
    words = statuses(ExtraStreams(), (WORDS, -np.inf), (Marker(1.0, "w-1", "begin", source="lsl:Words"), -np.inf))
    assert words["Words"].state == "live"


def test_their_numbers_are_told_less_often() -> None:
    """A lab may have many streams; a change of state is told at once."""
    feed = StatusFeed()
    status = StreamStatus("lsl:Motion", "other", "Motion", "live", 100.0, n_samples=1)
    more = StreamStatus("lsl:Motion", "other", "Motion", "live", 100.0, n_samples=2)
    lost = StreamStatus("lsl:Motion", "other", "Motion", "lost", 103.0, n_samples=2)
    assert [len(feed.update([s], t)) for s, t in ((status, 100.0), (more, 104.0), (more, 105.5), (lost, 105.6))] == [
        1, 0, 1, 1,
    ]  # fmt: skip
