"""The speed of a replay."""

from __future__ import annotations

import math
import threading
import time

from clmer_streaming.sources.replay_lanes import LONGEST_SILENCE_S


class Pace:
    """Waits until stream time comes round; silences beyond ``LONGEST_SILENCE_S`` are passed over at once."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._last_due = math.nan  # s of stream time
        self._next_at = time.monotonic()

    def stopped_before(self, due: float, stop: threading.Event) -> bool:
        """Wait until ``due`` seconds of stream time; return True, at once, when told to stop."""
        if math.isinf(self._speed):
            return stop.is_set()
        ahead_s = due - self._last_due
        if 0 < ahead_s <= LONGEST_SILENCE_S:
            self._next_at += ahead_s / self._speed
        self._last_due = due
        return stop.wait(max(0.0, self._next_at - time.monotonic()))
