"""Names and codes of the protocol: errors, notices, reasons of ``bye``, encodings; each code with its meaning.

Errors carry a code for programs and a sentence for people. To be read in this order: errors, notices, ``bye``,
subprotocols, ``RefusalError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal, TypeAlias

from clmer_server.protocol.parts import Part, RequestId


class ErrorCode(StrEnum):
    """Why a message was refused. Codes are only added, never changed."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_TYPE = "unknown_type"
    BAD_FIELD = "bad_field"
    UNKNOWN_TOPIC = "unknown_topic"
    UNKNOWN_SESSION = "unknown_session"
    SESSION_RUNNING = "session_running"
    SESSION_NOT_RUNNING = "session_not_running"
    DEVICE_IN_USE = "device_in_use"
    RECORDING_OFF = "recording_off"
    CANNOT_START = "cannot_start"
    CLOCK_NOT_SYNCED = "clock_not_synced"
    CLOCK_IMPLAUSIBLE = "clock_implausible"
    TIME_IMPLAUSIBLE = "time_implausible"
    NOT_A_REPLAY = "not_a_replay"
    CALIBRATION_RUNNING = "calibration_running"
    CALIBRATION_NOT_RUNNING = "calibration_not_running"
    NOT_SUPPORTED = "not_supported"
    RATE_LIMITED = "rate_limited"
    TOKEN_MISSING = "token_missing"
    TOKEN_WRONG = "token_wrong"
    AUTH_TIMEOUT = "auth_timeout"
    INTERNAL_ERROR = "internal_error"


MEANINGS: dict[ErrorCode, str] = {
    ErrorCode.BAD_MESSAGE: "Not an object with a `type`, in the encoding of the connection.",
    ErrorCode.UNKNOWN_TYPE: "No message of this type is known here.",
    ErrorCode.BAD_FIELD: "A field is missing, unknown, or cannot have this value.",
    ErrorCode.UNKNOWN_TOPIC: "There is no topic of this name.",
    ErrorCode.UNKNOWN_SESSION: "There is no session of this name.",
    ErrorCode.SESSION_RUNNING: "The session runs already.",
    ErrorCode.SESSION_NOT_RUNNING: "The session does not run, has not begun to deliver, or has said `bye`.",
    ErrorCode.DEVICE_IN_USE: "Another session that runs has the headset or the camera.",
    ErrorCode.RECORDING_OFF: "The service has no folder to record in.",
    ErrorCode.CANNOT_START: "The session cannot start; the message says why.",
    ErrorCode.CLOCK_NOT_SYNCED: "The client's clock is not known yet: exchange `clock.sync` first.",
    ErrorCode.CLOCK_IMPLAUSIBLE: "The stamps of an exchange contradict each other, or belong to none.",
    ErrorCode.TIME_IMPLAUSIBLE: "The time lies more than an hour from now: probably another clock.",
    ErrorCode.NOT_A_REPLAY: "Only a replay can be paused or given another speed.",
    ErrorCode.CALIBRATION_RUNNING: "A calibration runs already.",
    ErrorCode.CALIBRATION_NOT_RUNNING: "No calibration runs that could be stopped.",
    ErrorCode.NOT_SUPPORTED: "This session cannot do that.",
    ErrorCode.RATE_LIMITED: "Too many messages; this one was not acted upon. Fatal for a client that goes on.",
    ErrorCode.TOKEN_MISSING: "The first message was no `hello` with the service's token. Fatal.",
    ErrorCode.TOKEN_WRONG: "This is not the service's token. Fatal.",
    ErrorCode.AUTH_TIMEOUT: "The token did not come in time. Fatal.",
    ErrorCode.INTERNAL_ERROR: "A fault of the service; its log has the cause. The message may have been acted upon.",
}
"""Meaning of each code, as docs/protocol.md has it."""

UNEXPECTED = "something went wrong here that nobody foresaw; the service's log says what"
"""Message of an error whose cause is only in the log, since it may contain what is not for everybody."""

REFUSALS: dict[str, str] = {
    "host_refused": "403: the request is for a host that is not this one.",
    "origin_refused": "403: pages of this origin may not connect.",
    "token_missing": "401: everything but `/healthz` and the page needs the service's token.",
    "token_wrong": "401: this is not the service's token.",
    "token_in_url": "400: an address is no place for a token, be it right or wrong.",
    "body_too_long": "413: the body is longer than `limits.max_message_bytes`; it is not read.",
    "protocol_unknown": "400: none of the subprotocols is one of these.",
    "bad_field": "400: `after_seq` is not the number of a prediction.",
    "unknown_session": "404: there is no session of the name that `/ws?session=` asks for.",
    "too_many_connections": "503: as many clients as may connect are connected.",
    "too_many_from_address": "503: as many clients as may connect from one address are connected.",
}
"""Codes of requests and handshakes that are refused over HTTP, before there is a connection."""


