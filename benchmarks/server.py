"""How soon clients receive a prediction: many of them, one that does not read among them, and two sessions.

Run with ``python -m benchmarks.server [SECONDS]``; SECONDS (4) is how long each row is measured, and the whole takes
less than three minutes on two cores. Beside a client that never reads a row takes 8 s, so that it can be cut off.
Clients run in two processes of their own, and only keep what comes with its time. Nothing is asserted.

All ways of serving run under the same uvicorn with the same settings, in a process of their own, and publish the same
real prediction, stamped anew each time, and previews for the clients that subscribe to them: the service's own hub and
connections; a queue and ``send_text`` for each client, with the text encoded once for all; and, as in a WebSocket
tutorial, a loop that awaits ``send_json`` for one client after the other.

In this order: the program and its tables, the measurements, and the servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.middleware import Middleware

from benchmarks.support.clients import connect_without_reading, listen
from benchmarks.support.report import Report, Table, make_parser, percentiles_ms
from benchmarks.support.streams import Child, Headset, child, own_network, play, versions
from clmer_server.protocol.outbound import Preview
from clmer_server.protocol.parts import EmotionEvent, Limits, ModelInfo
from clmer_server.web.auth import Access, TokenCheck
from clmer_server.web.middleware import SecurityMiddleware
from clmer_server.web.uvicorn import open_listener, uvicorn_config
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.types import Item

if TYPE_CHECKING:
    from clmer_server.session.manager import SessionManager

SECONDS, TINY_SECONDS = 4.0, 0.5
SUBSCRIBERS, TINY_SUBSCRIBERS = (1, 100, 500, 1000), (1, 5)
READY_CLIENTS, TINY_READY_CLIENTS = 20, 2
RECORDING = Path(__file__).parents[1] / "examples" / "session.xdf"

Way = Literal["clmer", "queues of text", "loop of send_json"]
"""A way of getting predictions to the clients."""

WAYS: tuple[Way, ...] = ("clmer", "queues of text", "loop of send_json")
DELAYS = {"p50_ms": ".2f", "p99_ms": ".2f", "max_ms": ".2f"}


def main() -> int:
    """Measure and print; return the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=SECONDS, help="s for each row")
    args = parser.parse_args()
    numbers: Sequence[int] = SUBSCRIBERS
    seconds, n_ready = args.seconds, READY_CLIENTS
    if args.tiny:
        seconds, numbers, n_ready = TINY_SECONDS, TINY_SUBSCRIBERS, TINY_READY_CLIENTS
    with tempfile.TemporaryDirectory() as folder:
        prediction = real_prediction(Path(folder), RECORDING)
    with Report("server", args.json) as report, own_network() as folder:
        packages = versions("uvicorn", "websockets", "starlette", "uvloop")
        report.print(f"{packages}; load of the machine {os.getloadavg()[0]:.1f}")
        report.print(f"the prediction that is sent: {len(prediction)} bytes of JSON; published at {RATE_HZ:g} Hz")
        report.show(broadcast_table(numbers, prediction, seconds))
        report.show(flood_table(prediction, seconds, seconds if args.tiny else SILENT_S))
        report.show(ready_table(folder, n_ready, seconds))
    return 0


def broadcast_table(numbers: Sequence[int], prediction: str, seconds: float) -> Table:
    """Return what subscribers cost."""
    title = f"One prediction to many, {RATE_HZ:g} times a second: from publishing it to its arrival"
    columns = {"cpu_percent": ".1f", "memory_mb": ".0f", "received_percent": ".1f"}
    table = Table("broadcast", title, subscribers="d", by="", **DELAYS, **columns)
    rows = [tuple(measure_broadcast(way, numbers, prediction, seconds)) for way in WAYS]
    for n, of_each_way in zip(numbers, zip(*rows, strict=True), strict=True):
        for way, row in zip(WAYS, of_each_way, strict=True):
            table.add(
                subscribers=n,
                by=way,
                **delays(row.delay_s),
                cpu_percent=100 * row.cpu,
                memory_mb=row.resident_bytes / 1e6,
                received_percent=100 * row.delay_s.size / row.expected,
            )
    return table


