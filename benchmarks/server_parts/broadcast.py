"""One prediction to many clients: the service's hub and connections, and two rivals.

All run under the same uvicorn with the same settings, in a process of their own, and all publish the same real
prediction, stamped anew each time, and previews for the clients that ask for them. One rival encodes once and has a
queue for each client; the other is what a WebSocket tutorial shows: ``send_json`` to each client, awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.middleware import Middleware

from clmer_server.hub import Hub
from clmer_server.protocol.outbound import Preview, Welcome
from clmer_server.protocol.parts import ClockReading, EmotionEvent, Grid, Limits, ModelInfo, ServerInfo
from clmer_server.web.auth import Access, TokenCheck
from clmer_server.web.middleware import SecurityMiddleware
from clmer_server.web.service import freeze_gc, loop_factory
from clmer_server.web.uvicorn import open_listener, uvicorn_config
from clmer_server.web.websocket import Handshake, serve_client

Way = Literal["clmer", "queues of text", "loop of send_json"]
"""How a prediction gets to the clients."""

PREVIEW_HZ = 20.0
"""How often those who ask for previews get one."""

_PREVIEW = np.zeros((14, 535))  # 30 kB as float32
_PREVIEW_BYTES = _PREVIEW.astype(np.float32).tobytes()
_ACCESS = Access("127.0.0.1", limits=Limits(max_connections=5000, max_connections_per_address=5000))


class OneSession:
    """Stands for the manager of one session, which does not run: clients connect and listen."""

    def __init__(self, event: EmotionEvent) -> None:
        self.hub = Hub()
        self._event = event

    @property
    def sessions(self) -> dict[str, OneSession]:
        """Itself, alone."""
        return {"bench": self}

    def find(self, name: str) -> OneSession:
        """Return itself."""
        return self

    def welcome(self) -> Welcome:
        """Return the first message of a connection."""
        model = {**self._event.model.model_dump(), "labels": tuple(self._event.probs or ())}
        return Welcome(
            session="bench",
            server=ServerInfo(version="0"),
            model=ModelInfo(**model, trained_on="simulated", runner=self._event.runner, device="cpu"),
            streams=(),
            clock=ClockReading(lsl_time=0.0, unix_time=0.0),
            source="live",
            grid=Grid(window_s=2.0, hop_s=0.5),
        )


def serve(way: Way, prediction: str, rate_hz: float, pipe: Connection) -> None:
    """Serve, and publish at a rate, until told to end; at any other word, tell the ``Usage`` so far.

    Args:
        way: How predictions get to the clients.
        prediction: A real one, as JSON.
        rate_hz: Predictions in a second.
        pipe: To the benchmark; the port is the first thing said.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    event = EmotionEvent.model_validate_json(prediction)
    parts = _WAYS[way](event)
    server = uvicorn.Server(uvicorn_config(parts.app, _ACCESS))
    freeze_gc()  # for the rivals, too
    with open_listener("127.0.0.1", 0) as listener:
        pipe.send(listener.getsockname()[1])

        async def run() -> None:
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
    """What a server has used so far, and what it has done about clients that do not read."""

    cpu_s: float
    resident_bytes: int
    n_cut_off: int


@dataclass(frozen=True)
class Parts:
    """One way to serve."""

    app: FastAPI
    publish: Callable[[EmotionEvent], Awaitable[None]]
    show: Callable[[int], Awaitable[None]]  # a preview of this number, to those who have asked for previews
    background: tuple[Coroutine[Any, Any, None], ...] = ()
    n_cut_off: Callable[[], int] = lambda: 0


def _clmer(event: EmotionEvent) -> Parts:
    session, handshake = OneSession(event), Handshake(TokenCheck(None), _ACCESS.limits)
    app = FastAPI(middleware=[Middleware(SecurityMiddleware, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await serve_client(socket, session, handshake)

    async def publish(event: EmotionEvent) -> None:
        session.hub.publish(event)

    async def show(number: int) -> None:
        if session.hub.wants("eeg.preview"):
            session.hub.publish(Preview("eeg.preview", "bench", number, 0.0, 1 / 128, _PREVIEW))

    return Parts(app, publish, show, (handshake.watchdog.run(),), lambda: handshake.watchdog.n_evicted)


def _queues_of_text(event: EmotionEvent) -> Parts:
    queues: set[asyncio.Queue[str | bytes]] = set()
    eager: set[asyncio.Queue[str | bytes]] = set()  # of those who have asked for previews
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
                eager.add(queue)
        except WebSocketDisconnect:
            queues.discard(queue)
            eager.discard(queue)
            sender.cancel()

    async def publish(event: EmotionEvent) -> None:
        _put_to_all(queues, event.model_dump_json())

    async def show(number: int) -> None:
        _put_to_all(eager, _PREVIEW_BYTES)

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
    eager: set[WebSocket] = set()  # those who have asked for previews
    app = FastAPI(middleware=[Middleware(SecurityMiddleware, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        clients.add(socket)
        try:
            while True:
                await socket.receive_text()
                eager.add(socket)
        except WebSocketDisconnect:
            clients.discard(socket)
            eager.discard(socket)

    async def publish(event: EmotionEvent) -> None:
        message = event.model_dump(mode="json")
        for client in tuple(clients):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone; its handler takes it out
                await client.send_json(message)

    async def show(number: int) -> None:
        for client in tuple(eager):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await client.send_bytes(_PREVIEW_BYTES)

    return Parts(app, publish, show)


_WAYS: dict[Way, Callable[[EmotionEvent], Parts]] = {
    "clmer": _clmer,
    "queues of text": _queues_of_text,
    "loop of send_json": _loop_of_send_json,
}


async def _publish(event: EmotionEvent, parts: Parts, rate_hz: float) -> None:
    """Publish the event again and again, on a steady grid, with the time of handing it out in it; and previews."""
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
