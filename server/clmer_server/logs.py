"""The program's log on stderr: lines for people, or JSON objects for machines; never data of a participant.

Nothing at ``info`` or above contains probabilities, samples or landmarks. Tokens and passwords are replaced by ``***``
wherever they appear, in messages of libraries, too.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TypeAlias

LogFormat: TypeAlias = Literal["console", "json"]
"""Format of the lines."""

OF_SESSION = "session"
"""Key of the session that a line is about, as in ``extra={OF_SESSION: name}``."""

_SECRETS = re.compile(
    r"(?P<before>\bBearer\s+|clmer\.bearer\.|[?&]token=|\"token\":\s*\"|://[^/@\s:]*:)(?P<secret>[^\s\"'&@,]+)",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """Return the text with every token, and every password within an address, replaced by ``***``."""
    return _SECRETS.sub(lambda found: f"{found['before']}***", text)


class _Console(logging.Formatter):
    """One line for people, and the traceback below it where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _Json(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message and, where there are such, session and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if (session := getattr(record, OF_SESSION, None)) is not None:
            line["session"] = session
        if record.exc_info:
            line["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str, form: LogFormat = "console") -> None:
    """Send the program's log to stderr.

    Args:
        level: Least level to show: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        form: Lines for people, or JSON objects.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    logging.basicConfig(level=level.upper(), handlers=[handler])
