"""Loading pylsl and configuring liblsl, before its first use.

liblsl reads its configuration once, at its first call; ``set_up_lsl`` has to come before that. Every other module of
this package gets the library from ``load_pylsl``, so that a missing liblsl is one clear error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clmer_streaming.errors import SettingsError, StreamError

OWN_ID_PREFIX = "clmer-"
"""Prefix of the source ids of CLMER's own outlets; streams with it are never used as an input."""

USER_VARIABLE = "LSLAPICFG"
"""Environment variable that names the configuration file for liblsl itself."""

_QUIET = "[log]\nlevel = -2\n"  # errors only; by default liblsl writes notices to stderr
_SECTION = re.compile(r"\[[^\[\]]+\]")
_SCOPES = ("machine", "link", "site", "organization", "global")


def load_pylsl() -> Any:
    """Import pylsl and return the module.

    Raises:
        StreamError: pylsl finds no liblsl library on this platform.
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


def set_up_lsl(config: Path | None = None) -> None:
    """Configure liblsl. Call this before any other use of LSL in the process.

    Without ``config``, liblsl reads the user's own file if there is one; otherwise it keeps its defaults, and only its
    notices on stderr are switched off.

    Args:
        config: A liblsl configuration file (``lsl_api.cfg``).

    Raises:
        SettingsError: The file cannot be read, or liblsl would ignore it.
        StreamError: pylsl finds no liblsl library on this platform.
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
    """Yield for each place where liblsl looks for a configuration file whether there is one.

    The places are those of liblsl's ``api_config.cpp``. Setting the content would hide such a file. A variable that
    names a missing file counts: liblsl reports it.
    """
    yield bool(os.environ.get(USER_VARIABLE))
    yield Path("lsl_api.cfg").is_file()
    yield Path("~/lsl_api/lsl_api.cfg").expanduser().is_file()
    yield Path("/etc/lsl_api/lsl_api.cfg").is_file()


def _read(config: Path) -> str:
    """Return the file's text; refuse a file that liblsl would drop as a whole in favor of its defaults."""
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
