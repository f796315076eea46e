"""Checks of the machine: Python, room on the disk, the port, open files."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path

from clmer_server.checks.check import Check, failed
from clmer_server.listening import open_listener
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.layout import FACE_CH_NAMES

PYTHONS = ((3, 11), (3, 13))
"""First version of Python that is supported, and the first one that is not any more."""

_PACKAGES = ("clmer", "numpy", "scipy", "torch", "pylsl", "opencv-python", "mediapipe", "fastapi", "websockets")

_RECORD_BYTES_PER_S = (
    128 * (19 * 4 + 9)  # EEG of a headset: 19 channels of float32, a stamp for each sample
    + 30 * (len(FACE_CH_NAMES) * 4 + 9)  # the face at 30 frames a second
    + 2 * 3000  # predictions, in the recording and as JSON
)
_ENOUGH_MIN, _LEAST_MIN = 120.0, 5.0  # minutes of recording: a session and some; less than a session
_ENOUGH_FILES = 256  # files and connections that a service with a handful of clients and streams opens


def check_python() -> Check:
    """Return the versions of Python and of the packages that matter most."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Check("python", "fail", f"Python {version}", "install Python 3.11 or 3.12, then make install")
    missing = [name for name in _PACKAGES if _version(name) == "missing"]
    if missing:
        return Check("python", "fail", f"Python {version} without {', '.join(missing)}", "install again: make install")
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return Check("python", "ok", f"Python {version} with {packages}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def check_disk(folder: Path) -> Check:
    """Return how many minutes of recording the disk under a folder holds.

    Args:
        folder: Where recordings go; it, or the nearest folder above that exists, is looked at.
    """
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        found = f"nothing can be written to {place}: {error.strerror or error}"
        return Check("disk", "fail", found, "name another folder with --record, or give yourself the right to write")
    minutes = shutil.disk_usage(place).free / _RECORD_BYTES_PER_S / 60
    found = f"room for {duration_text(minutes)} of recording in {place}"
    if minutes < _LEAST_MIN:
        return Check("disk", "fail", found, "make room, or record to another disk")
    return Check("disk", "ok", found) if minutes >= _ENOUGH_MIN else Check("disk", "warning", found, "make room")


def duration_text(minutes: float) -> str:
    """Return a duration for people: minutes up to two hours, then hours."""
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:,.0f} hours"


def check_port(host: str, port: int) -> Check:
    """Return whether the service could listen there now.

    Args:
        host: Name or address to listen at.
        port: Port.
    """
    try:
        open_listener(host, port).close()
    except SettingsError as error:
        return failed("port", error)
    return Check("port", "ok", f"{host}:{port} is free")


def check_open_files() -> Check:
    """Return how many files and connections the system allows this program."""
    try:
        import resource
    except ImportError:  # Windows, where there is no such limit
        return Check("open files", "ok", "not limited by the system")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or limit >= _ENOUGH_FILES:
        return Check("open files", "ok", f"{limit if limit >= 0 else 'any number'} allowed")
    found = f"{limit} allowed: few streams and clients at a time"
    return Check("open files", "warning", found, "ulimit -n 1024, before the service is started")
