"""Reads damaged recordings, one after the other, and prints what it saw as one JSON object.

Run as a program: ``python xdf_fuzz.py SEED N FOLDER``. It ends at the first file that does anything but being read
or being refused with a sentence; that file stays in FOLDER as ``damaged.xdf``.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from clmer_server.commands.inspect import inspection_entry
from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.format import MAX_STAMP_S
from clmer_streaming.xdf.inspect import inspect
from clmer_streaming.xdf.reader import XdfFile, read_xdf
from tests.support.xdf_mutations import damaged, seeds

PATIENCE_S = 5
"""No file of 30 KB may take longer."""


def check(file: XdfFile) -> None:
    """What is read is sound: shapes agree, stamps are times, the inspection is JSON."""
    for stream in file.streams:
        n = stream.t.size
        rows = len(stream.strings) if stream.channel_format == "string" else stream.x.shape[1]
        assert rows == n == stream.t_synced.size
        assert np.all(np.abs(stream.t) <= MAX_STAMP_S)
        assert np.isfinite(stream.t_synced).all()
    inspection = inspect(file)
    assert 0 < inspection.readable_share <= 1
    json.dumps(inspection_entry(inspection, SignalConfig()), allow_nan=False)


def main(seed: int, n_files: int, folder: Path) -> None:
    """Damage and read; tell how it went."""
    chance, whole, path = random.Random(seed), seeds(folder), folder / "damaged.xdf"
    n_read, slowest_s = 0, 0.0
    for _ in range(n_files):
        path.write_bytes(damaged(chance, whole))
        began = time.monotonic()
        signal.alarm(PATIENCE_S)  # ends the program, and so the test, where a file hangs it
        try:
            check(read_xdf(path))
            n_read += 1
        except RecordingError:
            pass
        signal.alarm(0)
        slowest_s = max(slowest_s, time.monotonic() - began)
    print(json.dumps({"files": n_files, "read": n_read, "slowest_s": slowest_s, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Return the most memory that this program held, in MiB.

    Linux counts the program that started this one into ru_maxrss (getrusage(2)), so its own mark is read instead.
    """
    import resource  # not on Windows

    status = Path("/proc/self/status")
    if status.exists():
        mark = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(mark.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
