"""Tokens: where they are looked for, and what is not one."""

from __future__ import annotations

import base64

import pytest
from starlette.datastructures import Headers

from clmer_server.auth import TokenCheck, Verdict, bearer_subprotocol, new_token, without_bearer

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
