"""What a session's streams do, looked at while its items come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from clmer_server.session.inputs import Inputs
from clmer_streaming.clock import StreamClock
from clmer_streaming.pipeline.liveness import ExtraStreams
from clmer_streaming.types import INPUT_KINDS, Chunk, FaceSample, Item, StreamStatus

UPDATE_INTERVAL_S = 1.0
"""Least stream time between two messages that bring only new numbers of an input."""

SIDE_INTERVAL_S = 5.0
"""The same for a stream that feeds no window; a lab may have many of them."""


class StatusFeed:
    """Remembers what has been said of every stream."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[StreamStatus, float]] = {}

    def update(self, statuses: Iterable[StreamStatus], t: float) -> list[StreamStatus]:
        """Return the statuses to publish.

        Args:
            statuses: The current status of every stream.
            t: Stream time now, seconds.
        """
        due = [status for status in statuses if self._is_due(status, t)]
        for status in due:
            self._said[status.source] = (status, t)
        return due

    def _is_due(self, status: StreamStatus, t: float) -> bool:
        if status.source not in self._said:
            return True
        said, said_t = self._said[status.source]
        if (said.kind, said.name, said.state, said.since, said.reason) != (
            status.kind,
            status.name,
            status.state,
            status.since,
            status.reason,
        ):
            return True
        interval_s = UPDATE_INTERVAL_S if status.kind in INPUT_KINDS else SIDE_INTERVAL_S
        return status != said and not abs(t - said_t) < interval_s


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
        self._side = ExtraStreams(inputs.silence)
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
