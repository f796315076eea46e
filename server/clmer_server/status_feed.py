"""Which stream states are worth a message: every change of state, and the measured rate now and then."""

from __future__ import annotations

from collections.abc import Iterable

from clmer_streaming.types import INPUT_KINDS, StreamStatus

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
