"""The routes over real HTTP and WebSocket connections, in the test's own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from websockets.asyncio.client import connect

from clmer_server.hub import Hub
from clmer_server.metrics import LoopLag, Metrics, Reading
from clmer_server.session.config import SessionConfig
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, ServedModel
from clmer_server.session.inputs import Inputs
from clmer_server.session.managed import ManagedSession, PreparedRun, SharedParts
from clmer_server.session.manager import SessionManager
from clmer_server.session.session import Session
from clmer_server.settings import ServeSettings
from clmer_server.web.app import AppState, create_app
from clmer_server.web.auth import Access, TokenCheck
from clmer_server.web.limits import Watchdog
from clmer_server.web.service import run_in_background
from clmer_server.web.uvicorn import PING_S, open_listener, uvicorn_config
from clmer_server.web.websocket import Handshake
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.lsl.resolve import StreamClaims
from clmer_streaming.sources.replay import Pace
from clmer_streaming.types import Item, Source
from tests.support.session_parts import MODEL, ListSource, predict_certain


@dataclass
class ServedHere:
    """A running server around a session that the test starts, and a hub that it publishes to."""

    managed: ManagedSession
    address: str
    watchdog: Watchdog

    @property
    def hub(self) -> Hub:
        return self.managed.hub

    @property
    def session(self) -> Session:
        assert self.managed.run is not None
        return self.managed.run.session

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://{self.address}{path}", headers=headers)

    def connect(self, name: str = "127.0.0.1", **options: Any) -> connect:
        host, port = self.address.split(":")
        return connect(f"ws://{name}:{port}/ws", host=host, port=int(port), proxy=None, **options)


class BrokenSource:
    """A source whose file turns out to be damaged."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        raise RecordingError("a whole file", "half a file", "record it again")


class SilentSource:
    """A source from which nothing comes."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        stop.wait(60)


class BrokenPace(Pace):
    """A pace that cannot be paused: a fault that nobody foresaw."""

    def pause(self) -> None:
        raise OSError("no such clock")


def broken_reading() -> Reading:
    raise OSError("no such number")


@asynccontextmanager
async def serving_here(
    source: Source | None = None, read: Callable[[], Reading] | None = None, *, ping_s: float = PING_S
) -> AsyncIterator[ServedHere]:
    """Serve a session over a source that the test starts, with numbers for /metrics and pings at this interval."""
    settings = ServeSettings(replay=Path("a.xdf"), max_sessions=2)
    inputs = Inputs("replay", (source or ListSource([]),), pace=BrokenPace(1.0))
    model = ServedModel(MODEL, PreprocessConfig(), InferenceThread(predict_certain), {"name": "tiny"})
    prepared = PreparedRun(EventContext("abc", MODEL, "replay"), inputs)
    with ThreadPoolExecutor() as workers, open_listener("127.0.0.1", 0) as listener:

        def reading() -> Reading:
            return manager.reading()

        metrics = Metrics(read or reading)
        manager = SessionManager(SharedParts(settings, model, StreamClaims(), workers, count=metrics.message))
        manager.open(SessionConfig(name="abc", replay=Path("a.xdf")), prepared)
        access = Access("127.0.0.1")
        handshake = Handshake(TokenCheck(access.token), access.limits)
        state = AppState(manager, model, settings, handshake, metrics, LoopLag())
        server = uvicorn.Server(uvicorn_config(create_app(state, access), access, ping_s))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        async with run_in_background(handshake.watchdog.run()):
            yield ServedHere(manager.default, f"127.0.0.1:{listener.getsockname()[1]}", handshake.watchdog)
        server.should_exit = True
        await task
