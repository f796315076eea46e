"""Which network liblsl looks at: told to it before its first call, because it reads its settings only once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clmer_streaming.errors import SettingsError, StreamError

OWN_ID_PREFIX = "clmer-"
"""Source ids of this project's own outlets, which are never taken as input."""


def load_pylsl() -> Any:
    """Import pylsl.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as error:
        raise StreamError(
            expected="the liblsl library, for live streams",
            found=str(error).strip().splitlines()[0],
            mend="pip install mne-lsl, then set PYLSL_LIB to the liblsl file in its folder mne_lsl/lsl/lib",
        ) from error
    return pylsl


USER_VARIABLE = "LSLAPICFG"
"""Environment variable by which liblsl itself finds a file."""

_QUIET = "[log]\nlevel = -2\n"  # errors alone; by default liblsl tells of itself on stderr
_SECTION = re.compile(r"\[[^\[\]]+\]")
_SCOPES = ("machine", "link", "site", "organization", "global")


def set_up_lsl(config: Path | None = None) -> None:
    """Give liblsl its settings; call it before anything else of LSL.

    Without ``config`` the user's own file holds, where liblsl looks for it; where there is none either, liblsl
    keeps its defaults and is only made silent.

    Args:
        config: A file of liblsl's own kind (``lsl_api.cfg``).

    Raises:
        SettingsError: The file cannot be read, or liblsl would ignore it.
        StreamError: The platform's pylsl comes without the liblsl library.
    """
    text = _read(config) if config is not None else ""
    pylsl = load_pylsl()
    if config is None and any(_user_files()):
        return
    try:
        pylsl.set_config_content(text or _QUIET)  # not the file's name, over which the environment would win
    except NotImplementedError as error:
        if config is not None:
            raise SettingsError(
                expected="a liblsl that can be told its settings (1.17.7 or later)",
                found=f"liblsl {pylsl.library_version() / 100:.2f}",
                mend=f"set the environment variable {USER_VARIABLE}={config.resolve()} instead of --lsl-config",
            ) from error


def _user_files() -> Iterator[bool]:
    """Yield for each place where liblsl looks for a file whether there is one; content that is set would hide it.

    The places are those of liblsl's ``api_config.cpp``. A variable that names no file counts: liblsl says so.
    """
    yield bool(os.environ.get(USER_VARIABLE))
    yield Path("lsl_api.cfg").is_file()
    yield Path("~/lsl_api/lsl_api.cfg").expanduser().is_file()
    yield Path("/etc/lsl_api/lsl_api.cfg").is_file()


def _read(config: Path) -> str:
    """Return the file's text; refuse one that liblsl would drop as a whole, to take its defaults."""
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror or str(error) if isinstance(error, OSError) else "no text"
        raise SettingsError(
            expected="an LSL configuration file (--lsl-config)",
            found=f"{config}: {found}",
            mend="check the path; docs/finding-streams.md has examples",
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if mistake := _mistake(line.partition(";")[0].strip()):
            raise SettingsError(
                expected="an LSL configuration file: [section], name = value, and ; before remarks",
                found=f"{config}, line {number}: {mistake}",
                mend="correct the line; docs/finding-streams.md has examples",
            )
    return text


def _mistake(line: str) -> str:
    """Return what is wrong with a line; "" where nothing is."""
    if not line or _SECTION.fullmatch(line):
        return ""
    name, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        return repr(line)
    if name == "ResolveScope" and value not in _SCOPES:
        return f"{line!r}; the scopes are {', '.join(_SCOPES)}"
    return ""
