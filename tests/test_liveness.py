"""Claims about live, stalled and lost streams."""

from __future__ import annotations

from clmer_streaming.liveness import Liveness


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
    assert late.other_clock == "its stamps are 5 s behind the other streams: let the sender stamp in LSL time"
    assert (good.state, good.other_clock) == ("lost", "")
    late.observe(19.9, 20.0, 0.1)
    assert (late.state, late.other_clock) == ("live", "")


def test_long_chunks_are_warned_of() -> None:
    """A second is the budget: half a second says nothing, nor does one long chunk (a backlog); two say how late."""
    liveness = Liveness()
    liveness.observe(0.0, 0.5, 0.5)
    liveness.observe(0.5, 2.5, 2.0)
    liveness.observe(2.5, 3.0, 0.5)
    assert liveness.note == ""
    liveness.observe(3.0, 5.0, 2.0)
    assert liveness.note == "comes 2.0 s at a time, and so late: let the sender send shorter chunks"
