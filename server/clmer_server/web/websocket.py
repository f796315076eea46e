"""One WebSocket connection: a task that sends what waits in the client's mailbox, and the reading beside it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from uvicorn.protocols.utils import ClientDisconnected

from clmer_server.hub import Client, Hub, OutboundMessage
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
from clmer_server.session.manager import SessionManager
from clmer_server.web.auth import TokenCheck
from clmer_server.web.limits import BURST_S, InboundPace, Pace, Watchdog, Watched
from clmer_server.web.middleware import AUTHENTICATED
from clmer_server.web.requests import RequestHandler
from clmer_server.web.uvicorn import ABORT, SEND_FRAME
from clmer_streaming.clock import local_clock

GOING_AWAY = 1001
"""WebSocket close code of a service that has nothing more to say."""

POLICY_VIOLATION = 1008
"""WebSocket close code of a client that did what it must not."""


class Handshake:
    """Who comes in, how fast they may talk, and who is put out.

    Args:
        check: Of the tokens that are shown.
        limits: Of the service.
        watchdog: Over all clients.
    """

    def __init__(self, check: TokenCheck, limits: Limits, watchdog: Watchdog | None = None) -> None:
        self.limits = limits
        self.watchdog = Watchdog() if watchdog is None else watchdog
        self._check = check
        self._bye: Bye | None = None  # what is said to whoever comes now
        self._patience: set[asyncio.Timeout] = set()  # with each client that has not said hello yet

    def close(self, bye: Bye) -> None:
        """Let everybody who waits at the door, and who comes to it from now on, hear ``bye`` and go."""
        self._bye = bye
        for patience in self._patience:
            if not patience.expired():
                patience.reschedule(asyncio.get_running_loop().time())

    async def hellos(self, socket: WebSocket, encoding: Encoding) -> tuple[Hello, ...] | None:
        """Return what an accepted client had to say to come in; None where it has been told why it may not.

        Args:
            socket: The accepted connection; it is closed where the answer is None.
            encoding: Of its messages.
        """
        if socket.scope["state"][AUTHENTICATED]:
            return ()
        heard = await self._first_words(socket, encoding)
        if isinstance(heard, Hello):
            return (heard,)
        with contextlib.suppress(WebSocketDisconnect):
            if isinstance(heard, Bye):
                await _part(socket, encoding, (heard,), GOING_AWAY)
            else:
                await _part(socket, encoding, (heard, Bye(reason=ByeReason(heard.code))), POLICY_VIOLATION, heard.code)
        return None

    def watching(self, socket: WebSocket, is_full: Callable[[], bool]) -> AbstractContextManager[Watched]:
        """Watch a connection while the context lasts; it is aborted when its mailbox stays full."""
        return self.watchdog.watching(is_full, abort_of(socket))

    def pace(self) -> InboundPace:
        """Return the judge of how fast one client sends."""
        return InboundPace(self.limits)

    async def _first_words(self, socket: WebSocket, encoding: Encoding) -> Hello | ErrorMessage | Bye:
        """Return the client's hello, what is wrong with its first message, or goodbye where the service ends before."""
        try:
            with self._waiting() as patience:
                async with patience:
                    event = await socket.receive()
        except TimeoutError:
            return self._bye or _too_late(self.limits)
        data = event.get("text")
        said = read_inbound(event.get("bytes") if data is None else data, encoding)
        if not isinstance(said, Hello) or said.token is None:
            text = "the first message must be hello with the service's token"
            return ErrorMessage(id=said.id, code=ErrorCode.TOKEN_MISSING, message=text, fatal=True)
        if not self._check.holds(said.token):
            text = "this is not the service's token"
            return ErrorMessage(id=said.id, code=ErrorCode.TOKEN_WRONG, message=text, fatal=True)
        return said

    @contextmanager
    def _waiting(self) -> Iterator[asyncio.Timeout]:
        patience = asyncio.timeout(0.0 if self._bye else self.limits.hello_timeout_s)
        self._patience.add(patience)
        try:
            yield patience
        finally:
            self._patience.discard(patience)


def _too_late(limits: Limits) -> ErrorMessage:
    text = f"the token did not come within {limits.hello_timeout_s:g} s; say hello with it first"
    return ErrorMessage(code=ErrorCode.AUTH_TIMEOUT, message=text, fatal=True)


def too_fast(pace: Pace, limits: Limits) -> ErrorMessage:
    """Return the answer to a message that came too fast."""
    text = f"at most {limits.max_messages_per_s:g} messages a second; this one was not acted upon"
    return ErrorMessage(code=ErrorCode.RATE_LIMITED, message=text, fatal=pace is Pace.GOES_ON)


def abort_of(socket: WebSocket) -> Callable[[], None]:
    """Return what ends a connection at once, without waiting for the client to read."""
    abort: Callable[[], None] = socket.scope["extensions"][ABORT]
    return abort


async def _part(
    socket: WebSocket, encoding: Encoding, last_words: Sequence[Message], code: int, reason: str | None = None
) -> None:
    """Say the last words, and close with a code."""
    for message in last_words:
        content = encode_as(message, encoding)
        if isinstance(content, str):
            await socket.send_text(content)
        else:
            await socket.send_bytes(content)
    await socket.close(code, reason)


