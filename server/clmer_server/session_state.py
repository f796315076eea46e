"""What a session is doing, from its start to its one end."""

from __future__ import annotations

import threading
from enum import StrEnum

from pydantic import ValidationError

from clmer_server.protocol.errors import UNEXPECTED
from clmer_streaming.errors import ClmerError


class SessionState(StrEnum):
    """What a session is doing."""

    WAITING = "waiting"  # not started
    RUNNING = "running"
    ENDED = "ended"  # its sources have nothing more
    FAILED = "failed"
    STOPPED = "stopped"


class SessionLife:
    """The state of one run of a session; its methods may be called in any thread."""

    def __init__(self) -> None:
        self.state = SessionState.WAITING
        self.failure: Exception | None = None  # why it failed
        self._lock = threading.Lock()  # guards both

    def begin(self) -> bool:
        """Let it run; False where it was started or stopped before."""
        with self._lock:
            if self.state is not SessionState.WAITING:
                return False
            self.state = SessionState.RUNNING
            return True

    def end(self, state: SessionState, failure: Exception | None = None) -> bool:
        """Take the last state; False where it had ended before."""
        with self._lock:
            if self.state not in (SessionState.WAITING, SessionState.RUNNING):
                return False
            self.state, self.failure = state, failure
            return True


def describe(error: Exception) -> str:
    """Return an error as one line for clients; of one that nobody foresaw, no more than its kind."""
    if isinstance(error, ClmerError):
        return f"expected {error.expected}, found {error.found}; {error.mend}"
    return f"{type(error).__name__}: {UNEXPECTED}"


def describe_in_log(error: Exception) -> str:
    """Return an error as one line for the log, which holds no values that a message has."""
    if isinstance(error, ClmerError):
        return describe(error)
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return f"{type(error).__name__} of {error.title}: {found}"
    return f"{type(error).__name__}: {error}"
