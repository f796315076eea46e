"""SIGTERM ends the service within five seconds, whatever it is doing, and goodbye is the last that a client hears."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from clmer_streaming.recording.reader import is_session_recording
from tests.support.lsl_outlet import headset
from tests.support.paths import RECORDING
from tests.support.protocol_client import ProtocolClient
from tests.support.raw_client import deaf_client
from tests.support.serving import Service, serving
from tests.support.tls_files import make_tls_files

SHUTDOWN_S = 5.0  # the contract, not a measurement
WAIT_S = 60.0
NO_HEADSET = ("--eeg", "no such headset", "--camera", "none")
REPLAY = ("--replay", RECORDING, "--loop", "--device", "cpu")
LIVE = ("--eeg", "source_id=TEST-SHUTDOWN", "--camera", "none", "--device", "cpu")
TOKEN = "a-token-for-this-test"

Scene = tuple[Service, list[ClientConnection]]
"""A service in the middle of something, and the clients that listen to it."""


def words(client: ClientConnection) -> list[dict[str, Any]]:
    """Receive until the service closes."""
    heard = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            heard.append(client.recv(WAIT_S))
    return [json.loads(text) for text in heard]


def ends_well(service: Service, clients: list[ClientConnection]) -> None:
    """End it; hold it to the contract."""
    with ThreadPoolExecutor(len(clients) + 1) as pool:
        hearing = [pool.submit(words, client) for client in clients]
        exit_code, seconds = service.end()
    assert exit_code == 0
    assert seconds < SHUTDOWN_S
    for heard in hearing:
        types = [message["type"] for message in heard.result()]
        assert (types[-1], types.count("bye")) == ("bye", 1)


def run(stack: ExitStack, folder: Path, *options: str | Path) -> Service:
    return stack.enter_context(serving(folder, *options))


def listening(stack: ExitStack, service: Service) -> ProtocolClient:
    """Return a client that has been welcomed."""
    return ProtocolClient(stack.enter_context(service.connect()))


def waiting(stack: ExitStack, folder: Path) -> Scene:
    """It waits for a headset that is not there, for a client's token, for one's first byte, for the rest of another's.

    The handshake of TLS alone may take a minute.
    """
    files = make_tls_files(folder)
    pair = ("--tls-cert", files / "localhost.pem", "--tls-key", files / "localhost.key")
    service = run(stack, folder, *NO_HEADSET, *pair, "--token", TOKEN)
    inside = over_tls(stack, service, files, additional_headers={"Authorization": f"Bearer {TOKEN}"})
    assert json.loads(inside.recv(WAIT_S))["type"] == "welcome"
    at_the_door = over_tls(stack, service, files)
    host, port = service.address.split(":")
    stack.enter_context(socket.create_connection((host, int(port))))
    halfway = stack.enter_context(socket.create_connection((host, int(port))))
    halfway.sendall(b"\x16\x03\x01\x02\x00\x01")  # the head of a ClientHello of 512 bytes, and its first byte
    return service, [inside, at_the_door]


def over_tls(stack: ExitStack, service: Service, files: Path, **options: Any) -> ClientConnection:
    trusting = ssl.create_default_context(cafile=str(files / "authority.pem"))
    client: ClientConnection = connect(f"wss://{service.address}/ws", ssl=trusting, proxy=None, **options)
    return stack.enter_context(client)


def flooded_replay(stack: ExitStack, folder: Path) -> Scene:
    """It replays as fast as it can; of two clients one does not read."""
    service = run(stack, folder, *REPLAY, "--speed", "max")
    stack.enter_context(deaf_client(service.address))
    while not service.get("/healthz").json()["dropped"]:
        pass
    return service, [stack.enter_context(service.connect())]


def paused_replay(stack: ExitStack, folder: Path) -> Scene:
    """A client holds it."""
    service = run(stack, folder, *REPLAY)
    client = listening(stack, service)
    client.next("prediction")
    assert client.ask(type="replay.control", action="pause")["type"] == "ack"
    return service, [client.socket]


def live(stack: ExitStack, folder: Path, *options: str | Path) -> tuple[Service, ProtocolClient]:
    stack.enter_context(headset(source_id="TEST-SHUTDOWN"))
    service = run(stack, folder, *LIVE, *options)
    client = listening(stack, service)
    client.next("prediction", valid=True)
    return service, client


def live_recorded(stack: ExitStack, folder: Path) -> Scene:
    """A headset sends, everything is recorded; what was recorded is whole afterwards."""
    service, client = live(stack, folder, "--record", folder / "recordings")
    stack.callback(check_recording, folder / "recordings")
    return service, [client.socket]


def check_recording(folder: Path) -> None:
    (recording,) = folder.glob("*/session.xdf")
    assert is_session_recording(recording)
    lines = [json.loads(line) for line in (recording.parent / "predictions.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(len(lines)))


def calibrating(stack: ExitStack, folder: Path) -> Scene:
    """The participant's rest is being measured."""
    service, client = live(stack, folder)
    assert client.ask(type="calibration.start", kind="rest", seconds=120)["type"] == "ack"
    client.next("prediction")
    return service, [client.socket]


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(waiting, marks=pytest.mark.slow),
        pytest.param(flooded_replay, marks=pytest.mark.deep),
        pytest.param(paused_replay, marks=pytest.mark.deep),
        pytest.param(live_recorded, marks=[pytest.mark.deep, pytest.mark.lsl]),
        pytest.param(calibrating, marks=[pytest.mark.deep, pytest.mark.lsl]),
    ],
)
def test_a_signal_ends_the_service_in_time(scene: Callable[[ExitStack, Path], Scene], tmp_path: Path) -> None:
    """Without an error, and with goodbye to everybody who listens."""
    with ExitStack() as stack:
        ends_well(*scene(stack, tmp_path))
