"""Runs any source in a thread and hands out what it put."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from clmer_streaming.types import Item, Source

WAIT_S = 60.0
"""Generous: a face process needs two seconds to start on a quiet machine."""

ItemT = TypeVar("ItemT", bound=Item)


class Listener:
    """Listens to a source while its context lasts.

    Args:
        source: What to run.
    """

    def __init__(self, source: Source) -> None:
        self.items: queue.Queue[Item] = queue.Queue()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=source.run, args=(self.items.put, self.stop))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()

    def next(self, kind: type[ItemT], wanted: Callable[[ItemT], bool] = lambda item: True) -> ItemT:
        """Return the next item of a kind that is wanted, whatever comes before it."""
        while True:
            item = self.items.get(timeout=WAIT_S)
            if isinstance(item, kind) and wanted(item):
                return item

    def rest(self) -> list[Item]:
        """Wait until the source has ended by itself; return everything that was not taken yet."""
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        return [self.items.get() for _ in range(self.items.qsize())]
