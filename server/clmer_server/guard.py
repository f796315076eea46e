"""Who may talk to the service, and what a browser may do with its pages.

Starlette accepts a WebSocket from the page of any site, so a page elsewhere could read a participant's emotions
from the user's own machine. Host and Origin are therefore checked here, for HTTP and WebSocket alike.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clmer_server.settings import is_loopback

RESPONSE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",  # BokehJS puts styles into the page
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # a browser asks first, so that an upgrade never mixes old and new scripts
}
"""Sent with every HTTP response."""


def host_allowed(host_header: str | None, bound_host: str) -> bool:
    """Return whether a request for this host is meant for us, and not a foreign name that points here.

    Args:
        host_header: The request's ``Host``.
        bound_host: Where the service listens. Off loopback, addresses and this machine's own name are allowed too.
    """
    host = _host_of(f"//{host_header}") if host_header else None
    if host is None:
        return False
    if is_loopback(host) or host == bound_host.lower():
        return True
    return not is_loopback(bound_host) and (_is_address(host) or host == socket.gethostname().lower())


def origin_allowed(origin: str | None, host_header: str | None) -> bool:
    """Return whether a page of this origin may connect: our own, one served on this machine, or no page at all."""
    if origin is None:
        return True
    host = _host_of(origin)
    if host is None:
        return False
    return is_loopback(host) or urlsplit(origin).netloc.lower() == (host_header or "").lower()


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


class Guard:
    """ASGI middleware: refuses foreign hosts and origins with 403, and adds the security headers.

    Args:
        app: The application behind it.
        bound_host: Where the service listens.
    """

    def __init__(self, app: ASGIApp, bound_host: str) -> None:
        self._app = app
        self._bound_host = bound_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request; pass any other on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if not host_allowed(host, self._bound_host):
            await _refuse("host_refused", f"no service for the host {host!r} here")(scope, receive, send)
        elif not origin_allowed(origin, host):
            await _refuse("origin_refused", f"pages of {origin!r} may not connect")(scope, receive, send)
        else:
            await self._app(scope, receive, _with_security_headers(send))


def _refuse(code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, status_code=403)


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(RESPONSE_HEADERS)
        await send(message)

    return send_with_headers
