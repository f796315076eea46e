"""One prediction to many clients: the service's hub and connections, and a loop that sends to one after the other.

Both run under the same uvicorn with the same settings, in a process of their own, and both publish the same real
prediction, stamped anew each time. The rival is what a WebSocket tutorial shows: ``send_json`` to each client, awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.middleware import Middleware

from clmer_server.access import Access
from clmer_server.auth import TokenCheck
from clmer_server.connection import serve_client
from clmer_server.door import Door
from clmer_server.event_loop import loop_factory
from clmer_server.guard import Guard
from clmer_server.hub import Hub
from clmer_server.listening import open_listener, uvicorn_config
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Welcome
from clmer_server.protocol.parts import ClockReading, Grid, Limits, ModelInfo, ServerInfo
from clmer_server.protocol.prediction import EmotionEvent
from clmer_server.rooms import RefusalError, StartRequest
from clmer_streaming.types import Marker

Way = Literal["clmer", "queues of text", "loop of send_json"]
"""How a prediction gets to the clients."""

_ACCESS = Access("127.0.0.1", limits=Limits(max_connections=5000, max_connections_per_address=5000))


class OneRoom:
    """A session without one: clients come and listen."""

    def __init__(self, event: EmotionEvent) -> None:
        self.hub = Hub()
        self._event = event

    @property
    def rooms(self) -> dict[str, OneRoom]:
        """Itself, alone."""
        return {"bench": self}

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

    def mark(self, marker: Marker) -> None:
        """Do nothing."""

    def stream_time(self, t: float) -> float:
        """Return the same time."""
        return t

    def calibrate(self, kind: CalibrationKind, seconds: float | None) -> None:
        """Refuse."""
        raise RefusalError("not_supported", "this is a benchmark")

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Refuse."""
        raise RefusalError("not_supported", "this is a benchmark")

    def control_replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Refuse."""
        raise RefusalError("not_supported", "this is a benchmark")

    async def start(self, name: str, request: StartRequest) -> None:
        """Refuse."""
        raise RefusalError("not_supported", "this is a benchmark")

    async def stop(self, name: str) -> None:
        """Refuse."""
        raise RefusalError("not_supported", "this is a benchmark")


def serve(way: Way, prediction: str, rate_hz: float, pipe: Connection) -> None:
    """Serve, and publish at a rate, until told to end; at any other word, tell CPU seconds and bytes of memory.

    Args:
        way: How predictions get to the clients.
        prediction: A real one, as JSON.
        rate_hz: Predictions in a second.
        pipe: To the benchmark; the port is the first thing said.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    event = EmotionEvent.model_validate_json(prediction)
    app, publish, background = _WAYS[way](event)
    server = uvicorn.Server(uvicorn_config(app, _ACCESS))
    with open_listener("127.0.0.1", 0) as listener:
        pipe.send(listener.getsockname()[1])

        async def run() -> None:
            tasks = [asyncio.create_task(job) for job in (_publish(event, publish, rate_hz), *background)]
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while await asyncio.to_thread(pipe.recv) != "end":
                pipe.send((time.process_time(), _resident_bytes()))
            server.should_exit = True
            for task in tasks:
                task.cancel()
            await serving

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run())


Publish = Callable[[EmotionEvent], Coroutine[Any, Any, None]]
Parts = tuple[FastAPI, Publish, tuple[Coroutine[Any, Any, None], ...]]


def _clmer(event: EmotionEvent) -> Parts:
    room, door = OneRoom(event), Door(TokenCheck(None), _ACCESS.limits)
    app = FastAPI(middleware=[Middleware(Guard, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await serve_client(socket, room, door)

    async def publish(event: EmotionEvent) -> None:
        room.hub.publish(event)

    return app, publish, (door.watchdog.run(),)


def _queues_of_text(event: EmotionEvent) -> Parts:
    queues: set[asyncio.Queue[str]] = set()
    app = FastAPI(middleware=[Middleware(Guard, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue(256)
        queues.add(queue)
        sender = asyncio.create_task(_send_from(queue, socket))
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            queues.discard(queue)
            sender.cancel()

    async def publish(event: EmotionEvent) -> None:
        text = event.model_dump_json()
        for queue in queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(text)

    return app, publish, ()


async def _send_from(queue: asyncio.Queue[str], socket: WebSocket) -> None:
    while True:
        await socket.send_text(await queue.get())


def _loop_of_send_json(event: EmotionEvent) -> Parts:
    clients: set[WebSocket] = set()
    app = FastAPI(middleware=[Middleware(Guard, access=_ACCESS)])

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        clients.add(socket)
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            clients.discard(socket)

    async def publish(event: EmotionEvent) -> None:
        message = event.model_dump(mode="json")
        for client in tuple(clients):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone; its handler takes it out
                await client.send_json(message)

    return app, publish, ()


_WAYS: dict[Way, Callable[[EmotionEvent], Parts]] = {
    "clmer": _clmer,
    "queues of text": _queues_of_text,
    "loop of send_json": _loop_of_send_json,
}


async def _publish(event: EmotionEvent, publish: Publish, rate_hz: float) -> None:
    """Publish the event again and again, on a steady grid, with the time of handing it out in it."""
    begin, seq = time.monotonic(), 0
    while True:
        seq += 1
        await asyncio.sleep(max(0.0, begin + seq / rate_hz - time.monotonic()))
        await publish(event.model_copy(update={"seq": seq, "unix_time": time.time()}))


def _resident_bytes() -> int:
    """Return the memory that this process holds; 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() if path.exists() else 0
