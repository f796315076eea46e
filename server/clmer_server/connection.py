"""One WebSocket connection: a task that sends what waits in the client's mailbox, and the reading beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from clmer_server.hub import Client, Hub
from clmer_server.mailbox import Letter
from clmer_server.protocol.outbound import PROTOCOL, ErrorMessage, Welcome, encode

GOING_AWAY = 1001
"""WebSocket close code of a service that has nothing more to say."""


async def serve_client(socket: WebSocket, hub: Hub, welcome: Welcome) -> None:
    """Accept the connection, then send and read until one of both ends."""
    if not await _accept(socket):
        return
    client = hub.attach(welcome)
    sender = asyncio.create_task(_send_all(socket, client))
    try:
        await _read_all(socket, client)
    finally:
        hub.detach(client)
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sender


def answer(text: str | None) -> ErrorMessage:
    """Return the answer to what a client sent; None stands for a binary message. No type is known yet."""
    try:
        kind = json.loads(text or "")["type"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ErrorMessage(code="bad_message", message="expected a JSON object with a type, as text")
    return ErrorMessage(code="unknown_type", message=f"no message of the type {str(kind)[:64]!r} is known here")


async def _accept(socket: WebSocket) -> bool:
    """Accept a client that speaks our protocol, or asks for none; refuse any other before the handshake."""
    offered: list[str] = socket.scope["subprotocols"]
    if offered and PROTOCOL not in offered:
        refusal = {"code": "protocol_unknown", "message": f"expected the subprotocol {PROTOCOL}, found {offered!r}"}
        await socket.send_denial_response(JSONResponse(refusal, status_code=400))
        return False
    await socket.accept(subprotocol=PROTOCOL if offered else None)
    return True


async def _send_all(socket: WebSocket, client: Client) -> None:
    with contextlib.suppress(WebSocketDisconnect):  # the reading ends by it, too
        while (text := await client.take()) is not None:
            await socket.send_text(text)
        await socket.close(GOING_AWAY)


async def _read_all(socket: WebSocket, client: Client) -> None:
    while (event := await socket.receive())["type"] != "websocket.disconnect":
        client.put(Letter(encode(answer(event.get("text")))))
