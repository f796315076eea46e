"""The security middleware: who may connect, and what a browser may do with the pages.

Starlette accepts a WebSocket from the page of any site, so a page elsewhere could read a participant's emotions
from the user's own machine. Host and Origin are therefore checked here, for HTTP and WebSocket alike, and after them
the token and the number of clients. To be read in this order: headers and paths, the checks of host and origin,
refusals, ``SecurityMiddleware``.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clmer_server.settings import is_loopback
from clmer_server.web.auth import Access, TokenCheck, Verdict, without_bearer
from clmer_server.web.limits import ConnectionCounter

RESPONSE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",  # BokehJS puts styles into the page
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # a browser asks first, so that an upgrade never mixes old and new scripts
}
"""Sent with every HTTP response, and with every refusal of a handshake."""

AUTHENTICATED = "clmer_authenticated"
"""Key in a scope's state: whether the request carried the token, or needs none."""

BODY_TOO_LONG = "body_too_long"
"""Code of the refusal of a request whose body is too long."""

OPEN_PATHS = ("/", "/healthz", "/favicon.ico")
"""Paths that need no token: the page that asks for it, and the check whether the process is alive."""

OPEN_FOLDERS = ("/static/", "/bokeh/")
"""Folders that need no token: scripts and styles of the page, which contain nothing about anybody."""

_HOW_TO_SEND = "send it as the header 'Authorization: Bearer TOKEN', or on /ws as a subprotocol or in the first message"


def host_allowed(host_header: str | None, bound_host: str, others: Collection[str] = ()) -> bool:
    """Return whether a request's host is this one, and not a foreign name that points here.

    Args:
        host_header: The request's ``Host``.
        bound_host: Where the service listens. Off loopback, addresses and this machine's own name are allowed too.
        others: Further names of this machine.
    """
    host = _host_of(f"//{host_header}") if host_header else None
    if host is None:
        return False
    if is_loopback(host) or host == bound_host.lower() or host in others:
        return True
    return not is_loopback(bound_host) and (_is_address(host) or host == socket.gethostname().lower())


def origin_allowed(origin: str | None, host_header: str | None, others: Collection[str] = ()) -> bool:
    """Return whether a page of this origin may connect: our own, one served on this machine, or no page at all.

    Args:
        origin: The request's ``Origin``.
        host_header: The request's ``Host``.
        others: Further origins that may.
    """
    if origin is None:
        return True
    host = _host_of(origin)
    if host is None:
        return False
    own = urlsplit(origin).netloc.lower() == (host_header or "").lower()
    return own or is_loopback(host) or origin.lower() in others


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class RefusalBody(BaseModel):
    """Body of the response to a request that is refused."""

    code: str  # from the protocol's table
    message: str


REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": RefusalBody, "description": "The request cannot be meant so."},
    401: {"model": RefusalBody, "description": "The service's token is missing or wrong."},
    403: {"model": RefusalBody, "description": "The host or the page is a foreign one."},
    413: {"model": RefusalBody, "description": "The body is too long."},
    500: {"model": RefusalBody, "description": "A fault of the service; its log has the cause."},
}
"""Refusals that any request may get, for the OpenAPI document."""


@dataclass(frozen=True)
class Refusal:
    """The reason for which a request is refused before it is handled."""

    status: HTTPStatus
    code: str  # from the protocol's table
    message: str

    def response(self) -> JSONResponse:
        """Return the answer."""
        headers = {"www-authenticate": "Bearer"} if self.status is HTTPStatus.UNAUTHORIZED else None
        content = RefusalBody(code=self.code, message=self.message)
        return JSONResponse(content.model_dump(), status_code=self.status, headers=headers)


class SecurityMiddleware:
    """ASGI middleware: refuses requests that are not allowed, and adds the security headers.

    A WebSocket without a token is passed on with ``scope["state"][AUTHENTICATED]`` False, since its first message
    may bring one. The subprotocol that carries a token is taken out of the scope.

    Args:
        app: The application behind it.
        access: Who may connect.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._check = TokenCheck(access.token)
        self._connections = ConnectionCounter(access.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request; pass any other on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        send = _with_security_headers(send)
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            await refusal.response()(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._admit(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        host, origin = headers.get("host"), headers.get("origin")
        if not host_allowed(host, self._access.bound_host, self._access.hosts):
            return Refusal(HTTPStatus.FORBIDDEN, "host_refused", f"no service for the host {host!r} here")
        if not origin_allowed(origin, host, self._access.origins):
            return Refusal(HTTPStatus.FORBIDDEN, "origin_refused", f"pages of {origin!r} may not connect")
        if self._check.is_in_query(scope["query_string"]):
            return Refusal(
                HTTPStatus.BAD_REQUEST, "token_in_url", f"an address is no place for a token; {_HOW_TO_SEND}"
            )
        verdict = self._check.verdict(headers, scope.get("subprotocols", ()))
        if verdict is Verdict.WRONG:
            return Refusal(HTTPStatus.UNAUTHORIZED, "token_wrong", "this is not the service's token")
        scope.setdefault("state", {})[AUTHENTICATED] = verdict is Verdict.GRANTED
        return self._refusal_of_request(scope, headers) if scope["type"] == "http" else None

    def _refusal_of_request(self, scope: Scope, headers: Headers) -> Refusal | None:
        if not scope["state"][AUTHENTICATED] and not _is_open(scope["path"]):
            return Refusal(HTTPStatus.UNAUTHORIZED, "token_missing", f"this needs the service's token; {_HOW_TO_SEND}")
        if self._too_long(headers.get("content-length")):
            text = f"expected a body of at most {self._access.limits.max_message_bytes} bytes, found a longer one"
            return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, BODY_TOO_LONG, text)
        return None

    def _too_long(self, content_length: str | None) -> bool:
        """Return whether a body declares too great a length; one that declares none is counted as it comes."""
        digits = content_length or ""
        return digits.isascii() and digits.isdigit() and int(digits) > self._access.limits.max_message_bytes

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = (scope.get("client") or ("", 0))[0]
        code = self._connections.refusal_code(address)
        if code is not None:
            message = "as many clients as may connect are connected; end one of them, or try again later"
            await Refusal(HTTPStatus.SERVICE_UNAVAILABLE, code, message).response()(scope, receive, send)
            return
        scope["subprotocols"] = without_bearer(scope["subprotocols"])
        self._connections.add(address)
        try:
            await self._app(scope, receive, send)
        finally:
            self._connections.remove(address)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            MutableHeaders(scope=message).update(RESPONSE_HEADERS)
        await send(message)

    return send_with_headers
