"""What a client is told when its message cannot be acted upon: a code for programs, a sentence for people."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from clmer_server.protocol.parts import Part, RequestId


class ErrorCode(StrEnum):
    """Why a message was refused. The vocabulary is stable; codes are only added."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_TYPE = "unknown_type"
    BAD_FIELD = "bad_field"
    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_SESSION = "unknown_session"
    SESSION_RUNNING = "session_running"
    SESSION_NOT_RUNNING = "session_not_running"
    CLOCK_NOT_SYNCED = "clock_not_synced"
    CLOCK_IMPLAUSIBLE = "clock_implausible"
    TIME_IMPLAUSIBLE = "time_implausible"
    NOT_A_REPLAY = "not_a_replay"
    CALIBRATION_RUNNING = "calibration_running"
    CALIBRATION_NOT_RUNNING = "calibration_not_running"
    NOT_SUPPORTED = "not_supported"


MEANINGS: dict[ErrorCode, str] = {
    ErrorCode.BAD_MESSAGE: "Not an object with a `type`, in the encoding of the connection.",
    ErrorCode.UNKNOWN_TYPE: "No message of this type is known here.",
    ErrorCode.BAD_FIELD: "A field is missing, unknown, or cannot have this value.",
    ErrorCode.UNKNOWN_TOPIC: "There is no topic of this name.",
    ErrorCode.UNKNOWN_SESSION: "There is no session of this name.",
    ErrorCode.SESSION_RUNNING: "The session runs already.",
    ErrorCode.SESSION_NOT_RUNNING: "The session does not run, or has not begun to deliver.",
    ErrorCode.CLOCK_NOT_SYNCED: "The client's clock is not known yet: exchange `clock.sync` first.",
    ErrorCode.CLOCK_IMPLAUSIBLE: "The stamps of an exchange contradict each other, or belong to none.",
    ErrorCode.TIME_IMPLAUSIBLE: "The time lies more than an hour from now: probably another clock.",
    ErrorCode.NOT_A_REPLAY: "Only a replay can be paused or given another speed.",
    ErrorCode.CALIBRATION_RUNNING: "A calibration runs already.",
    ErrorCode.CALIBRATION_NOT_RUNNING: "No calibration runs that could be stopped.",
    ErrorCode.NOT_SUPPORTED: "This session cannot do that.",
}
"""What each code says, as the protocol's page has it."""


class ErrorMessage(Part):
    """The client's message could not be acted upon."""

    type: Literal["error"] = "error"
    id: RequestId | None = None  # of the client's message; null where it had none that could be read
    code: ErrorCode
    message: str
    fatal: bool = False  # whether the connection ends here
