"""One WebSocket connection: a task that sends what waits in the client's mailbox, and the reading beside it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from uvicorn.protocols.utils import ClientDisconnected

from clmer_server.client import Client
from clmer_server.conversation import Conversation
from clmer_server.door import GOING_AWAY, Door, abort_of, too_fast
from clmer_server.guard import AUTHENTICATED
from clmer_server.hub import Hub
from clmer_server.letters import Letter
from clmer_server.limits import BURST_S, Pace
from clmer_server.protocol.names import PROTOCOL, SUBPROTOCOLS, Encoding
from clmer_server.protocol.notices import ByeReason
from clmer_server.protocol.outbound import Ack, Bye
from clmer_server.rooms import Rooms, unknown_session
from clmer_server.transport import SEND_FRAME
from clmer_server.watchdog import Watched
from clmer_streaming.clock import local_clock

_NUMBER = "[0-9]{1,16}"

LAST_WORDS_S = 1.0
"""How long a client that is put out has to hear why."""


async def serve_client(
    socket: WebSocket, rooms: Rooms, door: Door, home: str | None = None, after_seq: str | None = None
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
        client.put(Letter(Ack(id=hello.id)))
    try:
        await _converse(socket, client, Conversation(client, home, rooms, local_clock), door)
    finally:
        for other in {hub, *(room.hub for room in rooms.rooms.values())}:
            other.detach(client)


def _why_not(rooms: Rooms, home: str, after_seq: str | None, known: Iterable[str]) -> tuple[int, str, str] | None:
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


def _enter(rooms: Rooms, home: str, door: Door, encoding: Encoding, after_seq: int | None) -> tuple[Hub, Client]:
    """Return a new client and its hub; where the session was removed while it brought its token, a goodbye waits."""
    if (room := rooms.rooms.get(home)) is not None:
        welcome = room.welcome().model_copy(update={"limits": door.limits})
        return room.hub, room.hub.attach(welcome, encoding, after_seq)
    client = Client(1, encoding)
    client.end(Letter(Bye(reason=ByeReason.SESSION_REMOVED)))
    return Hub(), client


async def _converse(socket: WebSocket, client: Client, conversation: Conversation, door: Door) -> None:
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


async def _read_all(socket: WebSocket, client: Client, conversation: Conversation, door: Door) -> bool:
    """Answer until the client has gone; False where it has to go, since it sends too fast all the time."""
    judge = door.pace()
    while (event := await socket.receive())["type"] != "websocket.disconnect":
        pace = judge.judge()
        if pace is Pace.FINE:
            said = event.get("text")
            client.put(Letter(await conversation.answer(event.get("bytes") if said is None else said)))
        else:
            client.put(Letter(too_fast(pace, door.limits)))
        if pace is Pace.GOES_ON:
            client.end(Letter(Bye(reason=ByeReason.RATE_LIMITED, retry_after_s=BURST_S)))
            return False
        await asyncio.sleep(0)  # many that came at once must not hold up the others
    return True
