"""The clock of all stamps: the clock of Lab Streaming Layer now, and the time that a session's items have reached."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

from clmer_streaming.errors import StreamError
from clmer_streaming.types import CLOCK_KINDS, Chunk, FaceSample, Gap, Item, Marker, RestBaseline, StreamInfo, Tick


@functools.cache
def _clock() -> Callable[[], float]:
    """Return liblsl's clock, or the clock it uses on Linux where the library cannot be loaded."""
    from clmer_streaming.lsl.setup import load_pylsl

    try:
        return load_pylsl().local_clock  # type: ignore[no-any-return]
    except StreamError:
        return time.monotonic


def local_clock() -> float:
    """Return the current time in seconds of the LSL clock; only sources and sessions may call this."""
    return float(_clock()())


class StreamClock:
    """Follows the time of EEG, faces and ticks; other streams may be on another clock.

    Args:
        t: Time in seconds before the first item.
    """

    def __init__(self, t: float = -math.inf) -> None:
        self.t = t
        self._ignored: set[str] = set()  # sources that may be on another clock

    def update(self, item: Item) -> float:
        """Return the time in seconds after an item: that of its newest sample, which may step back."""
        if isinstance(item, StreamInfo):
            (self._ignored.discard if item.kind in CLOCK_KINDS else self._ignored.add)(item.source)
        elif not isinstance(item, Marker | RestBaseline) and item.source not in self._ignored:
            self.t = _time(item, self.t)
        return self.t


def _time(item: Chunk | FaceSample | Tick | Gap, before: float) -> float:
    if isinstance(item, Chunk):
        return float(item.t[-1]) if item.t.size else before
    return item.t1 if isinstance(item, Gap) else item.t
