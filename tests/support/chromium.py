"""A headless Chromium of this machine, and a record of what a page in it does."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 15_000  # for anything that a page is to show, on a busy machine
OPTIONS = [
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def headless_chromium() -> Iterator[Browser]:
    """Start Chromium with an empty profile; the test fails, and says what to install, where there is none."""
    program = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if program is None:
        pytest.fail("no Chromium found: install it (Debian: apt-get install chromium)")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page did and received."""

    requests: list[str] = field(default_factory=list)  # addresses
    complaints: list[str] = field(default_factory=list)  # console errors and warnings, uncaught exceptions
    messages: list[dict[str, Any]] = field(default_factory=list)  # of the WebSocket
    n_previews: int = 0  # binary messages of the WebSocket

    def predictions(self) -> dict[int, dict[str, Any]]:
        """The predictions received so far, by ``seq``."""
        return {message["seq"]: message for message in self.messages if message["type"] == "prediction"}


def watch(page: Page) -> Seen:
    """Record from now on what the page does."""
    seen = Seen()

    def take(frame: str | bytes) -> None:
        if isinstance(frame, str):
            seen.messages.append(json.loads(frame))
        else:
            seen.n_previews += 1

    def on_socket(socket: WebSocket) -> None:
        seen.requests.append(socket.url)
        socket.on("framereceived", take)

    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("websocket", on_socket)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: seen.complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    return seen
