"""The ways out of a session: to its clients, to its recorder, and to who looks at the signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clmer_server.previews import PreviewSink
from clmer_server.protocol.outbound import Message
from clmer_streaming.types import Item

HandOver = Callable[[Callable[[], None]], None]
"""Has a function called where messages may be published, in turn. It never waits: other sessions share its threads."""


@dataclass(frozen=True)
class Delivery:
    """The way of a session's messages to the clients."""

    publish: Callable[[Message], None]  # e.g. Hub.publish
    hand_over: HandOver  # every call of publish goes through it, e.g. onto the event loop
    observe: Callable[[Item], None] = lambda item: None  # gets each item before the preprocessor, e.g. a recorder
    sink: PreviewSink | None = None  # who looks at the signals, e.g. Hub; None: nobody
    over: Callable[[], None] = lambda: None  # called like publish, behind the last message of a session that ended

    def send(self, message: Message) -> None:
        """Hand a message over; from any thread."""
        self.hand_over(lambda: self.publish(message))
