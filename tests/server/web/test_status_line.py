"""Claims about the line in which a service says what it waits for."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clmer_server.metrics import Reading
from clmer_server.protocol.parts import StreamEntry
from clmer_server.web.status_line import StatusLine, status_text

BINARY = Path(sys.executable).with_name("clmer-serve")


def entry(kind: str = "eeg", state: str = "live", reason: str = "", rate_hz: float | None = 128.0) -> StreamEntry:
    return StreamEntry.model_validate(
        {
            "source": kind, "kind": kind, "name": "EPOC", "state": state, "since": 1.0, "reason": reason,
            "nominal_rate_hz": 128.0, "rate_hz": rate_hz, "drift_ppm": None, "n_samples": 1, "n_gaps": 0,
            "n_bridged": 0, "n_lost": 0, "n_dropped": 0, "chunk_s": 0.1,
        }
    )  # fmt: skip


def reading(*streams: StreamEntry, **others: tuple[StreamEntry, ...]) -> Reading:
    sessions = {"one": streams, **others}
    return Reading(sessions, set(sessions), n_clients=1, n_dropped=0)


def test_what_is_absent_stands_first_with_its_reason() -> None:
    """A headset that is not there, and a camera that is: the line names the one that is waited for."""
    text = status_text(reading(entry(state="connecting", reason="no EEG stream found yet"), entry("face")))
    assert text == "waiting: eeg connecting (no EEG stream found yet); 1 client"


def test_what_is_live_stands_with_its_rate_and_what_is_odd() -> None:
    """Rates as they are measured; a sentence of the status stays with its stream."""
    text = status_text(reading(entry(reason="declares 160 Hz, runs at 128 Hz"), entry("face", rate_hz=29.97)))
    assert text == "live: eeg EPOC at 128 Hz (declares 160 Hz, runs at 128 Hz), face EPOC at 29.97 Hz; 1 client"


def test_several_sessions_are_told_apart() -> None:
    """Each by its name."""
    text = status_text(reading(entry(), two=(entry(state="lost"),)))
    assert text == "one: live: eeg EPOC at 128 Hz; two: waiting: eeg lost; 1 client"


def test_a_log_has_a_line_for_a_change_and_no_more() -> None:
    """Where nobody looks the same thing is not written twice, and no control characters are."""
    out = io.StringIO()

    async def look() -> None:
        task = asyncio.create_task(StatusLine(lambda: reading(entry()), out).run())
        await asyncio.sleep(1.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(look())
    assert out.getvalue() == "live: eeg EPOC at 128 Hz; 1 client\n"


def test_a_terminal_shows_what_a_service_waits_for(tmp_path: Path) -> None:
    """One line, renewed in place, while there is no headset; a real service in a real terminal."""
    main, child = pty.openpty()
    command = [str(BINARY), "--camera", "none", "--port", "0"]
    with subprocess.Popen(command, stdout=child, stderr=child, cwd=tmp_path) as process:
        os.close(child)
        try:
            seen, deadline = "", time.monotonic() + 60.0
            while "waiting: eeg connecting" not in seen and time.monotonic() < deadline:
                seen += os.read(main, 4096).decode(errors="replace")
        finally:
            process.terminate()
            process.wait(20)
            os.close(main)
    assert re.search(r"\r\x1b\[2Kwaiting: eeg connecting \(no EEG stream found yet", seen)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_line_of_the_log_pushes_the_status_aside(in_place: bool) -> None:
    """In a terminal the line is cleared before the log writes; elsewhere there is nothing to clear."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return in_place

    out, root = Terminal(), logging.getLogger()
    handler = logging.StreamHandler(out)
    root.addHandler(handler)

    async def look() -> None:
        task = asyncio.create_task(StatusLine(lambda: reading(entry()), out).run())
        await asyncio.sleep(0.2)
        root.error("the disk is full")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        asyncio.run(look())
    finally:
        root.removeHandler(handler)
    before, _, _ = out.getvalue().partition("the disk is full")
    assert before.endswith("\r\x1b[2K" if in_place else "1 client\n")
