"""The bounded queue between the threads of the sources and the pipeline thread of a session."""

from __future__ import annotations

import threading
from collections import deque

from clmer_streaming.types import Item


class IntakeOverflowError(Exception):
    """Items came faster than the pipeline took them; EEG is never dropped silently."""


class Intake:
    """Items in the order in which they came; closing it wakes everybody who waits.

    Args:
        capacity: Items that may wait.
        blocking: What a full intake does to ``put``: wait (a replay), or fail (live).
    """

    def __init__(self, capacity: int, *, blocking: bool) -> None:
        self._capacity = capacity
        self._blocking = blocking
        self._items: deque[Item] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Add an item; behind a close it is thrown away.

        Raises:
            IntakeOverflowError: The intake is full and not blocking.
        """
        with self._changed:
            if self._blocking:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            elif len(self._items) >= self._capacity and not self._closed:
                raise IntakeOverflowError(
                    f"{self._capacity} items wait for the pipeline: this machine is too slow for the stream"
                )
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def put_now(self, item: Item) -> None:
        """Add an item at once, also where the intake is full; behind a close it is thrown away."""
        with self._changed:
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def take(self) -> Item | None:
        """Return the next item, waiting for it; None when the intake is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """Take nothing more; what waits is still handed out, unless it is to be discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()
