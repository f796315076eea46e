"""The running service: one session, its hub and the web server around them, from start to goodbye."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import uvicorn

from clmer_server.access import Access
from clmer_server.app import Served, create_app
from clmer_server.events import EventContext
from clmer_server.hub import Hub
from clmer_server.inference import InferenceThread
from clmer_server.inputs import Inputs
from clmer_server.listeners import Listeners, both_clocks
from clmer_server.outlet_feed import OutletFeed, outlet_identity
from clmer_server.protocol.outbound import Bye, Notice
from clmer_server.protocol.parts import Grid
from clmer_server.recorder import Recorder
from clmer_server.recording_plan import RecordingPlan
from clmer_server.session import Delivery, HandOver, Session
from clmer_server.transport import EndableWebSocket, http_protocol
from clmer_server.watchdog import Watchdog
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError

GOODBYE_TIMEOUT_S = 1.0
"""How long clients have to take their last messages."""

THREADS_TIMEOUT_S = 1.0
"""How long the threads of the session have to end."""

LISTENERS_TIMEOUT_S = 1.0
"""How long recorder and outlets have to finish what waits for them."""

CLOSE_TIMEOUT_S = 1
"""How long connections have to close; with those above, a shutdown takes less than 5 s whatever a client does."""

SEND_BUFFER_BYTES = 64 * 1024
"""What the system may hold back for one connection. Left alone it takes megabytes: minutes of old predictions."""

UNREAD_TIMEOUT_MS = 20_000
"""How long the system itself tries to hand over what a client does not take, also after the service has ended."""

PING_S = 20.0
"""Interval of WebSocket pings, and how long the answer may take."""


@dataclass(frozen=True)
class ServicePlan:
    """Everything that was checked and loaded before the service starts."""

    context: EventContext
    inputs: Inputs
    preprocess: PreprocessConfig
    inference: InferenceThread
    model_card: dict[str, Any]
    access: Access
    on_first_client: bool  # start the session when the first client comes, not at once
    recording: RecordingPlan | None = None
    outlets: bool = False  # publish predictions and markers on Lab Streaming Layer, too


class _Server(uvicorn.Server):
    """Uvicorn, with a goodbye to the clients before anything is closed."""

    def __init__(self, config: uvicorn.Config, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(config)
        self._goodbye = goodbye

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say goodbye, then close the connections; a client that has not read by now is cut off."""
        await self._goodbye()
        for connection in self.server_state.connections:
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()  # a close would wait for it to read, for ever
        await super().shutdown(sockets)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens already, so that nobody takes the port while the model loads.

    Args:
        host: Name or address to listen at.
        port: Port; 0 takes any free one.

    Raises:
        SettingsError: The port is in use, or the host is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # take a port that a service has just left; elsewhere it means to share it
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if sys.platform == "linux":
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_MS)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            expected=f"a free port to listen at, {host}:{port}",
            found=str(error.strerror or error),
            mend="end the other program, or give another one with --port (0 takes any free port)",
        ) from error
    return listener


def live_hand_over(loop: asyncio.AbstractEventLoop) -> HandOver:
    """Return a hand-over that never waits: a client that is slow loses messages."""

    def hand_over(call: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(call)

    return hand_over


def replay_hand_over(loop: asyncio.AbstractEventLoop, hub: Hub) -> HandOver:
    """Return a hand-over that waits for clients that keep up, so that a replay loses nothing at any speed."""

    async def when_there_is_room(call: Callable[[], None]) -> None:
        await hub.room()
        call()

    def hand_over(call: Callable[[], None]) -> None:
        asyncio.run_coroutine_threadsafe(when_there_is_room(call), loop).result()

    return hand_over


async def run_service(plan: ServicePlan, listener: socket.socket) -> None:
    """Serve until a signal ends it; clients hear ``bye`` first, and it ends within 5 s in every case."""
    loop, hub = asyncio.get_running_loop(), Hub()
    hand_over = live_hand_over(loop) if plan.inputs.mode == "live" else replay_hand_over(loop, hub)
    listeners = _listeners(plan, listener, tell=lambda notice: hand_over(lambda: hub.publish(notice)))
    delivery = Delivery(listeners.also(hub.publish), hand_over, listeners.item, hub)
    session = Session(plan.context, plan.inputs, plan.preprocess, plan.inference, delivery)

    async def goodbye() -> None:
        hub.say_goodbye(Bye(reason="shutdown"))
        await hub.emptied(GOODBYE_TIMEOUT_S)
        await asyncio.to_thread(session.stop, THREADS_TIMEOUT_S)
        await asyncio.to_thread(listeners.close, LISTENERS_TIMEOUT_S)

    window = plan.preprocess.window
    served = Served(
        context=plan.context,
        grid=Grid(window_s=window.window_s, hop_s=window.hop_s),
        hub=hub,
        session=session,
        model_card=plan.model_card,
        clock=local_clock,
        watchdog=Watchdog(),
    )
    server = _Server(uvicorn_config(create_app(served, plan.access), plan.access), goodbye)
    listeners.start()
    watching = asyncio.create_task(served.watchdog.run())
    starter = asyncio.create_task(_start_with_first_client(session, hub))
    if not plan.on_first_client:
        session.start()
    try:
        await server.serve(sockets=[listener])
    finally:
        starter.cancel()
        watching.cancel()


def _listeners(plan: ServicePlan, listener: socket.socket, tell: Callable[[Notice], None]) -> Listeners:
    recorder = outlets = None
    if plan.recording is not None:
        recorder = Recorder(plan.recording, both_clocks(), blocking=plan.inputs.mode == "replay", tell=tell)
    if plan.outlets:
        outlets = OutletFeed(outlet_identity(plan.context, listener.getsockname()[1], plan.preprocess))
    return Listeners(recorder, outlets)


async def _start_with_first_client(session: Session, hub: Hub) -> None:
    await hub.first_client.wait()
    session.start()


def uvicorn_config(app: Any, access: Access) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        http=http_protocol(access.limits),
        ws=EndableWebSocket,
        ws_max_size=access.limits.max_message_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        lifespan="off",
        log_config=None,
        log_level="warning",  # below it come addresses, headers and messages: tokens, and what people feel
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could claim any address by them
        ssl_certfile=access.tls.cert if access.tls else None,
        ssl_keyfile=access.tls.key if access.tls else None,
    )