def flood_table(prediction: str, seconds: float, silent_s: float) -> Table:
    """Return what one client that does not read does to the others."""
    title = f"{N_BESIDE_SILENT} clients at {FLOOD_HZ:g} predictions a second, and one beside them that never reads"
    columns = {"longest_gap_s": ".2f", "received_percent": ".1f"}
    table = Table("flood", title, by="", one_that_never_reads="", **DELAYS, **columns)
    for way in WAYS:
        for with_silent in (False, True):
            lasting = max(seconds, silent_s) if with_silent else seconds
            row = measure_flood(way, prediction, lasting, with_silent=with_silent)
            beside = ("was cut off" if row.n_cut_off else "stayed") if with_silent else "no"
            received = 100 * row.delay_s.size / row.expected
            table.add(
                by=way,
                one_that_never_reads=beside,
                **delays(row.delay_s),
                longest_gap_s=row.gap_s,
                received_percent=received,
            )
    return table


def ready_table(folder: Path, n_clients: int, seconds: float) -> Table:
    """Return how long a complete window takes to its clients, the model's prediction in between."""
    row = measure_ready(folder, n_clients, seconds)
    title = f"Live EEG, {len(SESSIONS)} sessions, {n_clients} clients: from a complete window to the client"
    table = Table("ready", title, **DELAYS, received_percent=".1f")
    table.add(**delays(row.delay_s), received_percent=100 * row.delay_s.size / row.expected if row.expected else None)
    return table


def delays(seconds: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Return median, 99th percentile and maximum in milliseconds."""
    return dict(zip(DELAYS, percentiles_ms(seconds, 50, 99, 100), strict=True))


RATE_HZ = 10.0
SETTLE_S = 1.0  # before anything counts
IN_FLIGHT_S = 0.5  # what was published may still arrive
N_PROCESSES = 2  # of clients
FLOOD_HZ = 200.0
SILENT_S = 8.0  # the queue of a client that never reads is full after a second, and it may stay for 5 s more
N_BESIDE_SILENT = 10
SESSIONS = ("one", "two")
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Broadcast:
    """Cost of the server, and the delays of all clients."""

    delay_s: npt.NDArray[np.float64]  # publishing -> client, of every prediction and client
    cpu: float  # of one core
    resident_bytes: int
    expected: int  # predictions that all clients together should have received


@contextmanager
def _clients(address: str, first_message: tuple[str | None, ...]) -> Iterator[list[Child]]:
    """Connect a client for each first message, spread over a few processes."""
    n = min(N_PROCESSES, len(first_message))
    with ExitStack() as stack:
        clients = [stack.enter_context(child(listen, address, first_message[k::n])) for k in range(n)]
        for some in clients:
            assert some.receive() == "ready"
        yield clients


def _received(clients: list[Child]) -> npt.NDArray[np.float64]:
    """Return what the clients received since they were last asked, with the rows of ``Received.table``."""
    for some in clients:
        some.send("tell")
    tables = [some.receive() for some in clients]
    for k, table in enumerate(tables):
        table[4] = k + len(tables) * table[4]
    return np.concatenate(tables, axis=1)


def _received_within(clients: list[Child], begin: float, seconds: float) -> npt.NDArray[np.float64]:
    """Return what was published in so many seconds from ``begin`` on, by the wall clock."""
    table = _received(clients)
    published = table[1] - table[0]
    return table[:, (published >= begin) & (published < begin + seconds)]


def measure_broadcast(way: Way, numbers: Sequence[int], prediction: str, seconds: float) -> Iterator[Broadcast]:
    """Publish at 10 Hz to each number of clients, one number after the other."""
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
    time.sleep(IN_FLIGHT_S)
    delay_s = _received_within(clients, begin, seconds)[0]
    cpu = (after.cpu_s - before.cpu_s) / lasted_s
    return Broadcast(delay_s, cpu, after.resident_bytes, round(seconds * RATE_HZ * n))


def _usage(server: Child) -> Usage:
    server.send("usage")
    usage: Usage = server.receive()
    return usage


@dataclass(frozen=True)
class Flood:
    """Measurements of ten clients beside one that does not read."""

    delay_s: npt.NDArray[np.float64]
    gap_s: float  # longest time without a prediction at any client
    expected: int
    n_cut_off: int  # clients that the server cut off


def measure_flood(way: Way, prediction: str, seconds: float, *, with_silent: bool) -> Flood:
    """Publish at 200 Hz to ten clients, with or without one that never reads, which subscribes to previews, too."""
    with child(serve, way, prediction, FLOOD_HZ) as server, ExitStack() as stack:
        address = f"127.0.0.1:{server.receive()}"
        clients = stack.enter_context(_clients(address, (None,) * N_BESIDE_SILENT))
        if with_silent:
            stack.enter_context(connect_without_reading(address))
        time.sleep(SETTLE_S)
        begin = time.time()
        time.sleep(seconds + IN_FLIGHT_S)
        delay_s, at_s, *_ = _received_within(clients, begin, seconds)
        n_cut_off = _usage(server).n_cut_off
    moments = np.concatenate(([begin], np.sort(at_s), [begin + seconds]))
    return Flood(delay_s, float(np.diff(moments).max()), round(seconds * FLOOD_HZ * N_BESIDE_SILENT), n_cut_off)


class EpocHeadset(Headset):
    """A headset with the channels of the shipped model."""

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
        time.sleep(seconds + IN_FLIGHT_S)
        delay_s, _, waited_s, seq, client = _received_within(clients, begin, seconds)
    return Ready(delay_s + waited_s, _expected(seq, client, n_clients))


def _expected(seq: npt.NDArray[np.float64], client: npt.NDArray[np.float64], n_clients: int) -> int:
    """Return how many predictions all clients should have received.

    It is, for each client, the number that any client of its session received. The clock does not give it: in so many
    seconds a grid has one window more or less, and late predictions come at once.
    """
    session, expected = client % len(SESSIONS), 0
    for k in range(len(SESSIONS)):
        received = seq[session == k]
        expected += round(np.ptp(received) + 1) * len(range(k, n_clients, len(SESSIONS))) if received.size else 0
    return expected


def _subscription(session: str) -> str:
    return f'{{"type":"subscribe","id":1,"topics":["predictions"],"session":"{session}"}}'


def _wait_for_live_predictions(clients: list[Child]) -> None:
    """Wait until every window has its prediction, which shows in its latencies: a window without one has none."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(2.0)
        waited_s = _received(clients)[2]
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
            raise RuntimeError("the service did not start; its error is above")
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


PREVIEW_HZ = 20.0
"""Rate of the previews for the clients that subscribe to them."""

_PREVIEW = np.zeros((14, 535))  # 30 kB as float32
_PREVIEW_BYTES = _PREVIEW.astype(np.float32).tobytes()
_ACCESS = Access("127.0.0.1", limits=Limits(max_connections=5000, max_connections_per_address=5000))


def serve(way: Way, prediction: str, rate_hz: float, pipe: Connection) -> None:
    """Serve and publish until "end" comes over the pipe; send the ``Usage`` so far at any other word.

    Args:
        way: How predictions get to the clients.
        prediction: A real one, as JSON.
        rate_hz: Predictions in a second.
        pipe: To the benchmark; the port is sent first.
    """
    # imported here, since every child imports this module, and for all ways, whose memory is compared
    import clmer_server.session.manager  # noqa: F401
    from clmer_server.web.service import freeze_gc, loop_factory

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    event = EmotionEvent.model_validate_json(prediction)
    with open_listener("127.0.0.1", 0) as listener:
        pipe.send(listener.getsockname()[1])

        async def run() -> None:
            parts = _WAYS[way](event)
            server = uvicorn.Server(uvicorn_config(parts.app, _ACCESS))
            freeze_gc()  # for every way
            tasks = [asyncio.create_task(job) for job in (_publish(event, parts, rate_hz), *parts.background)]
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while await asyncio.to_thread(pipe.recv) != "end":
                pipe.send(Usage(time.process_time(), _resident_bytes(), parts.n_cut_off()))
            server.should_exit = True
            for task in tasks:
                task.cancel()
            await serving

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run())


