"""Tokens: where they are looked for, and what is not one."""

from __future__ import annotations

import base64
import socket

import pytest
from starlette.datastructures import Headers

from clmer_server.web.auth import TokenCheck, Verdict, bearer_subprotocol, new_token, without_bearer
from clmer_server.web.middleware import host_allowed, origin_allowed

TOKEN = "this-token-is-long"
OTHER = "another-token-and-long"


def verdict(authorization: str | None = None, *subprotocols: str) -> Verdict:
    headers = {} if authorization is None else {"Authorization": authorization}
    return TokenCheck(TOKEN).verdict(Headers(headers), subprotocols)


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "expected"),
    [
        (f"Bearer {TOKEN}", (), Verdict.GRANTED),
        (f"bearer  {TOKEN} ", (), Verdict.GRANTED),
        (None, ("clmer.v1.json", bearer_subprotocol(TOKEN)), Verdict.GRANTED),
        (f"Bearer {OTHER}", (bearer_subprotocol(TOKEN),), Verdict.GRANTED),
        (f"Bearer {OTHER}", (), Verdict.WRONG),
        ("Bearer", (), Verdict.WRONG),
        (None, (bearer_subprotocol(OTHER),), Verdict.WRONG),
        (None, ("clmer.bearer.not base64!",), Verdict.WRONG),
        (None, ("clmer.bearer./w",), Verdict.WRONG),
        (None, ("clmer.bearer.",), Verdict.WRONG),
        (f"Basic {base64.b64encode(TOKEN.encode()).decode()}", (), Verdict.MISSING),
        (None, ("clmer.v1.json",), Verdict.MISSING),
    ],
)
def test_a_token_is_found_in_header_and_subprotocols(
    authorization: str | None, subprotocols: tuple[str, ...], expected: Verdict
) -> None:
    """One right token is enough; what is not one never raises."""
    assert verdict(authorization, *subprotocols) is expected


def test_without_a_token_everybody_comes_in() -> None:
    """On this machine alone; a client that shows one all the same is not turned away."""
    check = TokenCheck(None)
    assert not check.required
    assert check.verdict(Headers({"Authorization": "Bearer x"})) is Verdict.GRANTED
    assert check.verdict(Headers({})) is Verdict.GRANTED


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"token=x", True),
        (b"a=1&Access_Token=", True),
        (f"q={TOKEN}".encode(), True),
        (TOKEN.encode() + b"=", True),
        (b"tokens=2&q=token", False),
        (b"%ff=%00", False),
        (b"", False),
    ],
)
def test_a_token_in_an_address_is_noticed(query: bytes, found: bool) -> None:
    """By the name of its field, or because it is the token itself."""
    assert TokenCheck(TOKEN).is_in_query(query) is found


def test_the_subprotocol_of_the_token_is_taken_out() -> None:
    """It would be echoed otherwise."""
    assert without_bearer(["clmer.v1.json", bearer_subprotocol(TOKEN)]) == ["clmer.v1.json"]


def test_no_two_tokens_are_equal() -> None:
    """And each is long enough for the settings."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32


@pytest.mark.parametrize(
    ("host", "bound", "allowed"),
    [
        ("127.0.0.1:8765", "127.0.0.1", True),
        ("localhost:8765", "127.0.0.1", True),
        ("[::1]:8765", "::1", True),
        ("evil.example:8765", "127.0.0.1", False),  # a foreign name that resolves to this machine
        ("192.168.1.5:8765", "127.0.0.1", False),
        ("192.168.1.5:8765", "0.0.0.0", True),
        (f"{socket.gethostname()}:8765", "0.0.0.0", True),
        ("evil.example:8765", "0.0.0.0", False),
        ("lab-pc:8765", "lab-pc", True),
        ("[::1", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        (None, "127.0.0.1", False),
    ],
)
def test_only_our_own_hosts_are_served(host: str | None, bound: str, allowed: bool) -> None:
    """A name that somebody else owns must not reach a service on this machine."""
    assert host_allowed(host, bound) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "127.0.0.1:8765", True),  # no browser
        ("http://localhost:3000", "127.0.0.1:8765", True),
        ("http://192.168.1.5:8765", "192.168.1.5:8765", True),  # our own dashboard
        ("http://192.168.1.5:9999", "192.168.1.5:8765", False),
        ("https://evil.example", "127.0.0.1:8765", False),
        ("null", "127.0.0.1:8765", False),  # a sandboxed page or a file
        ("http://[", "127.0.0.1:8765", False),
    ],
)
def test_only_pages_of_this_machine_may_connect(origin: str | None, host: str, allowed: bool) -> None:
    """A page of any other site could read a participant's emotions."""
    assert origin_allowed(origin, host) is allowed