class ErrorMessage(Part):
    """The client's message could not be acted upon."""

    type: Literal["error"] = "error"
    id: RequestId | None = None  # of the client's message; null where it had none that could be read
    code: ErrorCode
    message: str
    fatal: bool = False  # whether the connection ends here


class NoticeCode(StrEnum):
    """What a notice is about. Codes are only added, never changed."""

    SESSION_STARTED = "session_started"
    SESSION_STOPPED = "session_stopped"
    SESSION_FAILED = "session_failed"
    SESSION_ENDED = "session_ended"
    SESSION_WARNING = "session_warning"
    INPUT_ENDED = "input_ended"
    REPLAY_ENDED = "replay_ended"
    RECORDING_WARNING = "recording_warning"
    RECORDING_GAP = "recording_gap"
    RECORDING_FAILED = "recording_failed"
    VIDEO_FAILED = "video_failed"
    OUTLETS_FAILED = "outlets_failed"
    CALIBRATION_DONE = "calibration_done"
    CALIBRATION_FAILED = "calibration_failed"


NOTICES: dict[NoticeCode, str] = {
    NoticeCode.SESSION_STARTED: "The session has been started again.",
    NoticeCode.SESSION_STOPPED: "The session has been stopped; its clients stay.",
    NoticeCode.SESSION_FAILED: "The session cannot go on; the message says why. `bye` follows.",
    NoticeCode.SESSION_ENDED: "A session beside your own has said `bye`: it failed or was removed. Yours goes on.",
    NoticeCode.SESSION_WARNING: "What a person should know before believing the numbers of a live session.",
    NoticeCode.INPUT_ENDED: "The sources of a live session have nothing more.",
    NoticeCode.REPLAY_ENDED: "The recording has been replayed to its end.",
    NoticeCode.RECORDING_WARNING: "What was odd about the recording that is replayed.",
    NoticeCode.RECORDING_GAP: "The disk is too slow: items are missing in what is recorded.",
    NoticeCode.RECORDING_FAILED: "The session is no longer recorded, and goes on.",
    NoticeCode.VIDEO_FAILED: "The video is no longer kept, and the session goes on.",
    NoticeCode.OUTLETS_FAILED: "The predictions and markers are no longer published on LSL, and the session goes on.",
    NoticeCode.CALIBRATION_DONE: "The participant has been measured; the message says on what, and where it is kept.",
    NoticeCode.CALIBRATION_FAILED: "The participant could not be measured; the message says what was missing.",
}
"""Meaning of each code, as docs/protocol.md has it."""


class ByeReason(StrEnum):
    """Why the service ends a connection. Reasons are only added, never changed."""

    SHUTDOWN = "shutdown"
    SESSION_FAILED = "session_failed"
    SESSION_REMOVED = "session_removed"
    RATE_LIMITED = "rate_limited"
    TOKEN_MISSING = "token_missing"
    TOKEN_WRONG = "token_wrong"
    AUTH_TIMEOUT = "auth_timeout"


GOODBYES: dict[ByeReason, str] = {
    ByeReason.SHUTDOWN: "The service ends.",
    ByeReason.SESSION_FAILED: "The session that welcomed you cannot go on.",
    ByeReason.SESSION_REMOVED: "The session that welcomed you has been taken out of the list.",
    ByeReason.RATE_LIMITED: "You went on sending too fast.",
    ByeReason.TOKEN_MISSING: "Your first message was no `hello` with the service's token.",
    ByeReason.TOKEN_WRONG: "Your first message had another token than the service's.",
    ByeReason.AUTH_TIMEOUT: "The token did not come in time.",
}
"""Meaning of each reason, as docs/protocol.md has it."""


ProtocolName: TypeAlias = Literal["clmer.v1.json", "clmer.v1.msgpack"]
"""Name of a WebSocket subprotocol of this service."""

PROTOCOL_VERSION = "1.0.0"
"""Version of the protocol: the first number is that of the names; the second grows with what is added."""

PROTOCOL: ProtocolName = "clmer.v1.json"
"""The subprotocol for a client that offers none."""


class Encoding(StrEnum):
    """Encoding of the messages of a connection: the end of its subprotocol's name."""

    JSON = "json"
    MSGPACK = "msgpack"


SUBPROTOCOLS: dict[str, Encoding] = {"clmer.v1.json": Encoding.JSON, "clmer.v1.msgpack": Encoding.MSGPACK}
"""Encoding of each subprotocol."""


def protocol_name(encoding: Encoding) -> ProtocolName:
    """Return the subprotocol of an encoding."""
    return "clmer.v1.json" if encoding is Encoding.JSON else "clmer.v1.msgpack"


class RefusalError(Exception):
    """A request that cannot be carried out; the client gets the code and the message, and stays connected.

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
        name: The name that was asked for.
        known: Names of the sessions that the message may contain.
    """
    names = ", ".join(known)
    expected = f"one of the sessions {names}" if names else "the name of a session"
    return RefusalError("unknown_session", f"expected {expected}, found {name[:64]!a}")
