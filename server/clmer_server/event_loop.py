"""The event loop under the service."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop: uvloop's, which takes less processor time per message; None is asyncio's own.

    uvloop does not exist on Windows, where asyncio's loop is taken.
    """
    if sys.platform == "win32":
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return make
