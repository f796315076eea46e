"""No damaged recording crashes, hangs or bloats the reader and the inspection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FUZZ = ROOT / "tests" / "support" / "xdf_fuzz.py"


def fuzz(seed: int, n_files: int, folder: Path) -> dict[str, float]:
    """Run the fuzzer in a process of its own, whose memory is its own, and return what it saw."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(FUZZ), str(seed), str(n_files), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{folder / 'damaged.xdf'}: {run.stderr}"
    seen: dict[str, float] = json.loads(run.stdout)
    return seen


def assert_harmless(seen: dict[str, float]) -> None:
    assert seen["slowest_s"] < 5.0
    assert seen["peak_mib"] < 1024
    assert seen["files"] / 2 < seen["read"] < seen["files"]  # both ways out were taken


def test_three_hundred_damaged_recordings_are_read_or_refused(tmp_path: Path) -> None:
    """A first look, in every run of the tests."""
    assert_harmless(fuzz(1, 300, tmp_path))


@pytest.mark.deep
def test_twenty_thousand_damaged_recordings_are_read_or_refused(tmp_path: Path) -> None:
    """Flipped bits, cuts, lies about lengths and counts, chunks doubled, shuffled and spliced, XML bombs."""
    assert_harmless(fuzz(2, 20_000, tmp_path))
