"""Many WebSocket clients in one process that is not the server's, each as light as can be.

A library's client costs as much as the server does; with a thousand of them the clients' own queue would be measured.
These read frames as they come, and note when each prediction came and when it was handed out, by its ``unix_time``.
"""

from __future__ import annotations

import asyncio
import resource
import struct
import time
from array import array
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

import numpy as np
import numpy.typing as npt
from websockets.frames import Frame, Opcode

_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_STAMP = b'"unix_time":'
_TYPE = b'"type":"prediction"'
_READY_TO_OUT = (b'"total":', b'"window":')  # ms; their difference is from the window's completion to its sending


@dataclass
class Heard:
    """What all clients of a process heard, one number for each prediction of each client."""

    delay_s: array[float] = field(default_factory=lambda: array("d"))  # handed out -> here
    at_s: array[float] = field(default_factory=lambda: array("d"))  # when it came, by the wall clock
    waited_s: array[float] = field(default_factory=lambda: array("d"))  # window complete -> handed out; NaN in a replay

    def table(self) -> npt.NDArray[np.float64]:
        """Return (3, n): delay, time of arrival, time before it was handed out; all in seconds."""
        return np.array([self.delay_s, self.at_s, self.waited_s])

    def clear(self) -> None:
        """Forget it."""
        for numbers in (self.delay_s, self.at_s, self.waited_s):
            del numbers[:]


class Client(asyncio.Protocol):
    """One connection that asks for nothing and reads everything."""

    def __init__(self, heard: Heard, host: str, first_words: str | None) -> None:
        self._heard = heard
        self._host = host
        self._first_words = first_words
        self._buffer = bytearray()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_HANDSHAKE.format(host=self._host).encode())

    def data_received(self, data: bytes) -> None:
        """Take what came, and note its predictions."""
        now = time.time()
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(bytes(head).decode())
            self._buffer, self._open = rest, True
            if self._first_words is not None:
                frame = Frame(Opcode.TEXT, self._first_words.encode())
                self._transport.write(frame.serialize(mask=True))
        while (message := self._next_message()) is not None:
            self._note(message, now)

    def _next_message(self) -> bytes | None:
        """Return the next whole text frame; other frames, which the server does not send in parts, are left out."""
        if len(self._buffer) < 4:
            return None
        head, length = 2, self._buffer[1]
        if length == 126:
            head, length = 4, struct.unpack_from("!H", self._buffer, 2)[0]
        elif length == 127:
            return self._next_long_message()
        return self._cut(head, length)

    def _next_long_message(self) -> bytes | None:
        return self._cut(10, struct.unpack_from("!Q", self._buffer, 2)[0]) if len(self._buffer) >= 10 else None

    def _cut(self, head: int, length: int) -> bytes | None:
        if len(self._buffer) < head + length:
            return None
        message = bytes(self._buffer[head : head + length])
        del self._buffer[: head + length]
        return message

    def _note(self, message: bytes, now: float) -> None:
        if _TYPE not in message:
            return
        self._heard.delay_s.append(now - _number(message, _STAMP))
        self._heard.at_s.append(now)
        total, window = (_number(message, name) for name in _READY_TO_OUT)
        self._heard.waited_s.append((total - window) / 1e3)


def _number(message: bytes, name: bytes) -> float:
    """Return the number behind a name; NaN for null, and where there is none."""
    begin = message.rfind(name)
    if begin < 0:
        return float("nan")
    text = message[begin + len(name) : begin + len(name) + 25]
    text = text.partition(b",")[0].partition(b"}")[0]
    return float("nan") if text == b"null" else float(text)


def listen(address: str, first_words: tuple[str | None, ...], pipe: Connection) -> None:
    """Connect a client for each of some first words; say so; at every word over the pipe, tell what was heard since.

    Args:
        address: Host and port of the server.
        first_words: What each client says first; None says nothing.
        pipe: To the benchmark; ``"end"`` ends it.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(_listen(address, first_words, pipe))


async def _listen(address: str, first_words: tuple[str | None, ...], pipe: Connection) -> None:
    loop, heard = asyncio.get_running_loop(), Heard()
    host, port = address.split(":")
    for words in first_words:
        await loop.create_connection(partial(Client, heard, address, words), host, int(port))
    pipe.send("ready")
    while await asyncio.to_thread(pipe.recv) != "end":
        pipe.send(heard.table())
        heard.clear()
