"""Who is cut off, and who is merely slow."""

from __future__ import annotations

from clmer_server.watchdog import STALL_S, Watchdog


class Reader:
    """A client whose mailbox is full or not, as the test says."""

    def __init__(self) -> None:
        self.full = False
        self.aborted = 0

    def is_full(self) -> bool:
        return self.full

    def abort(self) -> None:
        self.aborted += 1


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_mailbox_that_stays_full_ends_its_connection() -> None:
    """After five seconds, once, and no other connection."""
    clock, stuck, well = Clock(), Reader(), Reader()
    watchdog = Watchdog(clock)
    with watchdog.watching(stuck.is_full, stuck.abort), watchdog.watching(well.is_full, well.abort):
        stuck.full = True
        watchdog.look()
        clock.now = STALL_S - 0.1
        watchdog.look()
        assert stuck.aborted == 0
        for clock.now in (STALL_S, STALL_S + 1):
            watchdog.look()
    assert (stuck.aborted, well.aborted, watchdog.n_evicted) == (1, 0, 1)


def test_a_client_that_reads_slowly_is_left_alone() -> None:
    """Its mailbox is full at every look, but something leaves it in between."""
    clock, slow = Clock(), Reader()
    watchdog = Watchdog(clock)
    slow.full = True
    with watchdog.watching(slow.is_full, slow.abort) as watched:
        for clock.now in range(100):
            watchdog.look()
            watched.sent()
    assert slow.aborted == 0


def test_a_connection_that_has_ended_is_forgotten() -> None:
    """Nothing is aborted behind the end of its context."""
    clock, gone = Clock(), Reader()
    watchdog = Watchdog(clock)
    gone.full = True
    with watchdog.watching(gone.is_full, gone.abort):
        watchdog.look()
    clock.now = 2 * STALL_S
    watchdog.look()
    assert (gone.aborted, watchdog.n_evicted) == (0, 0)
