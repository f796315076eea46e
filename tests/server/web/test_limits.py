"""How fast one client may send, and how many may be there."""

from __future__ import annotations

from clmer_server.protocol.parts import Limits
from clmer_server.web.limits import MAX_STRIKES, STALL_S, ConnectionCounter, RateLimiter, RateVerdict, Watchdog


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def verdicts(limiter: RateLimiter, n: int) -> list[RateVerdict]:
    return [limiter.check() for _ in range(n)]


def test_a_burst_of_two_seconds_is_let_through_at_once() -> None:
    """10 a second: 20 pass, the next one does not; a second later 10 more do."""
    clock = Clock()
    limiter = RateLimiter(Limits(max_messages_per_s=10), clock)
    assert verdicts(limiter, 21) == [RateVerdict.ACCEPTED] * 20 + [RateVerdict.REFUSED]
    clock.now = 1.0
    assert verdicts(limiter, 11) == [RateVerdict.ACCEPTED] * 10 + [RateVerdict.REFUSED]


def test_a_client_at_the_rate_is_never_too_fast() -> None:
    """A message every tenth of a second, for a thousand of them."""
    clock = Clock()
    limiter = RateLimiter(Limits(max_messages_per_s=10), clock)
    for k in range(1000):
        clock.now = k / 10
        assert limiter.check() is RateVerdict.ACCEPTED


def test_a_client_that_goes_on_is_stopped() -> None:
    """The answers to it are bounded."""
    limiter = RateLimiter(Limits(max_messages_per_s=10), Clock())
    verdicts(limiter, 20)
    assert verdicts(limiter, MAX_STRIKES + 1) == [RateVerdict.REFUSED] * MAX_STRIKES + [RateVerdict.CUT_OFF]


def test_a_client_that_keeps_still_begins_anew() -> None:
    """Two seconds forgive everything."""
    clock = Clock()
    limiter = RateLimiter(Limits(max_messages_per_s=10), clock)
    verdicts(limiter, 20 + MAX_STRIKES)
    clock.now = 2.0
    assert verdicts(limiter, 20 + MAX_STRIKES) == [RateVerdict.ACCEPTED] * 20 + [RateVerdict.REFUSED] * MAX_STRIKES


def test_without_a_rate_everything_passes() -> None:
    """The setting inf becomes null in the welcome."""
    limits = Limits(max_messages_per_s=float("inf"))
    assert limits.max_messages_per_s is None
    assert set(verdicts(RateLimiter(limits, Clock()), 100_000)) == {RateVerdict.ACCEPTED}


def test_there_is_room_again_when_a_client_has_left() -> None:
    """Counted by address and in all."""
    connections = ConnectionCounter(Limits(max_connections=3, max_connections_per_address=2))
    connections.add("a")
    connections.add("a")
    assert (connections.refusal_code("a"), connections.refusal_code("b")) == ("too_many_from_address", None)
    connections.add("b")
    assert (connections.refusal_code("a"), connections.refusal_code("c")) == (
        "too_many_connections",
        "too_many_connections",
    )
    connections.remove("a")
    assert connections.refusal_code("a") is None


class Reader:
    """A client whose send queue is full or not, as the test says."""

    def __init__(self) -> None:
        self.full = False
        self.aborted = 0

    def is_full(self) -> bool:
        return self.full

    def abort(self) -> None:
        self.aborted += 1


def test_a_send_queue_that_stays_full_ends_its_connection() -> None:
    """After five seconds, once, and no other connection."""
    clock, stuck, well = Clock(), Reader(), Reader()
    watchdog = Watchdog(clock)
    with watchdog.watching(stuck.is_full, stuck.abort), watchdog.watching(well.is_full, well.abort):
        stuck.full = True
        watchdog.check()
        clock.now = STALL_S - 0.1
        watchdog.check()
        assert stuck.aborted == 0
        for clock.now in (STALL_S, STALL_S + 1):
            watchdog.check()
    assert (stuck.aborted, well.aborted, watchdog.n_evicted) == (1, 0, 1)


def test_a_client_that_reads_slowly_is_left_alone() -> None:
    """Its send queue is full at every look, but something leaves it in between."""
    clock, slow = Clock(), Reader()
    watchdog = Watchdog(clock)
    slow.full = True
    with watchdog.watching(slow.is_full, slow.abort) as connection:
        for clock.now in range(100):
            watchdog.check()
            connection.sent()
    assert slow.aborted == 0


def test_a_connection_that_has_ended_is_forgotten() -> None:
    """Nothing is aborted behind the end of its context."""
    clock, gone = Clock(), Reader()
    watchdog = Watchdog(clock)
    gone.full = True
    with watchdog.watching(gone.is_full, gone.abort):
        watchdog.check()
    clock.now = 2 * STALL_S
    watchdog.check()
    assert (gone.aborted, watchdog.n_evicted) == (0, 0)
