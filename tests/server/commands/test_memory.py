"""Claims about memory: what a command needs grows with the windows that it holds, not with the file that it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clmer
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

pytestmark = [pytest.mark.deep, pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")]

MB = 1e6
RUN = """
import sys
from pathlib import Path
from clmer_server.cli import main
code = main(sys.argv[1:])
print(Path("/proc/self/status").read_text(), file=sys.stderr)  # getrusage would count the parent's memory, too
sys.exit(code)
"""


def write(path: Path, n_bytes: float) -> Path:
    """Write 64 channels at 1000 Hz, one a packet counter, as many samples as the file is to have bytes."""
    names = (*EPOC_CH_NAMES, *(f"E{i}" for i in range(49)), "Counter")
    x = np.random.default_rng(0).normal(4200.0, 15.0, (64, 1000)).astype(np.float32)
    x[-1] = np.arange(1000)
    with XdfWriter(path) as xdf:
        stream = xdf.add_stream(XdfStreamSpec("BIG", "EEG", names, 1000.0, units=("uV",) * 64))
        for k in range(round(n_bytes / (1000 * (64 * 4 + 9)))):
            t = 100.0 + (1000 * k + np.arange(1000)) / 1000.0
            xdf.write_samples(stream, t[:500], x[:, :500])
            xdf.write_samples(stream, t[500:], x[:, 500:])
            if k % 5 == 0:
                xdf.write_offset(stream, float(t[0]), 0.0)
                xdf.boundary()
    return path


def peak_bytes(*arguments: str) -> float:
    """Run a command in a process of its own; return the largest memory that it had."""
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    return 1024.0 * float(done.stderr.rpartition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("command", ["inspect", "predict"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, command: str) -> None:
    """Of 180 MB more of a recording less than a sixth is in memory: stamps, and not the samples."""
    out = ("--out", str(tmp_path / "out.jsonl")) if command == "predict" else ()
    small, large = write(tmp_path / "small.xdf", 20 * MB), write(tmp_path / "large.xdf", 200 * MB)
    assert peak_bytes(command, str(large), *out) - peak_bytes(command, str(small), *out) < 30 * MB


def test_a_recorded_session_is_verified_in_the_memory_of_its_windows(tmp_path: Path) -> None:
    """It is read once, in the order of the file: ten times as much of it takes no more."""
    model, peaks = clmer.load_model(device="cpu"), []
    for n_bytes in (20 * MB, 200 * MB):
        recording = write(tmp_path / f"{n_bytes:.0f}.xdf", n_bytes)
        with clmer.Session.replay(recording, model, record=tmp_path / "recordings") as session:
            assert sum(1 for _ in session) > 100
        assert session.recording is not None
        assert session.recording.stat().st_size > n_bytes
        peaks.append(peak_bytes("verify", str(session.recording)))
    assert peaks[1] - peaks[0] < 10 * MB
