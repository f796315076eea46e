"""Whether samples of a stream arrive: decided by samples and ticks in stream time, never by the wall clock."""

from __future__ import annotations

from collections import deque

import numpy as np

from clmer_streaming.types import StreamState

_STALLED_S = 1.0  # s of silence, or two measured chunk intervals if that is more
_LOST_S = 5.0  # s of silence
_REMEMBERED_CHUNKS = 16


class Liveness:
    """The state of one stream.

    Args:
        t: Time of the announcement in seconds; NaN until a first item tells the time.
    """

    def __init__(self, t: float = np.nan) -> None:
        self.state: StreamState = "connecting"
        self.since = t  # s, when the state was entered
        self.last_t = np.nan  # s, the newest sample
        self._spans: deque[float] = deque(maxlen=_REMEMBERED_CHUNKS)

    @property
    def chunk_s(self) -> float:
        """The longest of the last chunks in seconds; what a source may lag by delivering in chunks."""
        return max(self._spans, default=0.0)

    @property
    def stalled_after_s(self) -> float:
        """Seconds of silence after which the stream counts as stalled."""
        return max(_STALLED_S, 2 * self.chunk_s)

    def observe(self, t_first: float, t_last: float) -> None:
        """Take note of samples from ``t_first`` to ``t_last`` seconds."""
        self._spans.append(max(0.0, t_last - t_first))
        if self.state != "live":
            self.state, self.since = "live", t_first
        self.last_t = t_last

    def advance(self, now: float) -> None:
        """Take note that it is ``now`` (seconds), by another stream's samples or a tick."""
        if np.isnan(self.since):
            self.since = now
        silent_s = now - self.last_t
        if self.state == "live" and silent_s > self.stalled_after_s:
            self.state, self.since = "stalled", self.last_t + self.stalled_after_s
        if self.state == "stalled" and silent_s > max(_LOST_S, self.stalled_after_s):
            self.state, self.since = "lost", self.last_t + max(_LOST_S, self.stalled_after_s)
