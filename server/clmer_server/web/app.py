"""The web application: dashboard, health, model, sessions and the WebSocket.

To be read in this order: ``create_app`` and its state, health and model, pages, errors.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import Match

from clmer_server.metrics import CONTENT_TYPE, LoopLag, Metrics
from clmer_server.protocol.asyncapi import asyncapi
from clmer_server.protocol.codes import PROTOCOL, PROTOCOL_VERSION, UNEXPECTED, RefusalError
from clmer_server.session.inference import ServedModel
from clmer_server.session.manager import SessionManager
from clmer_server.settings import ServeSettings
from clmer_server.web.auth import Access
from clmer_server.web.middleware import BODY_TOO_LONG, REFUSED, RESPONSE_HEADERS, RefusalBody, SecurityMiddleware
from clmer_server.web.sessions_api import add_session_api
from clmer_server.web.websocket import Handshake, serve_client


@dataclass(frozen=True)
class AppState:
    """State that the routes read."""

    manager: SessionManager
    model: ServedModel
    settings: ServeSettings  # of the service; new sessions get from it the options that they do not set
    handshake: Handshake
    metrics: Metrics
    lag: LoopLag


def create_app(state: AppState, access: Access) -> FastAPI:
    """Return the application.

    Args:
        state: What it answers from.
        access: Who may connect.
    """
    app = FastAPI(
        title="CLMER",
        docs_url=None,  # these pages load scripts from elsewhere; /openapi.json itself is served
        redoc_url=None,
        responses=REFUSED,
        middleware=[
            Middleware(
                SecurityMiddleware, access=access
            ),  # outside, since the answer to too long a body has a code, too
            Middleware(RequestBodyLimitMiddleware, max_body_size=access.limits.max_message_bytes),
        ],
    )
    _add_health(app, state, access)
    _add_model(app, state)
    add_refusals(app)
    add_session_api(app, state.manager, state.settings)
    add_pages(app)

    @app.websocket("/ws")
    async def ws(socket: WebSocket, session: str | None = None, after_seq: str | None = None) -> None:
        await serve_client(socket, state.manager, state.handshake, session, after_seq)

    return app


def _add_health(app: FastAPI, state: AppState, access: Access) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the process is alive, and what a page must know before it connects."""
        manager = state.manager
        hubs = [session.hub for session in manager.sessions.values()]
        return {
            "status": "ok",
            "session": manager.default.state,
            "clients": sum(hub.n_clients for hub in hubs),
            "dropped": sum(hub.n_dropped for hub in hubs),
            "evicted": state.handshake.watchdog.n_evicted,
            "token_required": access.token is not None,
            "loop_lag_s": round(state.lag.seconds, 3),
            **({} if access.token else {"sessions": {name: s.state for name, s in manager.sessions.items()}}),
        }

    @app.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Numbers for monitoring systems, in Prometheus' text format."""
        return Response(state.metrics.render(), media_type=CONTENT_TYPE)

    @app.get("/readyz", responses={503: {"description": "No predictions come; the reasons."}})
    async def readyz() -> JSONResponse:
        """Whether predictions come from every session that was started; 503 with the reasons where not."""
        reasons = state.manager.why_not_ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)


def _add_model(app: FastAPI, state: AppState) -> None:
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
        """The artifact's description of itself, and where it runs."""
        running = state.model.info.model_dump(include={"id", "sha256", "config_hash", "runner", "device"})
        return {**state.model.card, **running}


DASHBOARD = Path(__file__).parents[1] / "dashboard"
"""Folder of the page, its scripts and styles."""


def bokeh_scripts() -> dict[str, Path]:
    """Return the minified BokehJS files of the installed ``bokeh`` by name, without importing it."""
    spec = importlib.util.find_spec("bokeh")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "server" / "static" / "js"
    return {path.name: path for path in sorted(folder.glob("*.min.js"))}


def add_pages(app: FastAPI) -> None:
    """Serve the dashboard at ``/``, its files below ``/static/`` and BokehJS below ``/bokeh/``."""
    router = APIRouter()
    scripts = bokeh_scripts()

    @router.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(DASHBOARD / "index.html")

    @router.get("/bokeh/{name}", include_in_schema=False)
    def bokeh(name: str) -> FileResponse:
        if name not in scripts:
            raise HTTPException(status_code=404)
        return FileResponse(scripts[name], media_type="text/javascript")

    app.include_router(router)
    app.mount("/static", StaticFiles(directory=DASHBOARD), name="static")


STATUS_OF_CODE = {
    "bad_request": 422,
    "bad_field": 422,
    "unknown_session": 404,
    "session_exists": 409,
    "session_running": 409,
    "session_not_running": 409,
    "session_default": 409,
    "too_many_sessions": 409,
    "device_in_use": 409,
    "recording_off": 409,
    "cannot_start": 409,
    "internal_error": 500,
}
"""HTTP status of every refusal."""


def add_refusals(app: FastAPI) -> None:
    """Answer every refusal and every error of HTTP in one form."""
    app.add_exception_handler(RefusalError, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_bad_request)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_unexpected)


async def _answer_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusalError)
    return _answer(STATUS_OF_CODE.get(error.code, HTTPStatus.CONFLICT), error.code, error.message)


async def _answer_bad_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return _answer(STATUS_OF_CODE["bad_request"], "bad_request", f"{place}: {first['msg']}")


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.BAD_REQUEST:  # a body that cannot even be taken for text or JSON
        return _answer(STATUS_OF_CODE["bad_request"], "bad_request", f"the body: {error.detail}")
    status = HTTPStatus(error.status_code)
    code = BODY_TOO_LONG if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE else status.name.lower()
    answer = _answer(status, code, f"{error.detail}: {request.method} {request.url.path[:200]}")
    answer.headers.update(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["allow"] = ", ".join(_methods(request))
    return answer


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer what nobody foresaw; the error goes on to the web server, which logs it."""
    answer = _answer(STATUS_OF_CODE["internal_error"], "internal_error", UNEXPECTED)
    answer.headers.update(RESPONSE_HEADERS)  # it does not pass the middleware, which adds them to all others
    return answer


def _methods(request: Request) -> list[str]:
    """Return what may be asked of this path (RFC 9110, 10.2.1); each method is a route of its own."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


def _answer(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(RefusalBody(code=code, message=message).model_dump(), status_code=status)
