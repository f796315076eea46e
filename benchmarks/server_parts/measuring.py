"""One measurement of each kind: servers and clients are started, left alone for a while, and asked."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from streams_parts.child import Child, child
from streams_parts.headset import Headset, play

from clmer_server.settings import ServeSettings
from clmer_streaming.config import EPOC_CH_NAMES
from server_parts.broadcast import Way, serve
from server_parts.clients import listen
from server_parts.deaf import deaf_client

RATE_HZ = 10.0
SETTLE_S = 2.0  # before anything counts
FLOOD_HZ = 200.0
N_BESIDE_THE_DEAF = 10


@dataclass(frozen=True)
class Broadcast:
    """What so many clients cost, and when they heard."""

    delay_s: npt.NDArray[np.float64]  # handed out -> client, of every prediction and client
    cpu: float  # of one core
    resident_bytes: int
    expected: int  # predictions that all clients together should have heard


@contextmanager
def _clients(address: str, first_words: tuple[str | None, ...]) -> Iterator[Child]:
    with child(listen, address, first_words) as clients:
        assert clients.receive() == "ready"
        yield clients


def _heard(clients: Child) -> npt.NDArray[np.float64]:
    clients.send("tell")
    table: npt.NDArray[np.float64] = clients.receive()
    return table


def measure_broadcast(way: Way, n: int, prediction: str, seconds: float) -> Broadcast:
    """Publish at 10 Hz to ``n`` clients."""
    with child(serve, way, prediction, RATE_HZ) as server:
        address = f"127.0.0.1:{server.receive()}"
        with _clients(address, (None,) * n) as clients:
            time.sleep(SETTLE_S)
            cpu_s, _ = _usage(server)
            _heard(clients)
            begin = time.monotonic()
            time.sleep(seconds)
            delay_s = _heard(clients)[0]
            lasted_s = time.monotonic() - begin
            cpu_end_s, resident = _usage(server)
    return Broadcast(delay_s, (cpu_end_s - cpu_s) / lasted_s, resident, round(lasted_s * RATE_HZ * n))


def _usage(server: Child) -> tuple[float, int]:
    server.send("usage")
    usage: tuple[float, int] = server.receive()
    return usage


@dataclass(frozen=True)
class Flood:
    """What ten clients hear while one beside them does not read."""

    delay_s: npt.NDArray[np.float64]
    silent_s: float  # longest time without a prediction
    expected: int


def measure_flood(way: Way, prediction: str, seconds: float, *, deaf: bool) -> Flood:
    """Publish at 200 Hz to ten clients, with and without a deaf one."""
    with child(serve, way, prediction, FLOOD_HZ) as server, ExitStack() as stack:
        address = f"127.0.0.1:{server.receive()}"
        clients = stack.enter_context(_clients(address, (None,) * N_BESIDE_THE_DEAF))
        if deaf:
            stack.enter_context(deaf_client(address))
        time.sleep(SETTLE_S)
        _heard(clients)
        begin = time.time()
        time.sleep(seconds)
        delay_s, at_s, _ = _heard(clients)
    moments = np.concatenate(([begin], np.sort(at_s), [begin + seconds]))
    return Flood(delay_s, float(np.diff(moments).max()), round(seconds * FLOOD_HZ * N_BESIDE_THE_DEAF))


class EpocHeadset(Headset):
    """A headset with the labels that the shipped model wants."""

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Labels of an EPOC."""
        return EPOC_CH_NAMES


@dataclass(frozen=True)
class Ready:
    """From a complete window to the client."""

    delay_s: npt.NDArray[np.float64]  # window complete -> client
    n_sessions: int
    expected: int


def measure_ready(folder: Path, n_clients: int, seconds: float) -> Ready:
    """Run the service on live EEG, with two sessions where it knows several, and clients spread over them."""
    several = "sessions" in ServeSettings.model_fields
    names = ("one", "two") if several else ("one",)
    with ExitStack() as stack:
        for name in names:
            headset = stack.enter_context(child(play, EpocHeadset(len(EPOC_CH_NAMES), 128.0, 4, name)))
            assert headset.receive() == "ready"
        address = stack.enter_context(_service(folder, names, several))
        words = tuple(_subscription(names[k % len(names)]) if several else None for k in range(n_clients))
        clients = stack.enter_context(_clients(address, words))
        _wait_for_predictions(clients)
        _heard(clients)
        time.sleep(seconds)
        delay_s, _, waited_s = _heard(clients)
    return Ready(delay_s + waited_s, len(names), round(seconds * 2 * n_clients))


def _subscription(session: str) -> str:
    return f'{{"type":"subscribe","id":1,"topics":["predictions"],"session":"{session}"}}'


def _wait_for_predictions(clients: Child) -> None:
    """Wait until filters have settled and predictions come."""
    deadline = time.monotonic() + 60
    while np.isfinite(_heard(clients)[2]).sum() == 0 and time.monotonic() < deadline:
        time.sleep(1.0)
    time.sleep(8.0)


@contextmanager
def _service(folder: Path, names: tuple[str, ...], several: bool) -> Iterator[str]:
    """Run ``clmer-serve`` over the headsets of these names; yield its address."""
    tables = [f'[[sessions]]\nname = "{name}"\neeg = "{name}"\ncamera = "none"\noutlets = false\n' for name in names]
    alone = f'eeg = "{names[0]}"\ncamera = "none"\noutlets = false\n'
    (folder / "clmer.toml").write_text("port = 0\ndevice = 'cpu'\n" + ("\n".join(tables) if several else alone))
    command = [sys.executable, "-m", "clmer_server"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = next((found for line in process.stdout if (found := re.match(r"websocket +ws://(.+)/ws$", line))), None)
        if found is None:
            raise RuntimeError("the service did not start; what it said of this is above")
        yield found.group(1)
    finally:
        process.kill()
        process.wait()


def real_prediction(folder: Path, recording: Path) -> str:
    """Return the last valid prediction for a recording, as the service would send it."""
    out = folder / "predictions.jsonl"
    code = "import sys; from clmer_server.cli import main; sys.exit(main())"
    command: list[Any] = [sys.executable, "-c", code, "predict", recording, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return [line for line in out.read_text().splitlines() if '"valid":true' in line][-1]
