"""One WebSocket connection: the handshake, then a task that sends what waits for the client, beside the reading.

To be read in this order: ``Handshake``, ``serve_client`` and what it is made of.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from uvicorn.protocols.utils import ClientDisconnected

from clmer_server.hub import Hub
from clmer_server.protocol.codes import (
    PROTOCOL,
    SUBPROTOCOLS,
    ByeReason,
    Encoding,
    ErrorCode,
    ErrorMessage,
    unknown_session,
)
from clmer_server.protocol.encoding import encode_as
from clmer_server.protocol.inbound import Hello, read_inbound
from clmer_server.protocol.outbound import Ack, Bye, Message
from clmer_server.protocol.parts import Limits
from clmer_server.send_queue import OutboundMessage, Subscriber
from clmer_server.session.manager import SessionManager
from clmer_server.web.auth import TokenCheck
from clmer_server.web.limits import BURST_S, RateLimiter, RateVerdict, Watchdog, WatchedConnection
from clmer_server.web.middleware import AUTHENTICATED
from clmer_server.web.requests import RequestHandler
from clmer_server.web.uvicorn import ABORT, SEND_FRAME
from clmer_streaming.clock import local_clock

GOING_AWAY = 1001
"""WebSocket close code (RFC 6455, 7.4.1) of a service that has nothing more to send."""

POLICY_VIOLATION = 1008
"""WebSocket close code (RFC 6455, 7.4.1) of a client that violated the protocol's rules."""

LAST_MESSAGES_S = 1.0
"""How long a client that is cut off has to read why."""

_NUMBER = "[0-9]{1,16}"


class Handshake:
    """Authenticates clients whose request carried no token, by their first message.

    Args:
        check: Compares tokens.
        limits: Of the service.
        watchdog: Of all connections; None: a new one.

    Attributes:
        limits: Of the service.
        watchdog: Of all connections.
    """

    def __init__(self, check: TokenCheck, limits: Limits, watchdog: Watchdog | None = None) -> None:
        self.limits = limits
        self.watchdog = Watchdog() if watchdog is None else watchdog
        self._check = check
        self._bye: Bye | None = None  # sent to clients that connect now
        self._timeouts: set[asyncio.Timeout] = set()  # one for each client that has not sent hello yet

    def close(self, bye: Bye) -> None:
        """End the handshakes under way, and all later ones, with ``bye``."""
        self._bye = bye
        for timeout in self._timeouts:
            if not timeout.expired():
                timeout.reschedule(asyncio.get_running_loop().time())

    async def authenticate(self, socket: WebSocket, encoding: Encoding) -> tuple[Hello, ...] | None:
        """Return the messages by which an accepted client authenticated itself; None where it was refused.

        Args:
            socket: The accepted connection; it is closed where the answer is None.
            encoding: Of its messages.
        """
        if socket.scope["state"][AUTHENTICATED]:
            return ()
        first = await self._first_message(socket, encoding)
        if isinstance(first, Hello):
            return (first,)
        with contextlib.suppress(WebSocketDisconnect):
            if isinstance(first, Bye):
                await _close_with(socket, encoding, (first,), GOING_AWAY)
            else:
                last = (first, Bye(reason=ByeReason(first.code)))
                await _close_with(socket, encoding, last, POLICY_VIOLATION, first.code)
        return None

    def watch(self, socket: WebSocket, is_full: Callable[[], bool]) -> AbstractContextManager[WatchedConnection]:
        """Watch a connection while the context lasts; it is aborted when its send queue stays full."""
        return self.watchdog.watching(is_full, abort_of(socket))

    async def _first_message(self, socket: WebSocket, encoding: Encoding) -> Hello | ErrorMessage | Bye:
        """Return the client's hello, what is wrong with its first message, or ``bye`` where the service ends before."""
        try:
            with self._timeout() as timeout:
                async with timeout:
                    event = await socket.receive()
        except TimeoutError:
            return self._bye or _too_late(self.limits)
        text = event.get("text")
        message = read_inbound(event.get("bytes") if text is None else text, encoding)
        if not isinstance(message, Hello) or message.token is None:
            expected = "the first message must be hello with the service's token"
            return ErrorMessage(id=message.id, code=ErrorCode.TOKEN_MISSING, message=expected, fatal=True)
        if not self._check.holds(message.token):
            wrong = "this is not the service's token"
            return ErrorMessage(id=message.id, code=ErrorCode.TOKEN_WRONG, message=wrong, fatal=True)
        return message

    @contextmanager
    def _timeout(self) -> Iterator[asyncio.Timeout]:
        timeout = asyncio.timeout(0.0 if self._bye else self.limits.hello_timeout_s)
        self._timeouts.add(timeout)
        try:
            yield timeout
        finally:
            self._timeouts.discard(timeout)


def _too_late(limits: Limits) -> ErrorMessage:
    text = f"the token did not come within {limits.hello_timeout_s:g} s; say hello with it first"
    return ErrorMessage(code=ErrorCode.AUTH_TIMEOUT, message=text, fatal=True)


def abort_of(socket: WebSocket) -> Callable[[], None]:
    """Return the function that ends a connection at once, without waiting for the client to read."""
    abort: Callable[[], None] = socket.scope["extensions"][ABORT]
    return abort


async def _close_with(
    socket: WebSocket, encoding: Encoding, messages: Sequence[Message], code: int, reason: str | None = None
) -> None:
    """Send the last messages, and close with a code."""
    for message in messages:
        content = encode_as(message, encoding)
        if isinstance(content, str):
            await socket.send_text(content)
        else:
            await socket.send_bytes(content)
    await socket.close(code, reason)


