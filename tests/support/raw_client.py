"""WebSocket clients that do less than they should: one never reads, one reads and never answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable

from websockets.frames import Frame, Opcode

PREVIEWS_TOO = ("predictions", "quality", "eeg.preview", "face.preview")


def raw_client(address: str, buffer_bytes: int | None = None) -> socket.socket:
    """Return a connection whose handshake is done, and of which the beginning of the answer has been read.

    Args:
        address: Host and port of the service.
        buffer_bytes: What the system may keep for it unread; None: as much as is usual.
    """
    host, port = address.split(":")
    client = socket.socket()
    client.settimeout(60)
    if buffer_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    client.connect((host, int(port)))
    client.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert client.recv(12) == b"HTTP/1.1 101"
    return client


def deaf_client(address: str, topics: Iterable[str] = PREVIEWS_TOO, overflow: str = "queue") -> socket.socket:
    """Return a connection that asks for these topics, and never reads again behind its handshake."""
    deaf = raw_client(address, buffer_bytes=4096)
    wish = {"type": "subscribe", "id": 1, "topics": list(topics), "overflow": overflow}
    deaf.sendall(Frame(Opcode.TEXT, json.dumps(wish).encode()).serialize(mask=True))
    return deaf
