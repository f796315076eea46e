"""uvicorn with connections that can always be ended, and the listening socket.

uvicorn waits for the other side in several places: before a request, before it reads what was written, before it
answers a close. Each wait has an end here. The classes build on uvicorn's own; ``pyproject.toml`` bounds its version.
To be read in this order: HTTP, WebSocket, the socket, the configuration.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any, ClassVar, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame
from websockets.protocol import State

from clmer_server.protocol.parts import Limits
from clmer_server.web.auth import Access
from clmer_server.web.limits import TokenBucket
from clmer_streaming.errors import SettingsError

ABORT = "clmer.abort"
"""Name of the callable in a WebSocket's ASGI extensions that ends its connection at once."""

SEND_FRAME = "clmer.send_frame"
"""Name of the callable in a WebSocket's ASGI extensions that sends a frame which was encoded for many clients."""

REQUEST_TIMEOUT_S = 5.0
"""How long a request may take to come, from its first byte, or from the connection's beginning, to its last one."""

MAX_HEAD_BYTES = 64 * 1024
"""Longest head of a request."""

CLOSE_ANSWER_S = 1.0
"""How long a client may take to read what waits for it, and to answer a close."""

SPARE_CONNECTIONS = 32
"""Connections beside the WebSockets, of one address and in all: pages, scripts, refusals on their way."""

PINGS_PER_S, PINGS_BURST = 10.0, 100.0
"""How often a client may ping. The answers bypass its send queue, so nothing else bounds them."""

MAX_FRAGMENTS = 1024
"""Parts that one message may come in. Empty parts count for nothing in its length."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP with a time limit and a length limit for requests, from a bounded number of connections."""

    limits: ClassVar[Limits] = Limits()
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection where there is room, and limit the time until its request."""
        super().connection_made(transport)
        if self._crowded():
            transport.abort()
        else:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Process a part of a request."""
        if self._deadline is None:
            self._expect_request()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Reset the count of bytes: what follows is bounded by its own rule."""
        super().on_headers_complete()
        self._head_bytes = -self.limits.max_message_bytes

    def on_message_complete(self) -> None:
        """Stop the time limit."""
        super().on_message_complete()
        self._have_request()

    def handle_websocket_upgrade(self) -> None:
        """Stop the time limit; the WebSocket has limits of its own."""
        self._have_request()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._have_request()
        super().connection_lost(exc)

    def _crowded(self) -> bool:
        n_mine = sum(1 for other in self.connections if _address(other) == _address(self))
        return (
            n_mine > self.limits.max_connections_per_address + SPARE_CONNECTIONS
            or len(self.connections) > self.limits.max_connections + SPARE_CONNECTIONS
        )

    def _expect_request(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def _have_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _address(connection: Any) -> str:
    """Return where a connection comes from; empty for one that has no address, as a socket in the file system."""
    return str(connection.client[0]) if connection.client else ""


def http_protocol(limits: Limits) -> type[BoundedHttp]:
    """Return the HTTP protocol of a service with these limits."""
    return type("LimitedHttp", (BoundedHttp,), {"limits": limits})


class EndableWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that the application can abort, and that never waits for a client that does not read."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._pings = TokenBucket(PINGS_PER_S, PINGS_BURST)

    async def run_asgi(self) -> None:
        """Run the application, with a way to end the connection at once, and one to send what is framed already."""
        extensions = cast(dict[str, Any], self.scope["extensions"])
        extensions.update({ABORT: self.transport.abort, SEND_FRAME: self.send_frame})
        await super().run_asgi()

    async def send_frame(self, frame: bytes) -> None:
        """Send a whole unmasked frame; waits, as ``send`` does, while the client does not read.

        Raises:
            ClientDisconnected: The connection has gone, or a close was sent.
        """
        await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(frame)

    async def send(self, message: Any) -> None:
        """Send; after a close, wait for its answer, but not for ever. A refusal is a whole answer, and no error."""
        await super().send(message)
        if message["type"] == "websocket.close":
            self._end_soon()
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # else uvicorn logs an error for everybody who is refused

    def handle_close(self, event: Frame) -> None:
        """Answer a close, and end even where the answer is not read."""
        super().handle_close(event)
        self._end_soon()

    def handle_parser_exception(self) -> None:
        """Send the reason of the close, and read on for a moment: closing with unread data would lose the reason."""
        if self.close_sent or self.conn.close_sent is None:
            return
        close = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_ANSWER_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Close a connection whose ping was not answered: its client does not read either."""
        super().keepalive_timeout()
        self._end_soon()

    def handle_ping(self) -> None:
        """Answer a ping; fail the connection of a client that sends pings too fast."""
        self._pings.refill()
        if self._pings.take():
            super().handle_ping()
        else:
            self._fail(CloseCode.POLICY_VIOLATION, "too many pings")

    def handle_cont(self, event: Frame) -> None:
        """Process one more part of a message."""
        super().handle_cont(event)
        if len(self.frames) > MAX_FRAGMENTS:
            self._fail(CloseCode.POLICY_VIOLATION, "too many parts of one message")

    def _fail(self, code: CloseCode, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def _end_soon(self) -> None:
        self.loop.call_later(CLOSE_ANSWER_S, self.transport.abort)


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
