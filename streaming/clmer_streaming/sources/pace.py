"""The speed of a replay, which can be held and changed while it runs."""

from __future__ import annotations

import math
import threading
import time

from clmer_streaming.sources.replay_lanes import LONGEST_SILENCE_S

_LOOK_S = 0.05  # s between two looks whether it was held or its speed changed


class Pace:
    """Waits until stream time comes round; silences beyond ``LONGEST_SILENCE_S`` are passed over at once.

    Args:
        speed: Seconds of the recording per second; ``math.inf``: no waiting.
    """

    def __init__(self, speed: float) -> None:
        self._lock = threading.Lock()  # guards all below
        self._speed = speed
        self._held_s: float | None = None  # s of stream time to the next item, while it is held
        self._last_due = math.nan  # s of stream time
        self._next_at = time.monotonic()

    @property
    def speed(self) -> float:
        """Seconds of the recording per second."""
        return self._speed

    @property
    def held(self) -> bool:
        """Whether it stands still."""
        return self._held_s is not None

    def begin(self) -> None:
        """Count from now on."""
        with self._lock:
            self._last_due, self._next_at = math.nan, time.monotonic()

    def hold(self) -> None:
        """Stand still from now on."""
        with self._lock:
            if self._held_s is None:
                self._held_s = self._left_s()

    def go_on(self) -> None:
        """Go on from where it stands."""
        with self._lock:
            if self._held_s is not None:
                self._next_at = time.monotonic() + self._held_s / self._speed
                self._held_s = None

    def set_speed(self, speed: float) -> None:
        """Go on at another speed; what stands still does so later."""
        with self._lock:
            left_s = self._left_s()
            self._speed = speed
            self._next_at = time.monotonic() + left_s / speed

    def stopped_before(self, due: float, stop: threading.Event) -> bool:
        """Wait until ``due`` seconds of stream time; return True, at once, when told to stop."""
        self._plan(due)
        while (left_s := self._until_next_s()) > 0:
            if stop.wait(min(left_s, _LOOK_S)):
                return True
        return stop.is_set()

    def _plan(self, due: float) -> None:
        with self._lock:
            ahead_s, self._last_due = due - self._last_due, due
            ahead_s = ahead_s if 0 < ahead_s <= LONGEST_SILENCE_S else 0.0
            if self._held_s is not None:
                self._held_s += ahead_s
            elif math.isinf(self._speed):
                self._next_at = time.monotonic()
            else:
                self._next_at += ahead_s / self._speed

    def _until_next_s(self) -> float:
        """Return the seconds to wait; infinity where it is held."""
        with self._lock:
            return math.inf if self._held_s is not None else self._next_at - time.monotonic()

    def _left_s(self) -> float:
        """Return the stream time to the next item."""
        if math.isinf(self._speed):
            return 0.0
        return max(0.0, self._next_at - time.monotonic()) * self._speed
