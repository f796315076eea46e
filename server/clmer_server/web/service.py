"""The running service: its sessions and the web server around them, from start to goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import uvicorn

from clmer_model.predictor import gpu_memory_bytes
from clmer_server.metrics import LoopLag, Metrics, Reading
from clmer_server.protocol.codes import ByeReason
from clmer_server.protocol.outbound import Bye
from clmer_server.session.config import SessionPlan
from clmer_server.session.manager import SessionManager
from clmer_server.session.run import PreparedRun, ServedModel, Site
from clmer_server.settings import ServeSettings
from clmer_server.web.app import Served, create_app
from clmer_server.web.auth import Access, TokenCheck
from clmer_server.web.uvicorn import uvicorn_config
from clmer_server.web.websocket import Handshake
from clmer_streaming.lsl.resolve import StreamClaims


@contextlib.asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let a coroutine run as long as the context lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})  # unlike awaiting the task, it does not take our own cancellation for the task's
        if not task.cancelled():
            task.result()


YOUNG_OBJECTS = 10_000
"""New objects before the youngest are looked through; Python's own 700 suits small programs."""


def freeze_gc() -> None:
    """Let the collector leave alone what the start has made; call it when everything is made and nothing runs.

    A full collection walks over everything, some 250,000 objects behind the imports of a service, and nothing else
    runs meanwhile: a quarter of a second and more in which every client waits. What the start has made stays to the
    end, and is put out of the collector's sight (``gc.freeze``). That alone makes full collections more frequent,
    since they come when a quarter more has survived than there was; so fewer of the small ones lead up to them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


READY, STOPPING = "READY=1", "STOPPING=1"


def notify(state: str) -> bool:
    """Tell the service manager a state; return whether one listens."""
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


GOODBYE_TIMEOUT_S = 1.0
"""How long clients have to take their last messages."""

RESTART_S = 2.0
"""How long a service needs at least until it answers again, where it is started again at once."""

SPARE_WORKERS = 4
"""Threads for what may wait, beside one for every session."""


@dataclass(frozen=True)
class ServicePlan:
    """Everything that was checked and loaded before the service starts."""

    settings: ServeSettings
    access: Access
    model: ServedModel
    claims: StreamClaims
    sessions: tuple[tuple[SessionPlan, PreparedRun], ...]  # the default one first


class _Server(uvicorn.Server):
    """Uvicorn, with a goodbye to the clients before anything is closed."""

    def __init__(self, config: uvicorn.Config, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(config)
        self._goodbye = goodbye

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell the service manager."""
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


async def run_service(plan: ServicePlan, listener: socket.socket) -> None:
    """Serve until a signal ends it; clients hear ``bye`` first, and it ends within 5 s in every case."""
    settings, n_workers = plan.settings, plan.settings.max_sessions + SPARE_WORKERS
    with _workers(n_workers) as workers:
        door, lag = Handshake(TokenCheck(plan.access.token), plan.access.limits), LoopLag()

        def read() -> Reading:
            gpu = gpu_memory_bytes()
            evicted = door.watchdog.n_evicted
            return replace(sessions.reading(), n_evicted=evicted, loop_lag_s=lag.seconds, gpu_memory_bytes=gpu)

        async def goodbye() -> None:
            bye = Bye(reason=ByeReason.SHUTDOWN, retry_after_s=RESTART_S)
            door.close(bye)
            await sessions.end(bye, GOODBYE_TIMEOUT_S)

        metrics = Metrics(read)
        site = Site(plan.model, plan.claims, workers, listener.getsockname()[1], metrics.message)
        sessions = SessionManager(site, settings.max_sessions)
        served = Served(sessions, plan.model, settings, door, metrics, lag)
        server = _Server(uvicorn_config(create_app(served, plan.access), plan.access), goodbye)
        for session, prepared in plan.sessions:
            sessions.open(session, prepared)
        freeze_gc()  # before any session runs, whose first windows it would hold up
        async with in_background(lag.run()), in_background(door.watchdog.run()):
            sessions.begin()
            await server.serve(sockets=[listener])


@contextlib.contextmanager
def _workers(n: int) -> Iterator[Executor]:
    """Give threads for what may wait; one that hangs is not waited for at the end."""
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


CHILD_TIMEOUT_S = 0.5
"""How long a child process that is still there may take to end."""


def end_with(run: Callable[[], int]) -> NoReturn:
    """Run a program that closes what it opens, and end the process with its exit code at once.

    Child processes that are still there are ended; logs and output are written out first.

    Args:
        run: Returns the exit code, or raises ``SystemExit``.
    """
    try:
        code = run()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    for child in multiprocessing.active_children():
        child.kill()
        child.join(CHILD_TIMEOUT_S)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
