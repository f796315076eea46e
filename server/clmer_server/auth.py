"""Whether a request brings the service's token, and never a word of it anywhere else.

A token comes as ``Authorization: Bearer``, as a subprotocol beside the protocol's own (browsers cannot set headers), or
in the first message. It is never taken from an address: addresses are logged, shown and remembered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from enum import StrEnum
from itertools import chain
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

BEARER_SUBPROTOCOL = "clmer.bearer."
"""What comes before the token, in base64url without padding, when it comes as a subprotocol."""

TOKEN_BYTES = 24
"""Random bytes of a token that the service makes."""

_NAMES_IN_URL = frozenset({"token", "access_token", "auth_token", "api_key", "apikey", "bearer", "authorization"})


class Verdict(StrEnum):
    """What a request says of the token."""

    GRANTED = "granted"
    MISSING = "missing"
    WRONG = "wrong"


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def bearer_subprotocol(token: str) -> str:
    """Return the subprotocol that carries a token."""
    return BEARER_SUBPROTOCOL + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def without_bearer(subprotocols: Iterable[str]) -> list[str]:
    """Return the subprotocols without the token, which must never be echoed."""
    return [name for name in subprotocols if not name.startswith(BEARER_SUBPROTOCOL)]


class TokenCheck:
    """Compares tokens, in a time that says nothing of where they differ.

    Args:
        token: The service's; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)

    @property
    def required(self) -> bool:
        """Whether a token is asked for at all."""
        return self._digest is not None

    def holds(self, given: str) -> bool:
        """Return whether this is the token; anything is where none is asked for."""
        return self._digest is None or hmac.compare_digest(_digest(given), self._digest)

    def verdict(self, headers: Headers, subprotocols: Iterable[str] = ()) -> Verdict:
        """Return what header and subprotocols say; one right token is enough."""
        if not self.required:
            return Verdict.GRANTED
        given = [*_from_header(headers), *_from_subprotocols(subprotocols)]
        if not given:
            return Verdict.MISSING
        return Verdict.GRANTED if any(map(self.holds, given)) else Verdict.WRONG

    def is_in_query(self, query: bytes) -> bool:
        """Return whether an address carries a token, by its name or by itself."""
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
