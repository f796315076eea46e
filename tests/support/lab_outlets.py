"""A lab on the LSL network: a headset with jitter, its contact quality and motion, and two marker streams.

Run as a program: ``python lab_outlets.py SECONDS FILE``, the file with what the headset plays; prints ``ready`` when
somebody may connect, then begins to play when the headset is listened to, and prints the LSL time of its first sample.
Everything is decided by sample numbers: what was sent can be computed again.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clmer_streaming.simulation.session import SimulatedSession


EEG_NAME, MARKER_NAME, PSYCHOPY_NAME = "EmotivDataStream-EEG", "Experiment", "PsychoPy"
CONTACT_NAME, MOTION_NAME = "EmotivDataStream-Contact-Quality", "EmotivDataStream-Motion"
JITTER_S = 0.004  # s, standard deviation of the stamps of chunks
CHUNK = 2  # samples
LABELS = ("Bilder: Übung", "刺激 1", 'pause, "quoted" & <tagged>')
SEED = 3


@functools.cache
def lab_session() -> SimulatedSession:
    """Return what the headset plays, with a mark of five samples in its column of markers every second."""
    from clmer_streaming.simulation.config import SimulationConfig
    from clmer_streaming.simulation.session import simulate  # spares the lab's process its import

    session = simulate(SimulationConfig(seconds=90.0, seed=SEED))
    number = np.arange(session.eeg_t.size)
    session.eeg_x[-1] = np.where(number % 128 < 5, 1 + number // 128, 0)
    return session


@contextlib.contextmanager
def lab(seconds: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """Run the lab in its own process; its streams are on the network when the context begins."""
    session = lab_session()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.npz"
        info, true_hz = session.eeg_info, session.truth.true_rate_hz
        np.savez(path, x=session.eeg_x, labels=info.ch_names, nominal_hz=info.sfreq, true_hz=true_hz)
        command = [sys.executable, str(Path(__file__).resolve()), str(seconds), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline().strip() == "ready"
                yield process
            finally:
                process.kill()


def jittered(t: float, number: int) -> float:
    """Return the stamp of a chunk: what an unsteady sender makes of a true time, the same in every run."""
    return t + JITTER_S * float(np.random.default_rng((SEED, number)).standard_normal())


def _outlet(name: str, kind: str, labels: tuple[str, ...], sfreq: float, channel_format: str) -> Any:
    import pylsl

    info = pylsl.StreamInfo(name, kind, len(labels), sfreq, channel_format, f"LAB-{name}")
    info.desc().append_child_value("manufacturer", "Emotiv")
    channels = info.desc().append_child("channels")
    for label in labels:
        channels.append_child("channel").append_child_value("label", label)
    return pylsl.StreamOutlet(info)


def main(seconds: float, path: str) -> None:
    """Publish the streams and play them."""
    import pylsl

    with np.load(path) as played:
        x, labels, sfreq, nominal_hz = (played[name] for name in ("x", "labels", "true_hz", "nominal_hz"))
    sfreq, labels = float(sfreq), tuple(labels.tolist())
    eeg = _outlet(EEG_NAME, "EEG", labels, float(nominal_hz), "float32")
    contact = _outlet(CONTACT_NAME, "Contact-Quality", ("Battery", "Overall", *labels[3:17]), 2, "float32")
    motion = _outlet(MOTION_NAME, "Motion", ("ACCX", "ACCY", "ACCZ"), 32, "int16")
    words = _outlet(MARKER_NAME, "Markers", ("label",), 0, "string")
    psychopy = _outlet(PSYCHOPY_NAME, "Markers", ("MarkerTime", "MarkerValue", "CurrentTime"), 0, "double64")
    print("ready", flush=True)
    eeg.wait_for_consumers(60)
    begin = pylsl.local_clock()
    print(repr(begin), flush=True)
    for number, first in enumerate(range(0, int(seconds * sfreq), CHUNK)):
        last = begin + (first + CHUNK - 1) / sfreq
        time.sleep(max(0.0, last - pylsl.local_clock()))
        eeg.push_chunk(np.ascontiguousarray(x[:, first : first + CHUNK].T), jittered(last, number))
        if first % 16 == 0:
            motion.push_sample([number, -number, 7], last)
        if first % 64 == 0:
            contact.push_sample([100.0, 99.0] + [4.0] * 14, last)
        if first % 128 == 64:
            words.push_sample([LABELS[first // 128 % len(LABELS)]], last)
            psychopy.push_sample([1.7e9 + number, float(number), 1.7e9 + number + 0.5], last)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
