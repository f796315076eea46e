"""What a person is told beside the numbers: the codes of notices, and the reasons of a goodbye."""

from __future__ import annotations

from enum import StrEnum


class NoticeCode(StrEnum):
    """What a notice is about. The vocabulary is stable; codes are only added."""

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
"""What each code says, as the protocol's page has it."""


class ByeReason(StrEnum):
    """Why the service ends a connection. The vocabulary is stable; reasons are only added."""

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
"""What each reason says, as the protocol's page has it."""
