"""What a session's streams do, looked at while its items come."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from clmer_server.inputs import Inputs
from clmer_server.status_feed import StatusFeed
from clmer_streaming.side_streams import SideStreams
from clmer_streaming.stream_clock import StreamClock
from clmer_streaming.types import Chunk, FaceSample, Item, StreamStatus

LOOK_S = 0.25
"""Stream time in seconds after which samples that complete no window let the streams be looked at again."""


class StreamWatch:
    """Finds the statuses that are worth telling: of the inputs, of those still waited for, and of streams beside them.

    Args:
        inputs: Of the session.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._feed = StatusFeed()
        self._side = SideStreams(inputs.silence)
        self._expected: tuple[StreamStatus, ...] = ()  # streams waited for, since when the session was started
        self._clock = StreamClock()
        self._looked_t = -math.inf  # s of stream time, when the states of the streams were last looked at

    @property
    def t(self) -> float:
        """Stream time now, in seconds; -inf before it has begun."""
        return self._clock.t

    def begin(self, now: float) -> list[StreamStatus]:
        """Return what is waited for, from ``now`` (seconds) on."""
        self._expected = tuple(replace(status, since=now) for status in self._inputs.expected)
        return self._feed.update(self._expected, self._clock.t)

    def take(
        self, item: Item, announced: Callable[[], Sequence[StreamStatus]], *, windows_closed: bool
    ) -> list[StreamStatus]:
        """Return what is to be told behind an item.

        Args:
            item: Which the preprocessor has taken.
            announced: Tells what the preprocessor knows of its streams.
            windows_closed: Whether the item closed any window.
        """
        t = self._clock.take(item)
        beside = self._side.push(item, t)
        samples = isinstance(item, Chunk | FaceSample) and not windows_closed
        if samples and not abs(t - self._looked_t) >= LOOK_S:
            return []
        self._looked_t = t
        return self._feed.update((*self._inputs.streams(announced(), self._expected), *beside), t)