async def serve_client(
    socket: WebSocket,
    manager: SessionManager,
    handshake: Handshake,
    session: str | None = None,
    after_seq: str | None = None,
) -> None:
    """Accept a connection; send and read until one of both ends.

    Args:
        socket: As it asks to connect.
        manager: All sessions.
        handshake: Of the service.
        session: Name of the session that it asks for; None: the default one.
        after_seq: Number of the last prediction that the client had before, as it wrote that; None: it is new.
    """
    name = next(iter(manager.sessions)) if session is None else session
    known = manager.sessions if socket.scope["state"][AUTHENTICATED] else ()
    if (refusal := _refusal(manager, name, after_seq, known)) is not None:
        await _refuse(socket, *refusal)
        return
    encoding = await _accept(socket)
    if encoding is None or (hellos := await handshake.authenticate(socket, encoding)) is None:
        return
    last_seq = None if after_seq is None else int(after_seq)
    hub, client = _attach(manager, name, handshake.limits, encoding, last_seq)
    for hello in hellos:
        client.put(OutboundMessage(Ack(id=hello.id)))
    try:
        await _exchange(socket, client, RequestHandler(client, name, manager, local_clock), handshake)
    finally:
        for each in {hub, *(managed.hub for managed in manager.sessions.values())}:
            each.detach(client)


def _refusal(
    manager: SessionManager, session: str, after_seq: str | None, known: Iterable[str]
) -> tuple[int, str, str] | None:
    """Return status, code and message of the refusal of an address; None where it can be served.

    Args:
        manager: All sessions.
        session: Name of the session that is asked for.
        after_seq: As ``serve_client`` has it.
        known: Names of the sessions that the refusal may contain; none before the client has shown the token.
    """
    if session not in manager.sessions:
        refusal = unknown_session(session, known)
        return 404, refusal.code, refusal.message
    if after_seq is not None and not re.fullmatch(_NUMBER, after_seq):
        return 400, "bad_field", f"expected the seq of a prediction as after_seq, found {after_seq[:64]!a}"
    return None


def _attach(
    manager: SessionManager, session: str, limits: Limits, encoding: Encoding, after_seq: int | None
) -> tuple[Hub, Subscriber]:
    """Return a new subscriber and its hub; where the session was removed meanwhile, ``bye`` waits for it."""
    if (managed := manager.sessions.get(session)) is not None:
        welcome = managed.welcome().model_copy(update={"limits": limits})
        return managed.hub, managed.hub.attach(welcome, encoding, after_seq)
    client = Subscriber(1, encoding)
    client.end(OutboundMessage(Bye(reason=ByeReason.SESSION_REMOVED)))
    return Hub(), client


async def _exchange(socket: WebSocket, client: Subscriber, handler: RequestHandler, handshake: Handshake) -> None:
    """Send and read at once; a client that is cut off gets the reason, and is aborted where it does not read it."""
    with handshake.watch(socket, lambda: client.queue.full) as connection:
        sender = asyncio.create_task(_send_all(socket, client, connection))
        try:
            if not await _read_all(socket, client, handler, handshake.limits):
                await asyncio.wait({sender}, timeout=LAST_MESSAGES_S)
                abort_of(socket)()
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender


async def _refuse(socket: WebSocket, status: int, code: str, message: str) -> None:
    """Answer a handshake over HTTP."""
    await socket.send_denial_response(JSONResponse({"code": code, "message": message}, status_code=status))


async def _accept(socket: WebSocket) -> Encoding | None:
    """Accept a client that offers our protocol, or none; refuse any other before the handshake."""
    offered: list[str] = socket.scope["subprotocols"]
    chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
    if offered and chosen is None:
        expected = " or ".join(SUBPROTOCOLS)
        await _refuse(socket, 400, "protocol_unknown", f"expected the subprotocol {expected}, found {offered!r}")
        return None
    await socket.accept(subprotocol=chosen)
    return SUBPROTOCOLS[chosen or PROTOCOL]


async def _send_all(socket: WebSocket, client: Subscriber, connection: WatchedConnection) -> None:
    send_frame: Callable[[bytes], Awaitable[None]] = socket.scope["extensions"][SEND_FRAME]
    with contextlib.suppress(WebSocketDisconnect, ClientDisconnected):  # it ends the reading, too
        while (message := await client.get()) is not None:
            await send_frame(message.framed(client.encoding))
            connection.sent()
        await socket.close(GOING_AWAY)


async def _read_all(socket: WebSocket, client: Subscriber, handler: RequestHandler, limits: Limits) -> bool:
    """Answer until the client disconnects; return False where it is cut off, since it sends too fast all the time."""
    limiter = RateLimiter(limits)
    while (event := await socket.receive())["type"] != "websocket.disconnect":
        verdict = limiter.check()
        if verdict is RateVerdict.ACCEPTED:
            text = event.get("text")
            client.put(OutboundMessage(await handler.answer(event.get("bytes") if text is None else text)))
        else:
            client.put(OutboundMessage(_too_fast(verdict, limits)))
        if verdict is RateVerdict.CUT_OFF:
            client.end(OutboundMessage(Bye(reason=ByeReason.RATE_LIMITED, retry_after_s=BURST_S)))
            return False
        await asyncio.sleep(0)  # many that came at once must not hold up the others
    return True


def _too_fast(verdict: RateVerdict, limits: Limits) -> ErrorMessage:
    text = f"at most {limits.max_messages_per_s:g} messages a second; this one was not acted upon"
    return ErrorMessage(code=ErrorCode.RATE_LIMITED, message=text, fatal=verdict is RateVerdict.CUT_OFF)
