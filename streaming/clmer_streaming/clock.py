"""The clock of all stamps: that of Lab Streaming Layer, whether a stamp is on it, and the time of a session's items."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

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


ClockDomain: TypeAlias = Literal["LSL", "Unix time", "other", "unknown"]
"""The clock that stamps are on; ``unknown`` if there is none."""

FAR_S = 10.0
"""Seconds from the time of a clock beyond which a stamp is not on it."""

_UNIX_S = (1e9, 1e10)  # s since 1970, the years 2001 to 2286; no computer has run that long


def identify_clock(behind_s: float, stamp: float, backlog_s: float = 0.0) -> ClockDomain:
    """Return the clock that a stamp is on.

    Args:
        behind_s: Seconds by which the stamp lies behind the time at which LSL's clock was; negative ahead of it.
        stamp: The stamp in seconds.
        backlog_s: Seconds for which samples may have waited.
    """
    if not (math.isfinite(behind_s) and math.isfinite(stamp)):
        return "unknown"
    if -FAR_S <= behind_s <= FAR_S + backlog_s:
        return "LSL"
    return "Unix time" if is_unix_time(stamp) else "other"


def is_unix_time(stamp: float) -> bool:
    """Return whether a stamp can only be seconds since 1970."""
    return _UNIX_S[0] < stamp < _UNIX_S[1]


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
