"""The one clock of CLMER: seconds of ``pylsl.local_clock()``."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

from clmer_streaming.errors import StreamError
from clmer_streaming.types import Chunk, FaceSample, Gap, Item, Marker, RestBaseline, StreamInfo, Tick


@functools.cache
def _clock() -> Callable[[], float]:
    """Return liblsl's clock, or the clock it uses on Linux where the library cannot be loaded."""
    from clmer_streaming.lsl.setup import load_pylsl

    try:
        return load_pylsl().local_clock  # type: ignore[no-any-return]
    except StreamError:
        return time.monotonic


def local_clock() -> float:
    """Return now, in seconds of the LSL clock. Only sources and the session may ask."""
    return float(_clock()())


_TELLING = ("eeg", "face")


class StreamClock:
    """Follows the newest time that EEG, faces and ticks tell; other streams may be on another clock.

    Args:
        t: Seconds, until the first item tells the time.
    """

    def __init__(self, t: float = -math.inf) -> None:
        self.t = t
        self._aside: set[str] = set()  # sources that are not asked

    def take(self, item: Item) -> float:
        """Return the time behind an item, in seconds; it is that of the item, which may step back."""
        if isinstance(item, StreamInfo):
            (self._aside.discard if item.kind in _TELLING else self._aside.add)(item.source)
        elif not isinstance(item, Marker | RestBaseline) and item.source not in self._aside:
            self.t = _time(item, self.t)
        return self.t


def _time(item: Chunk | FaceSample | Tick | Gap, before: float) -> float:
    if isinstance(item, Chunk):
        return float(item.t[-1]) if item.t.size else before
    return item.t1 if isinstance(item, Gap) else item.t
