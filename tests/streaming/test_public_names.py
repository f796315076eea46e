"""Claims about the public names of ``clmer_streaming``."""

from __future__ import annotations

import subprocess
import sys

import clmer_streaming
from clmer_streaming import errors
from clmer_streaming.errors import ClmerError


def test_every_public_name_is_there_and_every_error_is_public() -> None:
    """What ``__all__`` lists can be imported; a name that it lacks is refused as by any module."""
    assert all(getattr(clmer_streaming, name) is not None for name in clmer_streaming.__all__)
    made = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, ClmerError)}
    assert made <= set(clmer_streaming.__all__) <= set(dir(clmer_streaming))
    assert not hasattr(clmer_streaming, "SampledTrack")


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Neither numpy nor scipy, before a name is used."""
    program = "import sys, clmer_streaming; print(sorted({'numpy', 'scipy', 'pylsl', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
