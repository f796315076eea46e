"""Authentication: the service's token, TLS certificates, and who may connect.

A token comes as ``Authorization: Bearer``, as a subprotocol beside the protocol's own (browsers cannot set headers), or
in the first message. It is never read from an address: addresses are logged, shown and remembered. To be read in this
order: tokens, TLS, ``Access``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

from clmer_server.protocol.parts import Limits
from clmer_server.settings import ServeSettings, is_loopback
from clmer_streaming.errors import SettingsError

BEARER_SUBPROTOCOL = "clmer.bearer."
"""Prefix of a subprotocol that carries the token, in base64url without padding."""

TOKEN_BYTES = 24
"""Random bytes of a generated token."""

_NAMES_IN_URL = frozenset({"token", "access_token", "auth_token", "api_key", "apikey", "bearer", "authorization"})


class Verdict(StrEnum):
    """Result of a check of a request's token."""

    GRANTED = "granted"
    MISSING = "missing"
    WRONG = "wrong"


def new_token() -> str:
    """Return a new random token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def bearer_subprotocol(token: str) -> str:
    """Return the subprotocol that carries a token."""
    return BEARER_SUBPROTOCOL + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def without_bearer(subprotocols: Iterable[str]) -> list[str]:
    """Return the subprotocols without the token, which must not be echoed."""
    return [name for name in subprotocols if not name.startswith(BEARER_SUBPROTOCOL)]


class TokenCheck:
    """Compares tokens in constant time.

    Args:
        token: The service's; None: every request is granted.
    """

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)

    @property
    def required(self) -> bool:
        """Whether a token is asked for at all."""
        return self._digest is not None

    def holds(self, given: str) -> bool:
        """Return whether this is the token; always true where none is required."""
        return self._digest is None or hmac.compare_digest(_digest(given), self._digest)

    def verdict(self, headers: Headers, subprotocols: Iterable[str] = ()) -> Verdict:
        """Return whether header or subprotocols carry the token; one right one is enough."""
        if not self.required:
            return Verdict.GRANTED
        given = [*_from_header(headers), *_from_subprotocols(subprotocols)]
        if not given:
            return Verdict.MISSING
        return Verdict.GRANTED if any(map(self.holds, given)) else Verdict.WRONG

    def is_in_query(self, query: bytes) -> bool:
        """Return whether a query string carries a token, by a field's name or by its value."""
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        named = any(name.lower() in _NAMES_IN_URL for name, _ in fields)
        return named or (self.required and any(map(self.holds, chain(*fields))))


def _from_header(headers: Headers) -> list[str]:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return [token.strip()] if scheme.lower() == "bearer" else []


def _from_subprotocols(subprotocols: Iterable[str]) -> list[str]:
    carried = [name.removeprefix(BEARER_SUBPROTOCOL) for name in subprotocols if name.startswith(BEARER_SUBPROTOCOL)]
    return [_decoded(text) for text in carried]


def _decoded(text: str) -> str:
    """Return what was encoded in base64url; what is not is no token, and empty."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True)
class Tls:
    """A certificate and its key, which fit together."""

    cert: Path  # PEM, with the chain behind it
    key: Path  # PEM, without a password


def find_tls(cert: Path | None, key: Path | None) -> Tls | None:
    """Return the certificate and its key; None where neither is given.

    Raises:
        SettingsError: Only one is given, a file is missing, or they do not fit together.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise SettingsError(
            expected="a certificate and its key",
            found="only the key" if cert is None else "only the certificate",
            mend="give both --tls-cert and --tls-key, or neither",
        )
    for path in (cert, key):
        if not path.is_file():
            raise SettingsError("a PEM file", f"no file {path}", "correct --tls-cert or --tls-key")
    _try(cert, key)
    return Tls(cert, key)


def _try(cert: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SettingsError(
            expected="a certificate in PEM, and the key that belongs to it, without a password",
            found=f"{cert} and {key}: {getattr(error, 'reason', None) or error}",
            mend="give the files that were made together with --tls-cert and --tls-key",
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")


@dataclass(frozen=True)
class Access:
    """Who may connect, and with which limits."""

    bound_host: str  # decides which Host headers are our own
    token: str | None = field(default=None, repr=False)  # None: nobody needs one
    made_token: bool = False  # generated, so that it must be printed
    hosts: tuple[str, ...] = ()  # further names of this machine
    origins: tuple[str, ...] = ()  # pages elsewhere that may connect
    limits: Limits = field(default_factory=Limits)
    tls: Tls | None = None

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return is_loopback(self.bound_host)


def plan_access(settings: ServeSettings) -> Access:
    """Return who may connect. Off loopback every client needs a token; one is generated where the settings have none.

    Raises:
        SettingsError: The certificate or its key cannot be used.
    """
    given = settings.token.get_secret_value() if settings.token is not None else None
    made = given is None and not settings.on_loopback
    return Access(
        bound_host=settings.host,
        token=new_token() if made else given,
        made_token=made,
        hosts=settings.allow_host,
        origins=settings.allow_origin,
        limits=Limits(
            max_messages_per_s=settings.max_message_rate,
            max_connections=settings.max_clients,
            max_connections_per_address=settings.max_clients_per_address,
        ),
        tls=find_tls(settings.tls_cert, settings.tls_key),
    )


def access_text(access: Access) -> list[str]:
    """Return the lines about token and encryption that are printed at the start."""
    lines = []
    if access.made_token:
        lines.append(f"token      {access.token} (the dashboard and every client need it; it is shown only here)")
    elif access.token is not None:
        lines.append("token      the one that you gave; the dashboard and every client need it")
    if not access.on_loopback and access.tls is None:
        lines.append(
            "warning    open to the network without encryption: others on it can read token and emotions. "
            "Give --tls-cert and --tls-key"
        )
    return lines
