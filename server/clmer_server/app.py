"""The routes in front of one session; they keep no state of their own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware

from clmer_server.access import Access
from clmer_server.auth import TokenCheck
from clmer_server.connection import serve_client
from clmer_server.door import Door
from clmer_server.events import EventContext
from clmer_server.guard import REFUSED, Guard
from clmer_server.hub import Hub
from clmer_server.only_room import OnlyRoom
from clmer_server.pages import add_pages
from clmer_server.protocol.asyncapi import asyncapi
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.names import PROTOCOL, PROTOCOL_VERSION
from clmer_server.protocol.outbound import Welcome
from clmer_server.protocol.parts import TOPICS, ClockReading, Grid, ServerInfo
from clmer_server.rooms import RefusalError
from clmer_server.session import Session, SessionState, describe
from clmer_server.watchdog import Watchdog
from clmer_streaming.types import INPUT_KINDS, Marker


@dataclass(frozen=True)
class Served:
    """What the routes answer from."""

    context: EventContext
    grid: Grid
    hub: Hub
    session: Session
    model_card: dict[str, Any]  # the artefact's own description, as plain JSON values
    clock: Callable[[], float]  # seconds of the LSL clock
    watchdog: Watchdog  # over its clients

    @property
    def rooms(self) -> OnlyRoom:
        """The session, as connections see it."""
        return OnlyRoom(self.context.session, self, self.session)

    def mark(self, marker: Marker) -> None:
        """Take a marker into the session."""
        self.session.mark(marker)

    def stream_time(self, t: float) -> float:
        """Return when ``t`` seconds of the LSL clock is for the session.

        Raises:
            RefusalError: It does not run, or has not begun to deliver.
        """
        stream_t = self.session.stream_time(t)
        if not self.session.running or not math.isfinite(stream_t):
            name = self.context.session
            raise RefusalError("session_not_running", f"expected a session that delivers, found {name} without data")
        return stream_t

    def calibrate(self, kind: CalibrationKind, seconds: float | None) -> None:
        """Begin to measure the participant at rest.

        Raises:
            RefusalError: This session cannot, or does so already.
        """
        self.session.controls.calibrate(kind, seconds)

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Give a calibration up.

        Raises:
            RefusalError: None runs.
        """
        self.session.controls.stop_calibration(kind)

    def control_replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Hold a replay or let it go on, and set its speed.

        Raises:
            RefusalError: The session is live.
        """
        self.session.controls.replay(action, speed)

    def welcome(self) -> Welcome:
        """Return the first message for a client that connects now."""
        return Welcome(
            session=self.context.session,
            server=ServerInfo(version=version("clmer")),
            model=self.context.model,
            streams=self.hub.streams,
            clock=ClockReading(lsl_time=self.clock(), unix_time=time.time()),
            capabilities=(*TOPICS, "marker", "clock.sync", *self.session.controls.capabilities),
            source=self.context.source,
            grid=self.grid,
        )

    def why_not_ready(self) -> list[str]:
        """Return why no predictions come; empty where they come, or begin with the first client."""
        state, streams = self.session.state, tuple(s for s in self.hub.streams if s.kind in INPUT_KINDS)
        if self.session.failure is not None:
            return [f"session failed: {describe(self.session.failure)}"]
        if state is SessionState.WAITING or (state is SessionState.RUNNING and any(s.state == "live" for s in streams)):
            return []
        silent = [f"{s.source} {s.state}: {s.reason or s.name}" for s in streams if s.state != "live"]
        return silent if state is SessionState.RUNNING and silent else [f"session {state}"]


def create_app(served: Served, access: Access) -> FastAPI:
    """Return the application.

    Args:
        served: What it answers from.
        access: Who may connect.
    """
    app = FastAPI(
        title="CLMER",
        docs_url=None,  # these pages load scripts from elsewhere; /openapi.json itself is served
        redoc_url=None,
        responses=REFUSED,
        max_body_size=access.limits.max_message_bytes,
        middleware=[Middleware(Guard, access=access)],
    )
    _add_health(app, served, access)
    _add_model(app, served)
    add_pages(app)

    door = Door(TokenCheck(access.token), access.limits, served.watchdog)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await serve_client(socket, served.rooms, door)

    return app


def _add_health(app: FastAPI, served: Served, access: Access) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the process is alive, and what a page must know before it connects."""
        hub = served.hub
        return {
            "status": "ok",
            "session": served.session.state,
            "clients": hub.n_clients,
            "dropped": hub.n_dropped,
            "evicted": served.watchdog.n_evicted,
            "token_required": access.token is not None,
        }

    @app.get("/readyz", responses={503: {"description": "No predictions come; the reasons."}})
    async def readyz() -> JSONResponse:
        """Whether predictions come; 503 with the reasons where not."""
        reasons = served.why_not_ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)


def _add_model(app: FastAPI, served: Served) -> None:
    @app.get("/version")
    async def program() -> dict[str, Any]:
        """Which program this is, and which protocol it speaks."""
        return {"name": "clmer", "version": version("clmer"), "protocol": PROTOCOL}

    @app.get("/asyncapi.json")
    async def protocol() -> dict[str, Any]:
        """The WebSocket protocol, for programs that read such descriptions."""
        return asyncapi(PROTOCOL_VERSION)

    @app.get("/api/model")
    async def model() -> dict[str, Any]:
        """The artefact's description of itself, and where it runs."""
        running = served.context.model.model_dump(include={"id", "sha256", "config_hash", "runner", "device"})
        return {**served.model_card, **running}
