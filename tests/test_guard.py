"""Which hosts and origins are let in."""

from __future__ import annotations

import socket

import pytest

from clmer_server.guard import host_allowed, origin_allowed


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
