"""The routes in front of the sessions; they keep no state of their own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from clmer_server.access import Access
from clmer_server.connection import serve_client
from clmer_server.door import Door
from clmer_server.guard import REFUSED, Guard
from clmer_server.loop_lag import LoopLag
from clmer_server.metrics import CONTENT_TYPE, Metrics
from clmer_server.pages import add_pages
from clmer_server.protocol.asyncapi import asyncapi
from clmer_server.protocol.names import PROTOCOL, PROTOCOL_VERSION
from clmer_server.refusals import add_refusals
from clmer_server.session_api import add_session_api
from clmer_server.session_manager import SessionManager
from clmer_server.session_run import ServedModel
from clmer_server.settings import ServeSettings


@dataclass(frozen=True)
class Served:
    """What the routes answer from."""

    sessions: SessionManager
    model: ServedModel
    settings: ServeSettings  # of the service; new sessions have from it what they leave open
    door: Door  # which every client passes
    metrics: Metrics
    lag: LoopLag


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
        middleware=[
            Middleware(Guard, access=access),  # outside, since the answer to too long a body has a code, too
            Middleware(RequestBodyLimitMiddleware, max_body_size=access.limits.max_message_bytes),
        ],
    )
    _add_health(app, served, access)
    _add_model(app, served)
    add_refusals(app)
    add_session_api(app, served.sessions, served.settings)
    add_pages(app)

    @app.websocket("/ws")
    async def ws(socket: WebSocket, session: str | None = None, after_seq: str | None = None) -> None:
        await serve_client(socket, served.sessions, served.door, session, after_seq)

    return app


def _add_health(app: FastAPI, served: Served, access: Access) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the process is alive, and what a page must know before it connects."""
        sessions = served.sessions
        hubs = [session.hub for session in sessions.rooms.values()]
        return {
            "status": "ok",
            "session": sessions.default.state,
            "clients": sum(hub.n_clients for hub in hubs),
            "dropped": sum(hub.n_dropped for hub in hubs),
            "evicted": served.door.watchdog.n_evicted,
            "token_required": access.token is not None,
            "loop_lag_s": round(served.lag.seconds, 3),
            **({} if access.token else {"sessions": {name: s.state for name, s in sessions.rooms.items()}}),
        }

    @app.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Numbers for monitoring systems, in Prometheus' text format."""
        return Response(served.metrics.render(), media_type=CONTENT_TYPE)

    @app.get("/readyz", responses={503: {"description": "No predictions come; the reasons."}})
    async def readyz() -> JSONResponse:
        """Whether predictions come from every session that was started; 503 with the reasons where not."""
        reasons = served.sessions.why_not_ready()
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
        running = served.model.info.model_dump(include={"id", "sha256", "config_hash", "runner", "device"})
        return {**served.model.card, **running}
