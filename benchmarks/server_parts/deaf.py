"""A client that never reads behind its handshake."""

from __future__ import annotations

import socket

_BUFFER_BYTES = 4096


def deaf_client(address: str) -> socket.socket:
    """Return its connection, with as small a buffer as the system allows."""
    host, port = address.split(":")
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    deaf.connect((host, int(port)))
    deaf.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return deaf
