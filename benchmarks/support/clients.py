"""Light WebSocket clients in a process of their own, and one that never reads.

A library's client costs as much as the server does; with a thousand of them their own queue would be measured. These
only keep each message with the time at which it chunks; messages are parsed when the benchmark asks.
"""

from __future__ import annotations

import resource
import selectors
import socket
import struct
import time
from array import array
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt
from websockets.frames import Frame, Opcode

_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_STAMP = b'"unix_time":'
_TYPE = b'"type":"prediction"'
_SEQ = b'"seq":'
_READY_TO_OUT = (b'"total":', b'"window":')  # ms; their difference is from the window's completion to its sending
_READ_BYTES = 64 * 1024


@dataclass
class Received:
    """The predictions that all clients of a process received, one number for each prediction of each client."""

    delay_s: array[float] = field(default_factory=lambda: array("d"))  # handed out -> here
    at_s: array[float] = field(default_factory=lambda: array("d"))  # when it came, by the wall clock
    waited_s: array[float] = field(default_factory=lambda: array("d"))  # window complete -> handed out; NaN in a replay
    seq: array[float] = field(default_factory=lambda: array("d"))  # of the prediction
    client: array[float] = field(default_factory=lambda: array("d"))  # which of the process

    def table(self) -> npt.NDArray[np.float64]:
        """Return (5, n): delay, time of arrival, time before it was sent, in s; number of the prediction; client."""
        return np.array([self.delay_s, self.at_s, self.waited_s, self.seq, self.client])

    def add(self, message: bytes, now: float, client: int) -> None:
        """Add a message that came to a client at ``now``, if it is a prediction."""
        if _TYPE not in message:
            return
        self.delay_s.append(now - _number(message, _STAMP))
        self.at_s.append(now)
        total, window = (_number(message, name) for name in _READY_TO_OUT)
        self.waited_s.append((total - window) / 1e3)
        self.seq.append(_number(message, _SEQ))
        self.client.append(client)


class Client:
    """One connection that reads everything.

    Args:
        address: Host and port of the server.
        first_message: Sent first; None sends nothing.
    """

    def __init__(self, address: str, first_message: str | None) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall(_HANDSHAKE.format(host=address).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(_READ_BYTES) or b"\r\n\r\n"
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode())
        self._buffer = bytearray(rest)
        self._chunks: list[tuple[float, bytes]] = []
        if first_message is not None:
            self._send(Opcode.TEXT, first_message.encode())

    def receive(self) -> bool:
        """Keep what is in the socket; return False where the server has closed."""
        now = time.time()
        try:
            data = self.socket.recv(_READ_BYTES)
        except ConnectionResetError:
            return False
        self._chunks.append((now, data))
        return bool(data)

    def parse(self, received: Received, number: int) -> None:
        """Add the predictions among what this client received, and answer pings."""
        chunks, self._chunks = self._chunks, []
        for now, data in chunks:
            self._buffer += data
            while (frame := self._next_frame()) is not None:
                opcode, content = frame
                if opcode is Opcode.PING:
                    self._send(Opcode.PONG, content)
                received.add(content, now, number)

    def _send(self, opcode: Opcode, content: bytes) -> None:
        self.socket.sendall(Frame(opcode, content).serialize(mask=True))

    def _next_frame(self) -> tuple[Opcode, bytes] | None:
        """Return the next whole frame; the server sends none in parts."""
        if len(self._buffer) < 2:
            return None
        head, length = 2, self._buffer[1]
        if length >= 126:
            form = struct.Struct("!H" if length == 126 else "!Q")
            head += form.size
            if len(self._buffer) < head:
                return None
            (length,) = form.unpack_from(self._buffer, 2)
        if len(self._buffer) < head + length:
            return None
        frame = Opcode(self._buffer[0] & 15), bytes(self._buffer[head : head + length])
        del self._buffer[: head + length]
        return frame


def _number(message: bytes, name: bytes) -> float:
    """Return the number behind a name; NaN for null, and where there is none."""
    begin = message.rfind(name)
    if begin < 0:
        return float("nan")
    text = message[begin + len(name) : begin + len(name) + 25]
    text = text.partition(b",")[0].partition(b"}")[0]
    return float("nan") if text == b"null" else float(text)


def listen(address: str, first_message: tuple[str | None, ...], pipe: Connection) -> None:
    """Run clients: connect them and send "ready"; at every word over the pipe, send what they have received since.

    Args:
        address: Host and port of the server.
        first_message: For each client, what it sends first; None sends nothing.
        pipe: To the benchmark.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    clients = [Client(address, words) for words in first_message]
    pipe.send("ready")
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    pipe.recv()
                    pipe.send(_all_received(clients))
                elif not key.data.receive():
                    selector.unregister(key.fileobj)


def _all_received(clients: list[Client]) -> npt.NDArray[np.float64]:
    received = Received()
    for number, client in enumerate(clients):
        client.parse(received, number)
    return received.table()


_BUFFER_BYTES = 4096
_SUBSCRIPTION = b'{"type":"subscribe","id":1,"topics":["predictions","eeg.preview"]}'


def connect_without_reading(address: str) -> socket.socket:
    """Return a connection that asks for previews and reads nothing but its handshake, into the smallest buffer."""
    host, port = address.split(":")
    silent = socket.socket()
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    silent.connect((host, int(port)))
    silent.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    while b"\r\n\r\n" not in (head := silent.recv(_BUFFER_BYTES, socket.MSG_PEEK)):
        if not head:
            raise ConnectionError(f"{address} has closed the connection")
    silent.sendall(Frame(Opcode.TEXT, _SUBSCRIPTION).serialize(mask=True))
    return silent
