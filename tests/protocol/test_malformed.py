"""Fifty thousand messages that mean nothing, and connections that are no WebSocket: the service answers and stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from clmer_server.protocol.codes import PROTOCOL
from tests.support.paths import RECORDING
from tests.support.serving import Service, serving

N_MESSAGES = 50_000
N_AT_ONCE = 100  # fewer than the send queue holds, so that every answer arrives
N_CONNECTIONS = 500
TYPES = ("hello", "subscribe", "unsubscribe", "marker", "clock.sync", "session.stop")

Make = Callable[[random.Random], str | bytes]


def _text(random_: random.Random) -> str:
    return "".join(
        chr(random_.choice((random_.randrange(32, 127), random_.randrange(0x80, 0xD7FF)))) for _ in range(40)
    )


def _cut(random_: random.Random) -> str:
    whole = json.dumps({"type": random_.choice(TYPES), "id": 1, "topics": ["predictions"]})
    return whole[: random_.randrange(len(whole))]


def trick(random_: random.Random) -> str:
    """A name that is a path, or that hides."""
    return random_.choice(
        ("../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "C:x", "x\0", "", "~", "x" * 65, "a b", "%2e%2e")
    )


def _value(random_: random.Random) -> Any:
    return random_.choice([None, True, -1, 1e308, 10**400, "", "x" * 1000, [], {}, [[]], {"a": {"b": None}}])


BAD: tuple[tuple[Make, str], ...] = (
    (_text, "bad_message"),
    (_cut, "bad_message"),
    (lambda random_: random_.randbytes(random_.randrange(200)), "bad_message"),
    (lambda random_: json.dumps(random_.choice([1, None, "type", ["type"], [{"type": "hello"}], 1.5])), "bad_message"),
    (lambda random_: random_.choice("[{") * random_.randrange(1, 30_000), "bad_message"),
    (lambda random_: json.dumps({"type": _value(random_), "id": _value(random_)}), "bad_message or unknown_type"),
    (lambda random_: json.dumps({"id": _value(random_)}), "bad_message"),
    (lambda random_: '{"type": NaN, "t": Infinity}', "bad_message"),
    (lambda random_: json.dumps({"type": _text(random_), "x": _value(random_)}), "unknown_type"),
    (lambda random_: json.dumps({"type": "../../etc/passwd", "session": "../x"}), "unknown_type"),
    (lambda random_: json.dumps({"type": "marker", "id": 1, "label": _value(random_), "t": "now"}), "bad_field"),
    (lambda random_: json.dumps({"type": "session.start", "id": 1, "participant": trick(random_)}), "bad_field"),
    (
        lambda random_: json.dumps({"type": "session.stop", "id": 1, "session": trick(random_)}),
        "bad_field or unknown_session",
    ),
)
"""Ways to say nothing, and the code of the answer."""


async def send_nonsense(address: str) -> None:
    """Send them all, and hold every answer against its code."""
    random_ = random.Random(0)
    async with connect(address, subprotocols=[Subprotocol(PROTOCOL)], proxy=None, max_queue=None) as client:
        for _ in range(N_MESSAGES // N_AT_ONCE):
            said = [(make(random_), code) for make, code in random_.choices(BAD, k=N_AT_ONCE)]
            for message, _ in said:
                await client.send(message)
            for message, code in said:
                answer = await next_error(client)
                assert answer["code"] in code.split(" or "), (message[:200], answer)
                assert answer["fatal"] is False


async def next_error(client: Any) -> dict[str, Any]:
    """Return the next answer to what was sent."""
    while True:
        message: dict[str, Any] = json.loads(await client.recv())
        assert message["type"] != "gap"
        if message["type"] == "error":
            return message


async def listen(address: str, seqs: list[int]) -> None:
    """Note the number of every prediction."""
    async with connect(address, subprotocols=[Subprotocol(PROTOCOL)], proxy=None) as client:
        async for text in client:
            message = json.loads(text)
            assert message["type"] != "gap"
            if message["type"] == "prediction":
                seqs.append(message["seq"])


def send_garbage(service: Service, random_: random.Random) -> None:
    """Open a connection, and send anything but frames of the protocol behind the handshake, or in its place."""
    host, port = service.address.split(":")
    handshake = (
        f"GET /ws HTTP/1.1\r\nHost: {service.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    if random_.random() < 0.3:
        handshake = random_.choice(
            (random_.randbytes(300), handshake[: random_.randrange(len(handshake))] + b"\r\n\r\n")
        )
    with contextlib.suppress(ConnectionError), socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(handshake)
        raw.sendall(random_.randbytes(random_.randrange(1, 3000)))
        with contextlib.suppress(OSError):  # the service has closed it already
            raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass


@pytest.mark.deep
def test_fifty_thousand_malformed_messages_change_nothing(tmp_path: Path) -> None:
    """Every one is answered with its code; another client loses nothing; the service goes on, and ends in time."""

    async def test(service: Service) -> list[int]:
        address, seqs = f"ws://{service.address}/ws", list[int]()
        listening = asyncio.create_task(listen(address, seqs))
        await send_nonsense(address)
        random_ = random.Random(1)
        for _ in range(N_CONNECTIONS):
            await asyncio.to_thread(send_garbage, service, random_)
        assert not listening.done()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
            await listening
        return seqs

    options = ("--replay", RECORDING, "--loop", "--speed", "8", "--max-message-rate", "inf")
    with serving(tmp_path, *options) as service:
        seqs = asyncio.run(test(service))
        assert len(seqs) > 10
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert service.get("/healthz").json()["status"] == "ok"
        exit_code, _ = service.end()
    assert exit_code == 0
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()
