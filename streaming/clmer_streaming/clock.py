"""The one clock of CLMER: seconds of ``pylsl.local_clock()``."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable


@functools.cache
def _clock() -> Callable[[], float]:
    """Return liblsl's clock, or the clock it uses on Linux where the library cannot be loaded."""
    try:
        from pylsl import local_clock
    except (ImportError, RuntimeError, OSError):
        return time.monotonic
    return local_clock  # type: ignore[no-any-return]


def local_clock() -> float:
    """Return now, in seconds of the LSL clock. Only sources and the session may ask."""
    return float(_clock()())