@dataclass(frozen=True)
class Usage:
    """Resources that a server has used so far, and the number of clients that it cut off."""

    cpu_s: float
    resident_bytes: int
    n_cut_off: int


@dataclass(frozen=True)
class Parts:
    """One way of serving."""

    app: FastAPI
    publish: Callable[[EmotionEvent], Awaitable[None]]
    show: Callable[[int], Awaitable[None]]  # a preview of this number, to those who subscribed to previews
    background: tuple[Coroutine[Any, Any, None], ...] = ()
    n_cut_off: Callable[[], int] = lambda: 0


class IdleSource:
    """A source from which nothing comes."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Wait for the end."""
        stop.wait()


def _session_manager(event: EmotionEvent) -> SessionManager:
    """Return the sessions of a service: one, which waits, and to whose hub the benchmark publishes."""
    from clmer_server.session.config import SessionConfig
    from clmer_server.session.events import EventContext
    from clmer_server.session.inference import InferenceThread, ServedModel
    from clmer_server.session.inputs import Inputs
    from clmer_server.session.managed import PreparedRun, SharedParts
    from clmer_server.session.manager import SessionManager
    from clmer_server.settings import ServeSettings
    from clmer_streaming.config import PreprocessConfig
    from clmer_streaming.lsl.resolve import StreamClaims

    described = {**event.model.model_dump(), "labels": tuple(event.probs or ())}
    info = ModelInfo(**described, trained_on="simulated", runner=event.runner, device="cpu")
    served = ServedModel(info, PreprocessConfig(), InferenceThread(lambda windows: []), {})
    shared = SharedParts(ServeSettings(replay=RECORDING), served, StreamClaims(), ThreadPoolExecutor(1))
    manager = SessionManager(shared)
    prepared = PreparedRun(EventContext("bench", info, "replay"), Inputs("replay", (IdleSource(),)))
    manager.open(SessionConfig(name="bench", replay=RECORDING), prepared)
    return manager


