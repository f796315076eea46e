"""How fast one client may send, and how many may be there."""

from __future__ import annotations

from clmer_server.limits import MAX_STRIKES, Admissions, InboundPace, Pace
from clmer_server.protocol.parts import Limits


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def judged(pace: InboundPace, n: int) -> list[Pace]:
    return [pace.judge() for _ in range(n)]


def test_a_burst_of_two_seconds_is_let_through_at_once() -> None:
    """10 a second: 20 pass, the next one does not; a second later 10 more do."""
    clock = Clock()
    pace = InboundPace(Limits(max_messages_per_s=10), clock)
    assert judged(pace, 21) == [Pace.FINE] * 20 + [Pace.TOO_FAST]
    clock.now = 1.0
    assert judged(pace, 11) == [Pace.FINE] * 10 + [Pace.TOO_FAST]


def test_a_client_at_the_rate_is_never_too_fast() -> None:
    """A message every tenth of a second, for a thousand of them."""
    clock = Clock()
    pace = InboundPace(Limits(max_messages_per_s=10), clock)
    for k in range(1000):
        clock.now = k / 10
        assert pace.judge() is Pace.FINE


def test_a_client_that_goes_on_is_stopped() -> None:
    """The answers to it are bounded."""
    pace = InboundPace(Limits(max_messages_per_s=10), Clock())
    judged(pace, 20)
    assert judged(pace, MAX_STRIKES + 1) == [Pace.TOO_FAST] * MAX_STRIKES + [Pace.GOES_ON]


def test_a_client_that_keeps_still_begins_anew() -> None:
    """Two seconds forgive everything."""
    clock = Clock()
    pace = InboundPace(Limits(max_messages_per_s=10), clock)
    judged(pace, 20 + MAX_STRIKES)
    clock.now = 2.0
    assert judged(pace, 20 + MAX_STRIKES) == [Pace.FINE] * 20 + [Pace.TOO_FAST] * MAX_STRIKES


def test_without_a_rate_everything_passes() -> None:
    """The setting inf becomes null in the welcome."""
    limits = Limits(max_messages_per_s=float("inf"))
    assert limits.max_messages_per_s is None
    assert set(judged(InboundPace(limits, Clock()), 100_000)) == {Pace.FINE}


def test_there_is_room_again_when_a_client_has_left() -> None:
    """Counted by address and in all."""
    admissions = Admissions(Limits(max_connections=3, max_connections_per_address=2))
    admissions.enter("a")
    admissions.enter("a")
    assert (admissions.why_not("a"), admissions.why_not("b")) == ("too_many_from_address", None)
    admissions.enter("b")
    assert (admissions.why_not("a"), admissions.why_not("c")) == ("too_many_connections", "too_many_connections")
    admissions.leave("a")
    assert admissions.why_not("a") is None
