"""What ``clmer verify`` found, kept beside the recording, so that a list of sessions can tell it."""

from __future__ import annotations

import contextlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

from clmer_server.recording_folder import PREDICTIONS_FILE, SESSION_FILE
from clmer_server.verification import Verdict

VERDICT_FILE = "verdict.json"

Verified: TypeAlias = Literal["yes", "differs", "no"]
"""Whether a recording was verified and passed, did not pass, or was not verified since it last changed."""


def keep_verdict(recording: Path, verdict: Verdict) -> None:
    """Keep what came of a verification in the session's folder; one that cannot be written to stays as it is."""
    if recording.name != SESSION_FILE or not (recording.parent / PREDICTIONS_FILE).is_file():
        return
    told = {
        "passed": verdict.passed,
        "windows": verdict.n_windows,
        "equal": verdict.n_equal,
        "largest_difference": verdict.largest,
        "clmer": version("clmer"),
        "unix_time": time.time(),
        "recording": recording_state(recording),
    }
    with contextlib.suppress(OSError):
        (recording.parent / VERDICT_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def verified(recording: Path) -> Verified:
    """Return what the last verification of a recording found."""
    try:
        told = json.loads((recording.parent / VERDICT_FILE).read_text(encoding="utf-8"))
        current = told["recording"] == recording_state(recording)
        return ("yes" if told["passed"] else "differs") if current else "no"
    except (OSError, ValueError, KeyError, TypeError):
        return "no"


def recording_state(recording: Path) -> list[int]:
    """Return what changes with the file: its size, and when it was last written to."""
    stat = recording.stat()
    return [stat.st_size, stat.st_mtime_ns]
