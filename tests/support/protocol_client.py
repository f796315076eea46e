"""A client of the running service that says what it likes and waits for what it expects."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
from websockets.sync.client import ClientConnection

from clmer_server.protocol.outbound import MAGIC, Preview, parse_preview
from clmer_streaming.clock import local_clock
from tests.support.serving import Service

Told = dict[str, Any]
"""A message of the service as plain values."""

PATIENCE_S = 60.0
"""How long a message may take before the test fails."""


class ProtocolClient:
    """One connection, in either encoding.

    Args:
        socket: Open.
        binary: Whether messages are MessagePack.
    """

    def __init__(self, socket: ClientConnection, *, binary: bool = False) -> None:
        self.socket = socket
        self._binary = binary
        self._ids = itertools.count(1)
        self.heard: list[Told] = []  # every message so far, but for previews
        self.welcome = self.next("welcome")

    def say_text(self, text: str) -> None:
        """Send any text."""
        self.socket.send(text)

    def say(self, **message: Any) -> None:
        """Send a message."""
        self.socket.send(msgpack.packb(message) if self._binary else json.dumps(message))

    def ask(self, **message: Any) -> Told:
        """Send a message with a new id, and return its answer."""
        number = next(self._ids)
        self.say(**{"id": number, **message})
        return self.until(lambda told: told.get("id") == message.get("id", number) and told["type"] in ANSWERS)

    def next(self, kind: str, **fields: Any) -> Told:
        """Return the next message of a type, with these fields."""
        return self.until(lambda told: told["type"] == kind and fields.items() <= told.items())

    def until(self, wanted: Callable[[Told], bool]) -> Told:
        """Return the first message that is wanted."""
        return next(told for told in self.messages() if wanted(told))

    def messages(self) -> Iterator[Told]:
        """Yield what comes, but for previews, as long as the service takes no more than PATIENCE_S."""
        return (received for received in self._all() if isinstance(received, dict))

    def previews(self) -> Iterator[Preview]:
        """Yield the previews that come."""
        return (received for received in self._all() if isinstance(received, Preview))

    def _all(self) -> Iterator[Told | Preview]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            content = self.socket.recv(timeout=deadline - time.monotonic())
            if isinstance(content, bytes) and content.startswith(MAGIC):
                yield parse_preview(content)
            else:
                self.heard.append(msgpack.unpackb(content) if isinstance(content, bytes) else json.loads(content))
                yield self.heard[-1]


ANSWERS = ("ack", "error", "clock.reply")
"""Types of answers; every message gets one."""


def exchange_clocks(client: ProtocolClient, ahead_s: float) -> None:
    """Tell the service a few times of a clock that is ahead of the machine's."""
    previous = None
    for _ in range(4):
        reply = client.ask(type="clock.sync", t0=local_clock() + ahead_s, previous=previous)
        previous = {"id": reply["id"], "t3": local_clock() + ahead_s}


@contextmanager
def client_of(service: Service, query: str = "", *, binary: bool = False) -> Iterator[ProtocolClient]:
    """Connect to a service; what comes is taken at once, so that nothing unread holds up the close."""
    with service.connect("clmer.v1.msgpack" if binary else "clmer.v1.json", query, max_queue=None) as socket:
        yield ProtocolClient(socket, binary=binary)
