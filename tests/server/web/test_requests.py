"""Claims about a client's clock: what its offset is, and within which bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clmer_server.web.requests import KEPT, STEP_S, ClientClock

seconds = st.floats(0, 0.5)


def exchange(clock: ClientClock, name: int, at: float, offset: float, ways: tuple[float, float]) -> bool:
    """Let a client, whose clock is ``offset`` behind ours, ask at ``at`` of our clock; ways in seconds."""
    there, back = ways
    t1 = at + there
    t2 = t1 + 0.001
    clock.answered(name, at - offset, t1, t2)
    return clock.complete(name, t2 + back - offset)


def test_equal_ways_give_the_offset_itself() -> None:
    """The uncertainty is half of the way, and what a clock's steps may add."""
    clock = ClientClock()
    assert exchange(clock, 1, 1000.0, 250.0, (0.02, 0.02))
    known = clock.estimate(1000.021)
    assert known is not None
    assert known.offset_s == pytest.approx(250.0)
    assert known.uncertainty_s == pytest.approx(0.02 + STEP_S)


@given(offset=st.floats(-1e6, 1e6), ways=st.lists(st.tuples(seconds, seconds), min_size=1, max_size=2 * KEPT))
def test_the_offset_is_within_its_uncertainty(offset: float, ways: list[tuple[float, float]]) -> None:
    """However the two ways differ, and however many exchanges there were."""
    clock = ClientClock()
    for i, there_and_back in enumerate(ways):
        exchange(clock, i, 1000.0 + i, offset, there_and_back)
    known = clock.estimate(1000.0 + len(ways))
    assert known is not None
    assert abs(known.offset_s - offset) <= known.uncertainty_s
    assert known.n == min(len(ways), KEPT)


def test_the_quickest_exchange_counts_until_its_age_outweighs_it() -> None:
    """Clocks drift: an hour later the slower, newer one is better."""
    clock = ClientClock()
    exchange(clock, 1, 1000.0, 5.0, (0.0, 0.001))
    exchange(clock, 2, 1001.0, 5.0, (0.0, 0.1))
    soon = clock.estimate(1002.0)
    assert soon is not None
    assert soon.offset_s == pytest.approx(5.0005 - 0.001)
    exchange(clock, 3, 5000.0, 5.0, (0.0, 0.1))
    newest = clock.estimate(5001.0)
    assert newest is not None
    assert newest.uncertainty_s < 0.06


def test_without_an_exchange_nothing_is_known() -> None:
    """An answer alone is no exchange."""
    clock = ClientClock()
    clock.answered(1, 0.0, 10.0, 10.0)
    assert clock.estimate(11.0) is None


def test_an_exchange_that_cannot_be_is_left_out() -> None:
    """An unknown name, the same one twice, an answer before its question."""
    clock = ClientClock()
    assert not clock.complete("unknown", 1.0)
    clock.answered(1, 100.0, 10.0, 10.0)
    assert not clock.complete(1, 99.0)
    assert not clock.complete(1, 101.0)
    assert clock.estimate(11.0) is None


def test_questions_without_an_end_are_forgotten() -> None:
    """A client that never tells its fourth stamp costs no memory."""
    clock = ClientClock()
    for i in range(10 * KEPT):
        clock.answered(i, 0.0, 1.0, 1.0)
    assert not clock.complete(0, 1.0)
    assert clock.complete(10 * KEPT - 1, 1.0)
