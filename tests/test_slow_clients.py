"""Clients that do not read, against the real service: they harm nobody, and they do not stay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from clmer_server.protocol.names import PROTOCOL
from serving import Service, serving

RECORDING = Path(__file__).parents[1] / "examples" / "session.xdf"
SHUTDOWN_S = 5.0  # in every case
N_OTHERS = 10
FLOODED = ("--replay", RECORDING, "--speed", "max", "--loop", "--device", "cpu")

Json = dict[str, Any]


def deaf_client(address: str) -> socket.socket:
    """Return a WebSocket connection that asks for everything, and never reads again behind its handshake."""
    host, port = address.split(":")
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect((host, int(port)))
    deaf.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert deaf.recv(12) == b"HTTP/1.1 101"
    wish = {"type": "subscribe", "id": 1, "topics": ["predictions", "quality", "eeg.preview", "face.preview"]}
    deaf.sendall(Frame(Opcode.TEXT, json.dumps(wish).encode()).serialize(mask=True))
    return deaf


async def read_all(client: ClientConnection) -> list[Json]:
    """Receive until the service closes."""
    received: list[Json] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            received.append(json.loads(await client.recv()))
    return received


@contextlib.asynccontextmanager
async def others(service: Service) -> AsyncIterator[list[asyncio.Task[list[Json]]]]:
    """Ten clients that read everything."""
    async with contextlib.AsyncExitStack() as stack:
        address = f"ws://{service.address}/ws"
        connections = [connect(address, subprotocols=[Subprotocol(PROTOCOL)], proxy=None) for _ in range(N_OTHERS)]
        clients = [await stack.enter_async_context(connection) for connection in connections]
        yield [asyncio.create_task(read_all(client)) for client in clients]


async def until(service: Service, holds: Callable[[Json], bool]) -> None:
    """Wait until the service's health is so."""
    async with asyncio.timeout(120):
        while not holds((await asyncio.to_thread(service.get, "/healthz")).json()):
            await asyncio.sleep(0.1)


def lost_nothing(received: list[Json]) -> bool:
    """Whether a client got every prediction from its first one on, and goodbye as the last word."""
    seqs = [message["seq"] for message in received if message["type"] == "prediction"]
    whole = seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    return whole and received[-1]["type"] == "bye" and "gap" not in {message["type"] for message in received}


def test_a_client_that_never_reads_is_cut_off_and_ten_others_lose_nothing(tmp_path: Path) -> None:
    """The queue is flooded; the service aborts the deaf client; a second one does not hold up the shutdown."""

    async def test(service: Service) -> None:
        async with others(service) as reading:
            with deaf_client(service.address):
                await until(service, lambda health: health["evicted"] == 1)
            assert (await asyncio.to_thread(service.get, "/healthz")).json()["clients"] == N_OTHERS
            with deaf_client(service.address):
                before = (await asyncio.to_thread(service.get, "/healthz")).json()["dropped"]
                await until(service, lambda health: health["dropped"] > before)
                service.process.send_signal(signal.SIGTERM)
                exit_code, shutdown_s = await asyncio.to_thread(service.end)
                received = await asyncio.gather(*reading)
        assert (exit_code, shutdown_s < SHUTDOWN_S) == (0, True)
        assert [lost_nothing(messages) for messages in received] == [True] * N_OTHERS

    with serving(tmp_path, *FLOODED) as service:
        asyncio.run(test(service))
