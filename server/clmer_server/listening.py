"""Where the service listens, and how uvicorn serves what comes."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvicorn

from clmer_server.access import Access
from clmer_server.transport import EndableWebSocket, http_protocol
from clmer_streaming.errors import SettingsError

CLOSE_TIMEOUT_S = 1
"""How long connections have to close; with those of the sessions, a shutdown takes less than 5 s in every case."""

SEND_BUFFER_BYTES = 64 * 1024
"""What the system may hold back for one connection. Left alone it takes megabytes: minutes of old predictions."""

UNREAD_TIMEOUT_MS = 20_000
"""How long the system itself tries to hand over what a client does not take, also after the service has ended."""

PING_S = 20.0
"""Interval of WebSocket pings, and how long the answer may take."""


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens already, so that nobody takes the port while the model loads.

    Args:
        host: Name or address to listen at.
        port: Port; 0 takes any free one.

    Raises:
        SettingsError: The port is in use, or the host is not this machine's.
    """
    try:
        return _listener(host, port)
    except OSError as error:
        raise SettingsError(
            expected=f"a free port to listen at, {host}:{port}",
            found=str(error.strerror or error),
            mend="end the other program, or give another one with --port (0 takes any free port)",
        ) from error


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # take a port that a service has just left; elsewhere it means to share it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_MS)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def uvicorn_config(app: Any, access: Access, ping_s: float = PING_S) -> uvicorn.Config:
    """Return how the application is served.

    Args:
        app: The ASGI application.
        access: Who may connect.
        ping_s: Interval of WebSocket pings, and how long the answer may take.
    """
    return uvicorn.Config(
        app,
        http=http_protocol(access.limits),
        ws=EndableWebSocket,
        ws_max_size=access.limits.max_message_bytes,
        ws_ping_interval=ping_s,
        ws_ping_timeout=ping_s,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        lifespan="off",
        log_config=None,
        log_level="warning",  # below it come addresses, headers and messages: tokens, and what people feel
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could claim any address by them
        ssl_certfile=access.tls.cert if access.tls else None,
        ssl_keyfile=access.tls.key if access.tls else None,
    )
