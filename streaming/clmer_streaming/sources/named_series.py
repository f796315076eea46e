"""A source whose side streams give further series of the model, by the names that the user says."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping

from clmer_streaming.physio_path import physio_source
from clmer_streaming.types import Chunk, Gap, Item, Source, StreamInfo, Tick


class NamedSeries:
    """Source: another one, whose streams of these names or types are announced as series of the model.

    A session is recorded with every stream that was there, whatever the model of that day knew. Streams that were
    series then keep their names.

    Args:
        source: The other one.
        streams: By series: name or type of the stream that gives it; the first such stream is taken.
    """

    def __init__(self, source: Source, streams: Mapping[str, str]) -> None:
        self._source = source
        self._wanted = {series: stream.lower() for series, stream in streams.items()}
        self._renamed: dict[str, str] = {}  # by source key of the other one: the series' key

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the other source's items until it ends or is stopped."""
        self._source.run(lambda item: put(self._named(item)), stop)

    def _named(self, item: Item) -> Item:
        if isinstance(item, StreamInfo) and item.kind in ("other", "contact"):
            self._note(item)
            if item.source in self._renamed:
                return dataclasses.replace(item, source=self._renamed[item.source], kind="physio")
        if isinstance(item, Chunk | Gap | Tick) and item.source in self._renamed:
            return dataclasses.replace(item, source=self._renamed[item.source])
        return item

    def _note(self, info: StreamInfo) -> None:
        for series, wanted in self._wanted.items():
            key = physio_source(series)
            if wanted in (info.name.lower(), info.type.lower()) and key not in self._renamed.values():
                self._renamed.setdefault(info.source, key)
