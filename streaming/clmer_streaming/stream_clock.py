"""What time it is in a stream of items."""

from __future__ import annotations

import math

from clmer_streaming.types import Chunk, FaceSample, Gap, Item, Marker, RestReference, StreamInfo, Tick

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
        elif not isinstance(item, Marker | RestReference) and item.source not in self._aside:
            self.t = _time(item, self.t)
        return self.t


def _time(item: Chunk | FaceSample | Tick | Gap, before: float) -> float:
    if isinstance(item, Chunk):
        return float(item.t[-1]) if item.t.size else before
    return item.t1 if isinstance(item, Gap) else item.t
