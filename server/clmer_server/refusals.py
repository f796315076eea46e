"""How requests that cannot be done are answered over HTTP: a code for programs, a sentence for people."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from clmer_server.guard import BODY_TOO_LONG, RESPONSE_HEADERS, RefusalBody
from clmer_server.protocol.errors import UNEXPECTED
from clmer_server.rooms import RefusalError

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
    answer.headers.update(RESPONSE_HEADERS)  # it goes past the guard, which gives them to all others
    return answer


def _methods(request: Request) -> list[str]:
    """Return what may be asked of this path (RFC 9110, 10.2.1); each method is a route of its own."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


def _answer(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(RefusalBody(code=code, message=message).model_dump(), status_code=status)
