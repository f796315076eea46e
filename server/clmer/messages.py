"""Messages of a service as a client reads them: the error that refusals become, parsing, and those not read yet."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import Any

from pydantic import ValidationError

from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.outbound import MAGIC, MESSAGE, GapMessage, Message, Preview, parse_preview
from clmer_server.protocol.parts import Topic
from clmer_streaming.errors import ClmerError

MAX_UNREAD = 20_000
"""Messages that may wait to be read: nearly three hours of predictions with the shipped model."""

RUN_ENDED = frozenset({NoticeCode.SESSION_STOPPED, NoticeCode.INPUT_ENDED, NoticeCode.REPLAY_ENDED})
"""Notices behind which no prediction comes until the session is started again."""


class ServiceError(ClmerError):
    """The service is not there, refused a request, or ended the connection.

    Attributes:
        code: The service's code (docs/protocol.md, tables of ``error``, ``bye`` and refusals), else ``unreachable``,
            ``timeout`` or ``closed``.

    Example::

        import clmer

        with clmer.connect("ws://127.0.0.1:8765") as client:
            try:
                client.start()
            except clmer.ServiceError as error:
                print(error.code)  # session_running
    """

    def __init__(self, code: str, expected: str, found: str, mend: str) -> None:
        super().__init__(expected, found, mend)
        self.code = code


ANSWERS = frozenset({"ack", "error", "clock.reply"})
"""Types of answers; every request gets one."""

_TOPIC_OF: dict[str, Topic] = {
    "prediction": "predictions",
    "quality": "quality",
    "stream.status": "status",
    "marker": "markers",
}
"""Topic by the type of its messages; a message of another type comes whatever is subscribed to."""


def plain_values(content: str) -> dict[str, Any]:
    """Return a message as plain values; empty where it is none."""
    try:
        plain = json.loads(content)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}


def parse_message(content: str | bytes) -> Message | Preview | None:
    """Return a message; None for an unknown type. Unknown fields are ignored.

    Raises:
        ServiceError: A field cannot be read.
    """
    try:
        if isinstance(content, bytes):
            return parse_preview(content) if content.startswith(MAGIC) else None
        return MESSAGE.validate_json(content, extra="ignore")
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return None
        found, mend = str(error), "install the same version of clmer here and there"
        raise ServiceError("bad_message", "a message that can be read", found, mend) from error


def is_of(message: Message | Preview, topics: tuple[str, ...] | None) -> bool:
    """Return whether a message belongs to one of the topics, or to none; True if ``topics`` is None."""
    if topics is None:
        return True
    topic = message.topic if isinstance(message, Preview) else _TOPIC_OF.get(message.type)
    return topic is None or topic in topics


def _ends_run(content: str | bytes) -> bool:
    plain = {} if isinstance(content, bytes) else plain_values(content)
    return plain.get("type") == "notice" and plain.get("code") in RUN_ENDED


class Inbox:
    """Messages that wait to be read, as they came, the newest ``MAX_UNREAD`` of them."""

    def __init__(self) -> None:
        self._contents: deque[str | bytes] = deque()
        self._n_dropped = 0  # since the last gap that was reported
        self._seqs: list[int] = []  # of the first and the last prediction among them
        self._closed = False
        self._changed = threading.Condition()  # guards all of these

    def put(self, content: str | bytes) -> None:
        """Add a message; drop the oldest one if the queue is full."""
        with self._changed:
            if len(self._contents) >= MAX_UNREAD:
                self._drop(self._contents.popleft())
            self._contents.append(content)
            self._changed.notify()

    def get(self, timeout_s: float | None) -> str | bytes | GapMessage | None:
        """Return the oldest message, or what is missing before it; None where none will come.

        Raises:
            TimeoutError: None came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._contents or self._closed, timeout_s):
                raise TimeoutError
            if self._n_dropped:
                gap = self._gap()
                self._n_dropped, self._seqs = 0, []
                return gap
            return self._contents.popleft() if self._contents else None

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be read."""
        with self._changed:
            return not self._contents

    def discard_ends(self) -> None:
        """Remove the notices that a run has ended."""
        with self._changed:
            self._contents = deque(content for content in self._contents if not _ends_run(content))

    def close(self) -> None:
        """Wake waiting readers; messages that are queued can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop(self, content: str | bytes) -> None:
        self._n_dropped += 1
        plain = {} if isinstance(content, bytes) else plain_values(content)
        if plain.get("type") == "prediction":
            self._seqs = [*self._seqs[:1], plain["seq"]]

    def _gap(self) -> GapMessage:
        first, last = (self._seqs[0], self._seqs[-1]) if self._seqs else (None, None)
        return GapMessage(from_seq=first, to_seq=last, dropped=self._n_dropped)
