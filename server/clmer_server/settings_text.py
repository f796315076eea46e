"""The settings as a file that could be used again: ``clmer-serve --print-config``."""

from __future__ import annotations

import json
import math
from typing import Any

from clmer_server.settings import SETTINGS_FILE, ServeSettings

SECRET = "***"
"""Stands for a token, which is not printed."""

_SECRETS = frozenset({"token"})


def settings_text(settings: ServeSettings) -> str:
    """Return all settings as TOML; those without a value are comments, secrets are blanked out."""
    lines = [f"# The settings in force; as a file, {SETTINGS_FILE} in the working directory."]
    tables: list[str] = []
    given = [session.model_dump(mode="json", exclude_unset=True) for session in settings.sessions]
    for name, value in (settings.model_dump(mode="json") | {"sessions": given}).items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [line for table in value for line in ("", f"[[{name}]]", *_lines(table))]
        else:
            lines += _lines({name: value})
    return "\n".join([*lines, *tables])


def _lines(values: dict[str, Any]) -> list[str]:
    return [
        f"# {name} is not set" if value is None else f"{name} = {_toml(SECRET if name in _SECRETS else value)}"
        for name, value in values.items()
    ]


def _toml(value: Any) -> str:
    """Return a plain value in TOML; its strings, numbers, booleans and lists of these are written as in JSON."""
    return "inf" if isinstance(value, float) and math.isinf(value) else json.dumps(value, ensure_ascii=False)
