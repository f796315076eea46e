"""A headset on the LSL network: plays a simulated session in EmotivPRO's layout, in real time, until it is ended.

Run as a program: ``python lsl_outlet.py NAME SOURCE_ID [CHUNK]``. Prints a line when somebody may connect.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clmer_streaming.sources.simulator import SimulationConfig, simulate

SECONDS = 120.0


@contextlib.contextmanager
def headset(name: str = "EmotivDataStream-EEG", source_id: str = "TEST-0001", chunk: int = 4) -> Iterator[None]:
    """Run the headset in its own process; it is on the network when the context begins."""
    command = [sys.executable, str(Path(__file__).resolve()), name, source_id, str(chunk)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == "ready"
            yield
        finally:
            process.kill()


def main(name: str, source_id: str, chunk: int) -> None:
    """Publish the stream and play it."""
    import pylsl

    session = simulate(SimulationConfig(seconds=SECONDS, seed=3))
    labels = session.eeg_info.ch_names
    info = pylsl.StreamInfo(name, "EEG", len(labels), session.eeg_info.sfreq, pylsl.cf_float32, source_id)
    info.desc().append_child_value("manufacturer", "Emotiv")
    channels = info.desc().append_child("channels")
    for label in labels:
        channels.append_child("channel").append_child_value("label", label)
    outlet = pylsl.StreamOutlet(info)
    print("ready", flush=True)
    outlet.wait_for_consumers(60)
    begin = pylsl.local_clock() - session.eeg_t[0]
    for first in range(0, session.eeg_t.size - chunk, chunk):
        due = begin + session.eeg_t[first + chunk - 1]
        time.sleep(max(0.0, due - pylsl.local_clock()))
        outlet.push_chunk(np.ascontiguousarray(session.eeg_x[:, first : first + chunk].T), due)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
