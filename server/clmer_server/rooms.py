"""What a connection knows of the sessions behind the service: rooms that it may listen to and act in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from clmer_server.hub import Hub
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Welcome
from clmer_streaming.types import Marker


class RefusalError(Exception):
    """What a client asked for cannot be done; it is told so, and goes on.

    Args:
        code: From the protocol's table of error codes.
        message: What was expected, what was found, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def unknown_session(name: str, known: Iterable[str] = ()) -> RefusalError:
    """Return the refusal of a name that no session has.

    Args:
        name: What was asked for.
        known: Names of all sessions; none for whom they are not to be told.
    """
    names = ", ".join(known)
    expected = f"one of the sessions {names}" if names else "the name of a session"
    return RefusalError("unknown_session", f"expected {expected}, found {name[:64]!a}")


@dataclass(frozen=True)
class StartRequest:
    """What a client may say when it starts a session; None leaves the session's setting as it is."""

    participant: str | None = None  # pseudonym
    consent_ref: str | None = None  # where the signed consent is filed
    record: bool | None = None


class Room(Protocol):
    """One session, as its clients see it. Every method is called on the event loop."""

    @property
    def hub(self) -> Hub:
        """The clients that listen to it."""

    def welcome(self) -> Welcome:
        """Return the first message for a client that connects now."""

    def mark(self, marker: Marker) -> None:
        """Take a marker into the session, where it is recorded and published like one from a stream.

        Raises:
            RefusalError: The session does not run.
        """

    def stream_time(self, t: float) -> float:
        """Return when ``t`` seconds of the LSL clock is for the session: in a replay, in the recording's time.

        Raises:
            RefusalError: It does not run, or has not begun to deliver.
        """

    def calibrate(self, kind: CalibrationKind, seconds: float | None) -> None:
        """Begin to measure the participant at rest, for so long or as long as is usual.

        Raises:
            RefusalError: This session cannot, or does so already.
        """

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Give a calibration up.

        Raises:
            RefusalError: None runs.
        """

    def control_replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Hold a replay or let it go on, and set its speed in recorded seconds per second; None changes nothing.

        Raises:
            RefusalError: The session is live.
        """


class Rooms(Protocol):
    """All sessions of the service. Every method is called on the event loop."""

    @property
    def rooms(self) -> Mapping[str, Room]:
        """Sessions by name, the default one first."""

    async def start(self, name: str, request: StartRequest) -> None:
        """Start a session that waits or has ended.

        Raises:
            RefusalError: There is none of this name, it runs, another one has its headset or camera, or it cannot
                start as it was asked to.
        """

    async def stop(self, name: str) -> None:
        """Stop a session; the others go on.

        Raises:
            RefusalError: There is none of this name, or it does not run.
        """
