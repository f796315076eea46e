"""One WebSocket connection: a task that sends what waits in the client's mailbox, and the reading beside it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from uvicorn.protocols.utils import ClientDisconnected

from clmer_server.client import Client
from clmer_server.conversation import Conversation
from clmer_server.door import Door, abort_of, too_fast
from clmer_server.letters import Letter
from clmer_server.limits import Pace
from clmer_server.protocol.names import PROTOCOL, SUBPROTOCOLS, Encoding
from clmer_server.protocol.outbound import Ack, Bye
from clmer_server.rooms import Rooms
from clmer_server.transport import SEND_FRAME
from clmer_server.watchdog import Watched
from clmer_streaming.clock import local_clock

GOING_AWAY = 1001
"""WebSocket close code of a service that has nothing more to say."""

_numbers = itertools.count(1)  # of connections, in this process

LAST_WORDS_S = 1.0
"""How long a client that is put out has to hear why."""


async def serve_client(socket: WebSocket, rooms: Rooms, door: Door, home: str | None = None) -> None:
    """Accept the connection to the session ``home``, or the default one; send and read until one of both ends."""
    home = next(iter(rooms.rooms)) if home is None else home
    if home not in rooms.rooms:
        message = f"expected one of the sessions {', '.join(rooms.rooms)}, found {home[:64]!a}"
        await socket.send_denial_response(
            JSONResponse({"code": "unknown_session", "message": message}, status_code=404)
        )
        return
    encoding = await _accept(socket)
    if encoding is None or (hellos := await door.hellos(socket, encoding)) is None:
        return
    if (room := rooms.rooms.get(home)) is None:  # it was removed meanwhile
        await socket.close(GOING_AWAY)
        return
    hub = room.hub
    client = hub.attach(room.welcome().model_copy(update={"limits": door.limits}), encoding)
    for hello in hellos:
        client.put(Letter(Ack(id=hello.id)))
    conversation = Conversation(client, next(_numbers), home, rooms, local_clock)
    with door.watching(socket, lambda: client.mailbox.full) as watched:
        sender = asyncio.create_task(_send_all(socket, client, watched))
        try:
            if not await _read_all(socket, client, conversation, door):
                await asyncio.wait({sender}, timeout=LAST_WORDS_S)
                abort_of(socket)()
        finally:
            for other in {hub, *(room.hub for room in rooms.rooms.values())}:
                other.detach(client)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender


async def _accept(socket: WebSocket) -> Encoding | None:
    """Accept a client that speaks our protocol, or asks for none; refuse any other before the handshake."""
    offered: list[str] = socket.scope["subprotocols"]
    chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
    if offered and chosen is None:
        expected = " or ".join(SUBPROTOCOLS)
        refusal = {"code": "protocol_unknown", "message": f"expected the subprotocol {expected}, found {offered!r}"}
        await socket.send_denial_response(JSONResponse(refusal, status_code=400))
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
            client.end(Letter(Bye(reason="rate_limited")))
            return False
        await asyncio.sleep(0)  # many that came at once must not hold up the others
    return True
