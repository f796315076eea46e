"""The running service: its sessions and the web server around them, from start to goodbye."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from clmer_model.predictor import gpu_memory_bytes
from clmer_server.access import Access
from clmer_server.app import Served, create_app
from clmer_server.auth import TokenCheck
from clmer_server.background import in_background
from clmer_server.door import Door
from clmer_server.garbage import settle_garbage
from clmer_server.listening import uvicorn_config
from clmer_server.loop_lag import LoopLag
from clmer_server.metrics import Metrics, Reading
from clmer_server.protocol.notices import ByeReason
from clmer_server.protocol.outbound import Bye
from clmer_server.run_opening import Site
from clmer_server.session_manager import SessionManager
from clmer_server.session_plan import SessionPlan
from clmer_server.session_run import PreparedRun, ServedModel
from clmer_server.settings import ServeSettings
from clmer_server.systemd import READY, STOPPING, notify
from clmer_streaming.sources.stream_claims import StreamClaims

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
        door, lag = Door(TokenCheck(plan.access.token), plan.access.limits), LoopLag()

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
        settle_garbage()  # before any session runs, whose first windows it would hold up
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
