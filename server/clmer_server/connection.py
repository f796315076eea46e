"""One WebSocket connection: a task that sends what waits in the client's mailbox, and the reading beside it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from clmer_server.client import Client
from clmer_server.conversation import Conversation
from clmer_server.letters import Letter
from clmer_server.protocol.names import PROTOCOL, SUBPROTOCOLS, Encoding
from clmer_server.rooms import Rooms
from clmer_streaming.clock import local_clock

GOING_AWAY = 1001
"""WebSocket close code of a service that has nothing more to say."""

_numbers = itertools.count(1)  # of connections, in this process


async def serve_client(socket: WebSocket, rooms: Rooms) -> None:
    """Accept the connection, then send and read until one of both ends."""
    encoding = await _accept(socket)
    if encoding is None:
        return
    home, room = next(iter(rooms.rooms.items()))
    client = room.hub.attach(room.welcome(), encoding)
    conversation = Conversation(client, next(_numbers), home, rooms, local_clock)
    sender = asyncio.create_task(_send_all(socket, client))
    try:
        await _read_all(socket, client, conversation)
    finally:
        for other in rooms.rooms.values():
            other.hub.detach(client)
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


async def _send_all(socket: WebSocket, client: Client) -> None:
    with contextlib.suppress(WebSocketDisconnect):  # the reading ends by it, too
        while (content := await client.take()) is not None:
            if isinstance(content, str):
                await socket.send_text(content)
            else:
                await socket.send_bytes(content)
        await socket.close(GOING_AWAY)


async def _read_all(socket: WebSocket, client: Client, conversation: Conversation) -> None:
    while (event := await socket.receive())["type"] != "websocket.disconnect":
        said = event.get("text")
        client.put(Letter(await conversation.answer(event.get("bytes") if said is None else said)))
