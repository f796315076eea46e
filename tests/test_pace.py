"""Claims about the pace of a replay: held, let go on, made faster, and stopped."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clmer_streaming.sources.pace import Pace

STEP_S = 0.01
"""Stream time between two items."""


class Walk:
    """Items that become due one after the other, in a thread; counts those that have."""

    def __init__(self, pace: Pace) -> None:
        self.n = 0
        self.stop = threading.Event()
        self._pace = pace
        self._moved = threading.Condition()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._pace.begin()
        for i in itertools.count():
            if self._pace.stopped_before(1000.0 + i * STEP_S, self.stop):
                return
            with self._moved:
                self.n += 1
                self._moved.notify_all()

    def reached(self, n: int) -> bool:
        """Wait until n items were due."""
        with self._moved:
            return self._moved.wait_for(lambda: self.n >= n, 20.0)


@contextmanager
def walking(pace: Pace) -> Iterator[Walk]:
    walk = Walk(pace)
    walk.thread.start()
    try:
        yield walk
    finally:
        walk.stop.set()
        walk.thread.join(20.0)
        assert not walk.thread.is_alive()


def test_the_speed_is_that_of_the_recording_times_the_factor() -> None:
    """A second of stream time at ten times the pace takes a tenth of a second, and no less."""
    with walking(Pace(10.0)) as walk:
        begin = time.monotonic()
        assert walk.reached(100)
        assert time.monotonic() - begin > 0.08


def test_what_is_held_stands_still_and_goes_on_from_there() -> None:
    """It does not catch up on the time that it was held."""
    pace = Pace(1.0)
    with walking(pace) as walk:
        assert walk.reached(5)
        pace.hold()
        assert pace.held
        time.sleep(0.02)  # what was due already
        n, begin = walk.n, time.monotonic()
        assert not walk.stop.wait(0.3)
        assert walk.n == n
        pace.go_on()
        assert walk.reached(n + 20)
        assert time.monotonic() - begin > 0.3 + 0.15


def test_another_speed_holds_from_now_on() -> None:
    """From a crawl to as fast as can be, without waiting for what the crawl would have waited for."""
    pace = Pace(0.001)
    with walking(pace) as walk:
        assert walk.reached(1)
        pace.set_speed(math.inf)
        assert walk.reached(10_000)
        pace.set_speed(0.001)
        time.sleep(0.02)
        n = walk.n
        assert not walk.stop.wait(0.2)
        assert walk.n <= n + 1
    assert pace.speed == 0.001


@pytest.mark.parametrize("held", [False, True])
def test_a_stop_takes_effect_at_once(held: bool) -> None:
    """Also where it is held, or waits for long."""
    pace = Pace(0.001)
    if held:
        pace.hold()
    with walking(pace) as walk:
        begin = time.monotonic()
        walk.stop.set()
        walk.thread.join(20.0)
        assert time.monotonic() - begin < 5.0
    assert walk.n == (0 if held else 1)
