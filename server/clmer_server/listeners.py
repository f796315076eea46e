"""Who listens to a session beside the clients: the recorder and the outlets, each where it was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from clmer_server.protocol.outbound import Message
from clmer_server.recorder import Recorder
from clmer_streaming.clock import local_clock
from clmer_streaming.types import Item


class Listener(Protocol):
    """Something that hears every message in a thread of its own."""

    def start(self) -> None:
        """Begin to listen."""

    def message(self, message: Message) -> None:
        """Take a message to the clients; never waits."""

    def close(self, timeout_s: float) -> None:
        """Finish what waits, for ``timeout_s`` seconds at most."""


@dataclass(frozen=True)
class Listeners:
    """The recorder and the outlets of one session."""

    recorder: Recorder | None = None
    outlets: Listener | None = None

    def start(self) -> None:
        """Let them begin."""
        for listener in self._all():
            listener.start()

    def item(self, item: Item) -> None:
        """Take an item before the preprocessor gets it."""
        if self.recorder is not None:
            self.recorder.item(item)

    def also(self, publish: Callable[[Message], None]) -> Callable[[Message], None]:
        """Return a ``publish`` that tells them, too."""

        def publish_to_all(message: Message) -> None:
            publish(message)
            for listener in self._all():
                listener.message(message)

        return publish_to_all

    def close(self, timeout_s: float) -> None:
        """Let them finish what waits, for ``timeout_s`` seconds at most, the recorder first."""
        deadline = time.monotonic() + timeout_s
        for listener in self._all():
            listener.close(max(0.0, deadline - time.monotonic()))

    def _all(self) -> tuple[Listener, ...]:
        return tuple(listener for listener in (self.recorder, self.outlets) if listener is not None)


def both_clocks() -> tuple[float, float]:
    """Return one moment in seconds of the LSL clock and of the wall clock."""
    before, wall, after = local_clock(), time.time(), local_clock()
    return (before + after) / 2, wall
