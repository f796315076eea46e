"""An LSL network of this program's own, on this machine only, and the rivals that may be missing."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

MISSING = "not installed: pip install clmer[bench]"
"""What the row of a rival says that is not there."""

_CONFIG = """\
[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session_id}
[log]
level = -2
"""


@contextmanager
def own_network() -> Iterator[Path]:
    """Give this process and its children an LSL network of their own; yield a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lsl_api.cfg"
        path.write_text(_CONFIG.format(session_id=f"clmer-bench-{os.getpid()}"))
        os.environ["LSLAPICFG"] = str(path)
        yield Path(folder)


def installed(*modules: str) -> bool:
    """Tell whether all of these packages can be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def versions(*distributions: str) -> str:
    """Return names and versions of installed distributions, for people."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)
