"""A client that asks for previews, and never reads behind its handshake."""

from __future__ import annotations

import socket

from websockets.frames import Frame, Opcode

_BUFFER_BYTES = 4096
_WISH = b'{"type":"subscribe","id":1,"topics":["predictions","eeg.preview"]}'


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
    while b"\r\n\r\n" not in (head := deaf.recv(_BUFFER_BYTES, socket.MSG_PEEK)):
        if not head:
            raise ConnectionError(f"{address} has closed the connection")
    deaf.sendall(Frame(Opcode.TEXT, _WISH).serialize(mask=True))
    return deaf
