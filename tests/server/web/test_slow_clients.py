"""Clients that do not read, against the real service: they harm nobody, and they do not stay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.typing import Subprotocol

from clmer_server.protocol.codes import PROTOCOL
from clmer_server.web.limits import STALL_S
from clmer_server.web.uvicorn import SEND_BUFFER_BYTES, UNREAD_TIMEOUT_MS, open_listener
from tests.support.fast_service import STALL_S as SHORT_STALL_S
from tests.support.paths import RECORDING, ROOT
from tests.support.raw_client import deaf_client, raw_client
from tests.support.served_app import serving_here
from tests.support.serving import Service, running, serving
from tests.support.session_parts import event

SHUTDOWN_S = 5.0  # in every case
N_OTHERS = 10
FLOODED = ("--replay", RECORDING, "--speed", "max", "--loop", "--device", "cpu")

FAST = ("-m", "tests.support.fast_service")
FLOOD_HZ = 50.0  # of FAST: a send queue holds five seconds of it, as long as this process may pause
PING_S = 0.5

Json = dict[str, Any]


async def read_all(client: ClientConnection) -> list[Json]:
    """Receive until the service closes; nothing is looked at before."""
    received = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            received.append(await client.recv())
    return [json.loads(text) for text in received]


def soon(test: Coroutine[Any, Any, None]) -> None:
    """Run a test that takes two seconds; the system itself would end the connection after twenty."""
    asyncio.run(asyncio.wait_for(test, timeout=15))


@contextlib.asynccontextmanager
async def others(service: Service) -> AsyncIterator[list[asyncio.Task[list[Json]]]]:
    """Ten clients that read everything."""
    async with contextlib.AsyncExitStack() as stack:
        address = f"ws://{service.address}/ws"
        connections = [connect(address, subprotocols=[Subprotocol(PROTOCOL)], proxy=None) for _ in range(N_OTHERS)]
        clients = [await stack.enter_async_context(connection) for connection in connections]
        yield [asyncio.create_task(read_all(client)) for client in clients]


async def health(service: Service) -> Json:
    told: Json = (await asyncio.to_thread(service.get, "/healthz")).json()
    return told


async def until(service: Service, holds: Callable[[Json], bool]) -> None:
    """Wait until the service's health is so."""
    async with asyncio.timeout(120):
        while not holds(await health(service)):
            await asyncio.sleep(0.1)


def seqs(received: list[Json]) -> list[int]:
    return [message["seq"] for message in received if message["type"] == "prediction"]


def lost_nothing(received: list[Json]) -> bool:
    """Whether a client got every prediction from its first one on, and goodbye as the last word."""
    first, *_ = heard = seqs(received)
    whole = heard == list(range(first, first + len(heard)))
    return whole and received[-1]["type"] == "bye" and "gap" not in {message["type"] for message in received}


async def flood(service: Service, stall_s: float = STALL_S) -> list[list[Json]]:
    """Let a deaf client be cut off and another one stand in the way of the end; return what ten others heard."""
    async with others(service) as reading:
        begin = time.monotonic()
        with deaf_client(service.address):
            await until(service, lambda told: told["evicted"] == 1)
        assert time.monotonic() - begin > stall_s
        told = await health(service)
        assert told["clients"] == N_OTHERS
        assert told["dropped"] > 0
        with deaf_client(service.address):
            await until(service, lambda now: now["dropped"] > told["dropped"])
            exit_code, shutdown_s = await asyncio.to_thread(service.end)
            received = await asyncio.gather(*reading)
    assert (exit_code, shutdown_s < SHUTDOWN_S) == (0, True)
    return received


@pytest.mark.slow
def test_a_client_that_never_reads_is_cut_off_and_ten_others_lose_nothing(tmp_path: Path) -> None:
    """A live session waits for nobody: 50 predictions a second, and as many previews for the deaf client alone."""
    with running(tmp_path, *FAST, python_path=str(ROOT)) as service:
        received = asyncio.run(flood(service, SHORT_STALL_S))
    assert [lost_nothing(messages) for messages in received] == [True] * N_OTHERS
    assert min(len(seqs(messages)) for messages in received) > FLOOD_HZ / 2 * SHORT_STALL_S  # it was a flood


@pytest.mark.deep
def test_a_replay_at_the_greatest_speed_is_not_held_up_by_a_client_that_never_reads(tmp_path: Path) -> None:
    """It waits for those who read, and lets go of the deaf one."""
    with serving(tmp_path, *FLOODED) as service:
        received = asyncio.run(flood(service))
    assert [lost_nothing(messages) for messages in received] == [True] * N_OTHERS


def test_a_client_that_reads_but_answers_no_ping_is_closed() -> None:
    """It hears why, with the code of a server that cannot go on."""

    async def test() -> None:
        async with serving_here(ping_s=PING_S) as site:
            with await asyncio.to_thread(raw_client, site.address) as silent:
                heard = await asyncio.to_thread(lambda: b"".join(iter(lambda: silent.recv(65536), b"")))
            assert Frame(Opcode.CLOSE, Close(1011, "keepalive ping timeout").serialize()).serialize(mask=False) in heard
            while site.hub.n_clients:
                await asyncio.sleep(0.01)

    soon(test())


def test_a_client_that_never_reads_and_wants_only_the_latest_is_aborted_for_its_missing_pong() -> None:
    """Its send queue never fills, so the watchdog has nothing to see; an ordinary close would wait for it for ever."""

    async def test() -> None:
        async with serving_here(ping_s=PING_S) as site:
            with await asyncio.to_thread(deaf_client, site.address, ["predictions"], "latest"):
                assert site.hub.n_clients == 1
                while site.hub.n_clients:
                    site.hub.publish(event())
                    await asyncio.sleep(0.002)
            assert site.hub.n_dropped > 0  # it was deaf: newer ones took the place of those that waited
            assert site.watchdog.n_evicted == 0

    soon(test())


def test_the_system_keeps_little_for_one_connection() -> None:
    """Else minutes of old predictions wait there; Linux grants twice what was asked for, for its own needs."""
    with open_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            size = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert SEND_BUFFER_BYTES <= size <= 2 * SEND_BUFFER_BYTES
            if sys.platform == "linux":
                patience_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert patience_ms == UNREAD_TIMEOUT_MS
