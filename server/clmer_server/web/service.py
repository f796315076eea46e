"""The running service: its sessions and the web server around them, from the start to the last message.

To be read in this order: ``run_service``, the server, and what surrounds them (workers, event loop, service manager,
garbage collector).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from clmer_server.metrics import LoopLag, Metrics, Reading
from clmer_server.protocol.codes import ByeReason
from clmer_server.protocol.outbound import Bye
from clmer_server.session.config import SessionConfig
from clmer_server.session.inference import ServedModel
from clmer_server.session.managed import PreparedRun, SharedParts
from clmer_server.session.manager import SessionManager
from clmer_server.settings import ServeSettings
from clmer_server.web.app import AppState, create_app
from clmer_server.web.auth import Access, TokenCheck
from clmer_server.web.status_line import StatusLine
from clmer_server.web.uvicorn import uvicorn_config
from clmer_server.web.websocket import Handshake
from clmer_streaming.lsl.resolve import StreamClaims

GOODBYE_TIMEOUT_S = 1.0
"""How long clients have to take their last messages."""

RESTART_S = 2.0
"""How long a service needs at least until it answers again, where it is started again at once."""

SPARE_WORKERS = 4
"""Threads for what may wait, beside one for every session."""


@dataclass(frozen=True)
class ServicePlan:
    """Configuration and model of a service, checked and loaded before it starts."""

    settings: ServeSettings
    access: Access
    model: ServedModel
    claims: StreamClaims
    sessions: tuple[tuple[SessionConfig, PreparedRun], ...]  # the default one first


async def run_service(plan: ServicePlan, listener: socket.socket) -> None:
    """Serve until a signal ends it; clients get ``bye`` first, and it ends within 5 s in every case."""
    from clmer_model.predictor import gpu_memory_bytes  # loads torch, which the module itself does not need

    settings, n_workers = plan.settings, plan.settings.max_sessions + SPARE_WORKERS
    with _workers(n_workers) as workers:
        handshake, lag = Handshake(TokenCheck(plan.access.token), plan.access.limits), LoopLag()

        def read() -> Reading:
            gpu = gpu_memory_bytes()
            evicted = handshake.watchdog.n_evicted
            return replace(manager.reading(), n_evicted=evicted, loop_lag_s=lag.seconds, gpu_memory_bytes=gpu)

        async def goodbye() -> None:
            bye = Bye(reason=ByeReason.SHUTDOWN, retry_after_s=RESTART_S)
            handshake.close(bye)
            await manager.end(bye, GOODBYE_TIMEOUT_S)

        metrics = Metrics(read)
        port = listener.getsockname()[1]
        manager = SessionManager(SharedParts(settings, plan.model, plan.claims, workers, port, metrics.message))
        state = AppState(manager, plan.model, settings, handshake, metrics, lag)
        server = _Server(uvicorn_config(create_app(state, plan.access), plan.access), goodbye)
        for config, prepared in plan.sessions:
            manager.open(config, prepared)
        freeze_gc()  # before any session runs, whose first windows it would hold up
        line = StatusLine(manager.reading, sys.stdout)
        background = (lag.run(), handshake.watchdog.run(), line.run())
        async with contextlib.AsyncExitStack() as stack:
            for work in background:
                await stack.enter_async_context(run_in_background(work))
            manager.begin()
            await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn, with a goodbye to the clients before anything is closed."""

    def __init__(self, config: uvicorn.Config, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(config)
        self._goodbye = goodbye

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and notify the service manager."""
        await super().startup(sockets)
        notify(READY)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say goodbye, then close the connections; a client that has not read by now is cut off."""
        notify(STOPPING)
        await self._goodbye()
        for connection in self.server_state.connections:
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()  # a close would wait for it to read, for ever
        await super().shutdown(sockets)


@contextlib.contextmanager
def _workers(n: int) -> Iterator[Executor]:
    """Return threads for what may wait; one that hangs is not waited for at the end."""
    workers = ThreadPoolExecutor(n, thread_name_prefix="clmer-worker")
    try:
        yield workers
    finally:
        workers.shutdown(wait=False, cancel_futures=True)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop: uvloop's, which takes less processor time per message; None is asyncio's own.

    uvloop does not exist on Windows, where asyncio's loop is taken.
    """
    if sys.platform == "win32":
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return make


@contextlib.asynccontextmanager
async def run_in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine as long as the context lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})  # unlike awaiting the task, it does not take our own cancellation for the task's
        if not task.cancelled():
            task.result()


READY, STOPPING = "READY=1", "STOPPING=1"


def notify(state: str) -> bool:
    """Send a state to the service manager, as sd_notify(3) does; return whether one listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    path = "\0" + address[1:] if address.startswith("@") else address  # @ stands for the abstract name space
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(path)
            sender.sendall(state.encode())
    except OSError:
        return False  # a service must not fail because its manager does not listen
    return True


YOUNG_OBJECTS = 10_000
"""New objects before a collection of the youngest; Python's own 700 suits small programs."""


def freeze_gc() -> None:
    """Exclude the objects made so far from garbage collection; to be called when all is made and nothing runs.

    A full collection visits every object, some 250,000 after the imports of a service, and nothing else runs
    meanwhile: a quarter of a second and more in which every client waits. What the start has made stays to the end,
    and ``gc.freeze`` excludes it. That alone makes full collections more frequent, since one comes when a quarter more
    has survived than there was; so fewer of the small ones lead up to it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
