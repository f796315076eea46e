"""Exported files: made for their owner alone, and noted in the session's folder, so that who deletes it is told."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clmer_server.archive.folders import StoredSession

EXPORTS_FILE = "exports.jsonl"


@contextlib.contextmanager
def owner_only() -> Iterator[None]:
    """Let nobody but their owner read the files and folders that this process makes; those that are there stay."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def note_export(stored: StoredSession, kind: str, files: Sequence[Path]) -> None:
    """Note files that were written; a folder that cannot be written to goes without.

    Args:
        stored: The session.
        kind: Format of the export.
        files: What was written.
    """
    line = json.dumps({"unix_time": time.time(), "format": kind, "files": [str(path.resolve()) for path in files]})
    try:
        with (stored.path / EXPORTS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        return


def exports_made(stored: StoredSession) -> list[dict[str, Any]]:
    """Return what was noted, oldest first; lines that cannot be read are left out."""
    try:
        lines = (stored.path / EXPORTS_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(dict(json.loads(line)))
    return found
