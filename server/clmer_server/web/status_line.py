"""The status line of a service in a terminal: what it waits for, or what runs, in one line that is renewed in place.

Where the output is no terminal a line is written when something changes, at most each ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from clmer_server.metrics import Reading
from clmer_server.protocol.parts import StreamEntry
from clmer_streaming.types import INPUT_KINDS

_EVERY_S = 0.5  # between two looks
_LOGGED_EVERY_S = 10.0  # least time between two lines that stay
_CLEAR = "\r\x1b[2K"  # back to the beginning, and erase the line (ECMA-48: EL)


class StatusLine:
    """Writes the status line as long as it runs.

    Args:
        read: Returns the present numbers of all sessions.
        out: Where the line goes.
    """

    def __init__(self, read: Callable[[], Reading], out: TextIO) -> None:
        self._read = read
        self._out = out
        self._in_place = out.isatty()
        self._shown = ""
        self._written_at = -_LOGGED_EVERY_S  # s

    async def run(self) -> None:
        """Renew the line until cancelled, and clear it at the end; a line of the log pushes it aside."""
        handlers = logging.getLogger().handlers if self._in_place else []
        for handler in handlers:
            handler.addFilter(self._make_room)
        try:
            while True:
                self._show(status_text(self._read()))
                await asyncio.sleep(_EVERY_S)
        finally:
            for handler in handlers:
                handler.removeFilter(self._make_room)
            self._make_room(None)

    def _show(self, text: str) -> None:
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            line = text if len(text) <= width else text[: width - 3] + "..."
            if line != self._shown:
                self._out.write(_CLEAR + line)
                self._out.flush()
                self._shown = line
        elif text != self._shown and time.monotonic() - self._written_at >= _LOGGED_EVERY_S:
            self._out.write(text + "\n")
            self._out.flush()
            self._shown, self._written_at = text, time.monotonic()

    def _make_room(self, record: logging.LogRecord | None) -> bool:
        """Clear the line, so that another one can be written there; it comes back with the next look."""
        if self._in_place and self._shown:
            self._out.write(_CLEAR)
            self._out.flush()
            self._shown = ""
        return True


def status_text(reading: Reading) -> str:
    """Return what the sessions of a service wait for, or what runs in them, in one line."""
    texts = [_session_text(name, streams, name in reading.running) for name, streams in reading.streams.items()]
    if len(texts) == 1:
        return f"{texts[0]}; {_count(reading.n_clients, 'client')}"
    named = [f"{name}: {text}" for name, text in zip(reading.streams, texts, strict=True)]
    return "; ".join([*named, _count(reading.n_clients, "client")])


def _session_text(name: str, streams: Sequence[StreamEntry], running: bool) -> str:
    if not running:
        return "not running"
    inputs = [entry for entry in streams if entry.kind in INPUT_KINDS]
    absent = [entry for entry in inputs if entry.state != "live"]
    if not inputs:
        return "waiting for the first sample"
    if absent:
        return "waiting: " + ", ".join(map(_absent_text, absent))
    return "live: " + ", ".join(map(_live_text, inputs))


def _absent_text(entry: StreamEntry) -> str:
    why = f" ({entry.reason})" if entry.reason else ""
    return f"{entry.kind} {entry.state}{why}"


def _live_text(entry: StreamEntry) -> str:
    rate = f" at {entry.rate_hz:.4g} Hz" if entry.rate_hz else ""
    why = f" ({entry.reason})" if entry.reason else ""
    return f"{entry.kind} {entry.name}{rate}{why}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
