"""One measurement of each kind: servers and clients are started, left alone for a while, and asked."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from server_parts.broadcast import Usage, Way, serve
from server_parts.clients import listen
from server_parts.deaf import deaf_client
from streams_parts.child import Child, child
from streams_parts.headset import Headset, play

from clmer_streaming.config import EPOC_CH_NAMES

RATE_HZ = 10.0
SETTLE_S = 1.0  # before anything counts
ON_THEIR_WAY_S = 0.5  # what was handed out may still arrive
N_PROCESSES = 2  # of clients
FLOOD_HZ = 200.0
DEAF_S = 8.0  # a deaf client's places are full after a second, and it may stay for 5 s more
N_BESIDE_THE_DEAF = 10
SESSIONS = ("one", "two")
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Broadcast:
    """What so many clients cost, and when they heard."""

    delay_s: npt.NDArray[np.float64]  # handed out -> client, of every prediction and client
    cpu: float  # of one core
    resident_bytes: int
    expected: int  # predictions that all clients together should have heard


@contextmanager
def _clients(address: str, first_words: tuple[str | None, ...]) -> Iterator[list[Child]]:
    """Connect a client for each of some first words, spread over a few processes."""
    n = min(N_PROCESSES, len(first_words))
    with ExitStack() as stack:
        clients = [stack.enter_context(child(listen, address, first_words[k::n])) for k in range(n)]
        for some in clients:
            assert some.receive() == "ready"
        yield clients


def _heard(clients: list[Child]) -> npt.NDArray[np.float64]:
    """Return what all of them heard since they were last asked: the rows of ``Heard.table``, clients in their order."""
    for some in clients:
        some.send("tell")
    tables = [some.receive() for some in clients]
    for k, table in enumerate(tables):
        table[4] = k + len(tables) * table[4]
    return np.concatenate(tables, axis=1)


def _heard_within(clients: list[Child], begin: float, seconds: float) -> npt.NDArray[np.float64]:
    """Return what was handed out in so many seconds from ``begin`` on, by the wall clock."""
    table = _heard(clients)
    handed_out = table[1] - table[0]
    return table[:, (handed_out >= begin) & (handed_out < begin + seconds)]


def measure_broadcast(way: Way, numbers: Sequence[int], prediction: str, seconds: float) -> Iterator[Broadcast]:
    """Publish at 10 Hz to so many clients, one number after the other."""
    with child(serve, way, prediction, RATE_HZ) as server:
        address = f"127.0.0.1:{server.receive()}"
        for n in numbers:
            with _clients(address, (None,) * n) as clients:
                yield _broadcast(server, clients, n, seconds)


def _broadcast(server: Child, clients: list[Child], n: int, seconds: float) -> Broadcast:
    time.sleep(SETTLE_S)
    before = _usage(server)
    begin = time.time()
    time.sleep(seconds)
    after = _usage(server)
    lasted_s = time.time() - begin
    time.sleep(ON_THEIR_WAY_S)
    delay_s = _heard_within(clients, begin, seconds)[0]
    cpu = (after.cpu_s - before.cpu_s) / lasted_s
    return Broadcast(delay_s, cpu, after.resident_bytes, round(seconds * RATE_HZ * n))


def _usage(server: Child) -> Usage:
    server.send("usage")
    usage: Usage = server.receive()
    return usage


@dataclass(frozen=True)
class Flood:
    """What ten clients hear while one beside them does not read."""

    delay_s: npt.NDArray[np.float64]
    silent_s: float  # longest time without a prediction
    expected: int
    n_cut_off: int  # clients that the server got rid of


def measure_flood(way: Way, prediction: str, seconds: float, *, deaf: bool) -> Flood:
    """Publish at 200 Hz to ten clients, with and without a deaf one, which asks for previews, too.

    Args:
        way: How predictions get to the clients.
        prediction: A real one, as JSON.
        seconds: How long; with a deaf client at least so long that it should be gone before the end.
        deaf: Whether there is one.
    """
    seconds = max(seconds, DEAF_S) if deaf else seconds
    with child(serve, way, prediction, FLOOD_HZ) as server, ExitStack() as stack:
        address = f"127.0.0.1:{server.receive()}"
        clients = stack.enter_context(_clients(address, (None,) * N_BESIDE_THE_DEAF))
        if deaf:
            stack.enter_context(deaf_client(address))
        time.sleep(SETTLE_S)
        begin = time.time()
        time.sleep(seconds + ON_THEIR_WAY_S)
        delay_s, at_s, *_ = _heard_within(clients, begin, seconds)
        n_cut_off = _usage(server).n_cut_off
    moments = np.concatenate(([begin], np.sort(at_s), [begin + seconds]))
    return Flood(delay_s, float(np.diff(moments).max()), round(seconds * FLOOD_HZ * N_BESIDE_THE_DEAF), n_cut_off)


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
    expected: int


def measure_ready(folder: Path, n_clients: int, seconds: float) -> Ready:
    """Run the service on the live EEG of two sessions, with clients spread over them."""
    with ExitStack() as stack:
        for name in SESSIONS:
            headset = stack.enter_context(child(play, EpocHeadset(len(EPOC_CH_NAMES), 128.0, 4, name)))
            assert headset.receive() == "ready"
        address = stack.enter_context(_service(folder))
        words = tuple(_subscription(SESSIONS[k % len(SESSIONS)]) for k in range(n_clients))
        clients = stack.enter_context(_clients(address, words))
        _wait_for_live_predictions(clients)
        begin = time.time()
        time.sleep(seconds + ON_THEIR_WAY_S)
        delay_s, _, waited_s, seq, client = _heard_within(clients, begin, seconds)
    return Ready(delay_s + waited_s, _expected(seq, client, n_clients))


def _expected(seq: npt.NDArray[np.float64], client: npt.NDArray[np.float64], n_clients: int) -> int:
    """Return how many predictions all clients should have heard: each client those that anybody heard of its session.

    The clock cannot tell it: in so many seconds a grid has one window more or less, and what was late comes at once.
    """
    session, expected = client % len(SESSIONS), 0
    for k in range(len(SESSIONS)):
        heard = seq[session == k]
        expected += round(np.ptp(heard) + 1) * len(range(k, n_clients, len(SESSIONS))) if heard.size else 0
    return expected


def _subscription(session: str) -> str:
    return f'{{"type":"subscribe","id":1,"topics":["predictions"],"session":"{session}"}}'


def _wait_for_live_predictions(clients: list[Child]) -> None:
    """Wait until every window has its prediction; its latencies tell, which a window without one does not have."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(2.0)
        waited_s = _heard(clients)[2]
        if waited_s.size and np.isfinite(waited_s).all():
            return
    raise RuntimeError(f"no live predictions within {READY_TIMEOUT_S:g} s")


@contextmanager
def _service(folder: Path) -> Iterator[str]:
    """Run ``clmer-serve`` over the headsets of the sessions; yield its address."""
    tables = [f'[[sessions]]\nname = "{name}"\neeg = "{name}"\noutlets = false\n' for name in SESSIONS]
    (folder / "clmer.toml").write_text("port = 0\ndevice = 'cpu'\n" + "\n".join(tables))
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
        process.communicate()


def real_prediction(folder: Path, recording: Path) -> str:
    """Return the last valid prediction for a recording, as the service would send it."""
    out = folder / "predictions.jsonl"
    code = "import sys; from clmer_server.cli import main; sys.exit(main())"
    command: list[Any] = [sys.executable, "-c", code, "predict", recording, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return [line for line in out.read_text().splitlines() if '"valid":true' in line][-1]
