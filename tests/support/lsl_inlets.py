"""Inlets on the LSL network, as another program of the lab has them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

WAIT_S = 30.0
"""How long a stream may take to be found, and its samples to come."""


class Inlets:
    """Collects what streams deliver while its context lasts; they are all connected when it begins.

    Args:
        names: Of the streams; they are on the network already.
    """

    def __init__(self, *names: str) -> None:
        self.samples: dict[str, list[tuple[float, list[Any]]]] = {name: [] for name in names}
        self.headers: dict[str, str] = {}
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._read, args=(name,)) for name in names]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.headers) == len(self._threads), WAIT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def wait_for(self, counts: Mapping[str, int]) -> None:
        """Wait until as many samples of each stream have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: all(len(self.samples[k]) >= n for k, n in counts.items()), WAIT_S)

    def wait_until_lost(self) -> None:
        """Wait until every stream has gone from the network."""
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _read(self, name: str) -> None:
        import pylsl

        found = pylsl.resolve_byprop("name", name, timeout=WAIT_S)
        inlet = pylsl.StreamInlet(found[0], recover=False)
        try:
            inlet.open_stream(WAIT_S)
            self._note(self.headers, name, inlet.info(WAIT_S).as_xml())
            while not self._stop.is_set():
                sample, t = inlet.pull_sample(timeout=0.2)
                if sample is not None:
                    self._note(self.samples, name, [*self.samples[name], (t, sample)])
        except pylsl.util.LostError:
            return

    def _note(self, where: dict[str, Any], name: str, value: Any) -> None:
        with self._changed:
            where[name] = value
            self._changed.notify_all()
