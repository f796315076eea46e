"""How the service's process ends once everything is closed: at once.

The interpreter's own end takes torch, MediaPipe and some hundred thousand objects apart: about a second, several on a
busy machine. It also waits for every thread of a pool, so that a device that hangs would hold it up for ever. Nothing
of that is needed: recordings are closed, clients and listeners have gone, and the system takes the rest back.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import NoReturn

CHILD_TIMEOUT_S = 0.5
"""How long a child process that is still there may take to end."""


def end_with(run: Callable[[], int]) -> NoReturn:
    """Run a program that closes what it opens, and end the process with its exit code at once.

    Child processes that are still there are ended; logs and output are written out first.

    Args:
        run: Returns the exit code, or raises ``SystemExit``.
    """
    try:
        code = run()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    for child in multiprocessing.active_children():
        child.kill()
        child.join(CHILD_TIMEOUT_S)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