def _clmer(event: EmotionEvent) -> Parts:
    from clmer_server.web.websocket import Handshake, serve_client

    manager, handshake = _session_manager(event), Handshake(TokenCheck(None), _ACCESS.limits)
    hub = manager.default.hub
    app = FastAPI(middleware=[Middleware(SecurityMiddleware, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await serve_client(socket, manager, handshake)

    async def publish(event: EmotionEvent) -> None:
        hub.publish(event)

    async def show(number: int) -> None:
        if hub.wants("eeg.preview"):
            hub.publish(Preview("eeg.preview", "bench", number, 0.0, 1 / 128, _PREVIEW))

    watchdog = handshake.watchdog
    return Parts(app, publish, show, (watchdog.run(),), lambda: watchdog.n_evicted)


def _queues_of_text(event: EmotionEvent) -> Parts:
    queues: set[asyncio.Queue[str | bytes]] = set()
    with_previews: set[asyncio.Queue[str | bytes]] = set()  # of those who subscribed to previews
    app = FastAPI(middleware=[Middleware(SecurityMiddleware, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        queue: asyncio.Queue[str | bytes] = asyncio.Queue(256)
        queues.add(queue)
        sender = asyncio.create_task(_send_from(queue, socket))
        try:
            while True:
                await socket.receive_text()
                with_previews.add(queue)
        except WebSocketDisconnect:
            queues.discard(queue)
            with_previews.discard(queue)
            sender.cancel()

    async def publish(event: EmotionEvent) -> None:
        _put_to_all(queues, event.model_dump_json())

    async def show(number: int) -> None:
        _put_to_all(with_previews, _PREVIEW_BYTES)

    return Parts(app, publish, show)


def _put_to_all(queues: set[asyncio.Queue[str | bytes]], content: str | bytes) -> None:
    for queue in queues:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(content)


async def _send_from(queue: asyncio.Queue[str | bytes], socket: WebSocket) -> None:
    while True:
        content = await queue.get()
        await (socket.send_text(content) if isinstance(content, str) else socket.send_bytes(content))


def _loop_of_send_json(event: EmotionEvent) -> Parts:
    clients: set[WebSocket] = set()
    with_previews: set[WebSocket] = set()  # those who subscribed to previews
    app = FastAPI(middleware=[Middleware(SecurityMiddleware, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        clients.add(socket)
        try:
            while True:
                await socket.receive_text()
                with_previews.add(socket)
        except WebSocketDisconnect:
            clients.discard(socket)
            with_previews.discard(socket)

    async def publish(event: EmotionEvent) -> None:
        message = event.model_dump(mode="json")
        for client in tuple(clients):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone; its handler removes it
                await client.send_json(message)

    async def show(number: int) -> None:
        for client in tuple(with_previews):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await client.send_bytes(_PREVIEW_BYTES)

    return Parts(app, publish, show)


_WAYS: dict[Way, Callable[[EmotionEvent], Parts]] = {
    "clmer": _clmer,
    "queues of text": _queues_of_text,
    "loop of send_json": _loop_of_send_json,
}


async def _publish(event: EmotionEvent, parts: Parts, rate_hz: float) -> None:
    """Publish the event again and again at a steady rate, with its time of publishing in it; and previews."""
    begin, seq, n_shown = time.monotonic(), 0, 0
    while True:
        seq += 1
        await asyncio.sleep(max(0.0, begin + seq / rate_hz - time.monotonic()))
        await parts.publish(event.model_copy(update={"seq": seq, "unix_time": time.time()}))
        if seq / rate_hz >= n_shown / PREVIEW_HZ:
            await parts.show(n_shown)
            n_shown += 1


def _resident_bytes() -> int:
    """Return the memory that this process holds; 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
