"""Claims about memory: what a command needs grows with the windows that it holds, not with the file that it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

MB = 1e6
RUN = "import resource, sys; from clmer_server.cli import main; code = main(sys.argv[1:]); print('peak', \
resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"


def write(path: Path, n_bytes: float) -> Path:
    """Write 64 channels at 1000 Hz, as many samples as the file is to have bytes."""
    names = (*EPOC_CH_NAMES, *(f"E{i}" for i in range(50)))
    noise = np.random.default_rng(0).normal(4200.0, 15.0, (64, 500)).astype(np.float32)
    with XdfWriter(path) as xdf:
        stream = xdf.add_stream(XdfStreamSpec("BIG", "EEG", names, 1000.0, units=("uV",) * 64))
        for k in range(round(n_bytes / (500 * (64 * 4 + 9)))):
            t = 100.0 + (500 * k + np.arange(500)) / 1000.0
            xdf.write_samples(stream, t, noise)
            if k % 10 == 0:
                xdf.write_offset(stream, float(t[0]), 0.0)
    return path


def peak_bytes(*arguments: str) -> float:
    """Run a command in a process of its own; return the largest memory that it had."""
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    return 1024.0 * float(done.stderr.rpartition("peak")[2])


@pytest.mark.deep
@pytest.mark.parametrize("command", ["inspect", "predict"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, command: str) -> None:
    """Of 180 MB more of a recording less than a sixth is in memory: the stamps, where it was eight times as much."""
    out = ("--out", str(tmp_path / "out.jsonl")) if command == "predict" else ()
    small, large = write(tmp_path / "small.xdf", 20 * MB), write(tmp_path / "large.xdf", 200 * MB)
    assert peak_bytes(command, str(large), *out) - peak_bytes(command, str(small), *out) < 30 * MB