_NUMBER = "[0-9]{1,16}"

LAST_WORDS_S = 1.0
"""How long a client that is put out has to hear why."""


async def serve_client(
    socket: WebSocket, rooms: SessionManager, door: Handshake, home: str | None = None, after_seq: str | None = None
) -> None:
    """Accept a connection; send and read until one of both ends.

    Args:
        socket: As it asks to connect.
        rooms: All sessions.
        door: Who comes in.
        home: The session that it asks for; None: the default one.
        after_seq: The last prediction that the client had before, as it wrote that; None: it is new.
    """
    home = next(iter(rooms.rooms)) if home is None else home
    known = rooms.rooms if socket.scope["state"][AUTHENTICATED] else ()
    if (refusal := _why_not(rooms, home, after_seq, known)) is not None:
        await _refuse(socket, *refusal)
        return
    encoding = await _accept(socket)
    if encoding is None or (hellos := await door.hellos(socket, encoding)) is None:
        return
    hub, client = _enter(rooms, home, door, encoding, None if after_seq is None else int(after_seq))
    for hello in hellos:
        client.put(OutboundMessage(Ack(id=hello.id)))
    try:
        await _converse(socket, client, RequestHandler(client, home, rooms, local_clock), door)
    finally:
        for other in {hub, *(room.hub for room in rooms.rooms.values())}:
            other.detach(client)


def _why_not(
    rooms: SessionManager, home: str, after_seq: str | None, known: Iterable[str]
) -> tuple[int, str, str] | None:
    """Return status, code and message for an address that asks for what there is not; None where it can be served.

    Args:
        rooms: All sessions.
        home: The session that is asked for.
        after_seq: As ``serve_client`` has it.
        known: Names of the sessions that may be told; none to whom has brought no token yet.
    """
    if home not in rooms.rooms:
        refusal = unknown_session(home, known)
        return 404, refusal.code, refusal.message
    if after_seq is not None and not re.fullmatch(_NUMBER, after_seq):
        return 400, "bad_field", f"expected the seq of a prediction as after_seq, found {after_seq[:64]!a}"
    return None


def _enter(
    rooms: SessionManager, home: str, door: Handshake, encoding: Encoding, after_seq: int | None
) -> tuple[Hub, Client]:
    """Return a new client and its hub; where the session was removed while it brought its token, a goodbye waits."""
    if (room := rooms.rooms.get(home)) is not None:
        welcome = room.welcome().model_copy(update={"limits": door.limits})
        return room.hub, room.hub.attach(welcome, encoding, after_seq)
    client = Client(1, encoding)
    client.end(OutboundMessage(Bye(reason=ByeReason.SESSION_REMOVED)))
    return Hub(), client


async def _converse(socket: WebSocket, client: Client, conversation: RequestHandler, door: Handshake) -> None:
    """Send and read at once; a client that has to go hears why, and is cut off where it does not read that."""
    with door.watching(socket, lambda: client.mailbox.full) as watched:
        sender = asyncio.create_task(_send_all(socket, client, watched))
        try:
            if not await _read_all(socket, client, conversation, door):
                await asyncio.wait({sender}, timeout=LAST_WORDS_S)
                abort_of(socket)()
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender


async def _refuse(socket: WebSocket, status: int, code: str, message: str) -> None:
    """Answer a handshake over HTTP."""
    await socket.send_denial_response(JSONResponse({"code": code, "message": message}, status_code=status))


async def _accept(socket: WebSocket) -> Encoding | None:
    """Accept a client that speaks our protocol, or asks for none; refuse any other before the handshake."""
    offered: list[str] = socket.scope["subprotocols"]
    chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
    if offered and chosen is None:
        expected = " or ".join(SUBPROTOCOLS)
        await _refuse(socket, 400, "protocol_unknown", f"expected the subprotocol {expected}, found {offered!r}")
        return None
    await socket.accept(subprotocol=chosen)
    return SUBPROTOCOLS[chosen or PROTOCOL]


async def _send_all(socket: WebSocket, client: Client, watched: Watched) -> None:
    send_frame: Callable[[bytes], Awaitable[None]] = socket.scope["extensions"][SEND_FRAME]
    with contextlib.suppress(WebSocketDisconnect, ClientDisconnected):  # the reading ends by it, too
        while (letter := await client.take()) is not None:
            await send_frame(letter.framed(client.encoding))
            watched.sent()
        await socket.close(GOING_AWAY)


async def _read_all(socket: WebSocket, client: Client, conversation: RequestHandler, door: Handshake) -> bool:
    """Answer until the client has gone; False where it has to go, since it sends too fast all the time."""
    judge = door.pace()
    while (event := await socket.receive())["type"] != "websocket.disconnect":
        pace = judge.judge()
        if pace is Pace.FINE:
            said = event.get("text")
            client.put(OutboundMessage(await conversation.answer(event.get("bytes") if said is None else said)))
        else:
            client.put(OutboundMessage(too_fast(pace, door.limits)))
        if pace is Pace.GOES_ON:
            client.end(OutboundMessage(Bye(reason=ByeReason.RATE_LIMITED, retry_after_s=BURST_S)))
            return False
        await asyncio.sleep(0)  # many that came at once must not hold up the others
    return True
