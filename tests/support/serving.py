"""Starts the real service in its own process, for tests that look at it from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from clmer_server.protocol.codes import PROTOCOL

END_TIMEOUT_S = 30.0
"""How long a process may take to end before the test fails."""


@dataclass(frozen=True)
class Service:
    """A running ``clmer-serve``."""

    process: subprocess.Popen[str]
    address: str  # host and port

    @property
    def url(self) -> str:
        """Where its dashboard is."""
        return f"http://{self.address}/"

    def connect(self, protocol: str = PROTOCOL, query: str = "", **options: Any) -> ClientConnection:
        """Open its WebSocket; the options are those of ``websockets``."""
        options = {"subprotocols": [Subprotocol(protocol)], **options}
        client: ClientConnection = connect(f"ws://{self.address}/ws{query}", proxy=None, **options)
        return client

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask for a page."""
        with httpx.Client(trust_env=False, timeout=10) as client:
            return client.get(f"http://{self.address}{path}", headers=headers)

    def end(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Signal the process; return its exit code and the seconds it took."""
        start = time.monotonic()
        self.process.send_signal(by)
        return self.process.wait(END_TIMEOUT_S), time.monotonic() - start


def clean_environment() -> dict[str, str]:
    """The environment without settings of the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CLMER_")}


@contextlib.contextmanager
def serving(folder: Path, *options: str | Path) -> Iterator[Service]:
    """Run ``clmer-serve`` on a free port until the context ends.

    Args:
        folder: Where it runs; holds no settings.
        options: Of the command line.
    """
    with running(folder, "-m", "clmer_server", "--port", "0", *map(str, options)) as service:
        yield service


@contextlib.contextmanager
def running(folder: Path, *program: str, python_path: str = "") -> Iterator[Service]:
    """Run a Python program that serves, and says where as ``clmer-serve`` does, until the context ends.

    Args:
        folder: Where it runs.
        program: Of Python's command line.
        python_path: Where it imports from, beside what is installed.
    """
    with (folder / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=folder,
            env={**clean_environment(), "PYTHONPATH": python_path},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield Service(process, _address(process.stdout, folder / "stderr.txt"))
        finally:
            process.kill()
            process.communicate(timeout=END_TIMEOUT_S)


def _address(stdout: IO[str], stderr: Path) -> str:
    """Read the start-up text up to the address of the WebSocket."""
    for line in stdout:
        if found := re.match(r"websocket +wss?://(.+)/ws$", line):
            return found.group(1).replace("0.0.0.0", "127.0.0.1")
    raise AssertionError(f"the service did not start: {stderr.read_text()}")
