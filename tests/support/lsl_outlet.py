"""A headset on the LSL network: plays a simulated session in EmotivPRO's layout, in real time, until it is ended.

Run as a program it takes an ``Outlet`` as JSON, and a file with what it plays if that is known already; it prints a
line when somebody may connect. Beside EmotivPRO's
columns it has one with the running number of each sample, by which a test can account for all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clmer_streaming.types import FloatArray

if TYPE_CHECKING:
    from clmer_streaming.simulation.session import SimulatedSession


SECONDS = 120.0
NUMBER = "SampleNumber"
"""Label of the column with the running number of each sample."""

_FIRST_SENSOR = 3  # behind Timestamp, Counter, Interpolate


@dataclass(frozen=True)
class Outlet:
    """What the headset does, and what is wrong with it."""

    name: str = "EmotivDataStream-EEG"
    source_id: str = "TEST-0001"
    chunk: int = 4  # samples sent at a time
    hz: float = 128.0  # at which it runs
    nominal_hz: float | None = None  # which it declares; None: that at which it runs
    sensors: int = 14  # of the 14, how many it has
    counter: bool = True  # whether the packet counter can be known by its label
    stamps: Literal["lsl", "unix"] = "lsl"
    lost: float = 0.0  # share of the samples lost on the radio
    late_s: float = 0.0  # s, mean of the exponential delay of each push, which LSL then stamps
    flat: int = 0  # of the sensors, how many are constant
    railed: int = 0  # how many more are at the end of the amplifier's range
    nan_bursts: bool = False  # whether, each four seconds, 50 ms of all sensors and 300 ms of one are NaN


@dataclass(frozen=True)
class Headset:
    """A running headset."""

    process: subprocess.Popen[str]

    def freeze(self) -> None:
        """Stop the program as a hung driver does; the network sees nothing of it."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on; it sends at once what it owes."""
        self.process.send_signal(signal.SIGCONT)

    def fall_silent(self) -> None:
        """Stop the sending alone: the outlet answers whoever asks for it, and nothing comes of it."""
        self.process.send_signal(signal.SIGUSR1)

    def speak(self) -> None:
        """Let it send again; it sends at once what it owes."""
        self.process.send_signal(signal.SIGUSR2)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def headset(
    name: str = "EmotivDataStream-EEG", source_id: str = "TEST-0001", chunk: int = 4, **faults: Any
) -> Iterator[Headset]:
    """Run the headset in its own process; it is on the network when the context begins."""
    with headsets(Outlet(name=name, source_id=source_id, chunk=chunk, **faults)) as (device,):
        yield device


@contextlib.contextmanager
def headsets(*outlets: Outlet) -> Iterator[list[Headset]]:
    """Run several headsets, each in its own process; all are started at the same time."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_process(outlet)) for outlet in outlets]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
        yield [Headset(process) for process in processes]


@contextlib.contextmanager
def _process(outlet: Outlet) -> Iterator[subprocess.Popen[str]]:
    """Run a headset's process, with what it plays in a file."""
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(dataclasses.asdict(outlet))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.npz"
        labels, due, x = played(outlet)
        np.savez(path, labels=labels, due=due, x=x.astype(np.float32))
        with subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


@functools.cache
def _simulated() -> SimulatedSession:
    from clmer_streaming.simulation.config import SimulationConfig
    from clmer_streaming.simulation.session import simulate  # spares the headset's process its import

    return simulate(SimulationConfig(seconds=SECONDS, seed=3))


_simulating = threading.Lock()


def played(outlet: Outlet) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Return the labels (C), when each sample is due after the first (n,) s, and the samples (C, n)."""
    with _simulating:
        session = _simulated()
    labels, x = session.eeg_info.ch_names, session.eeg_x.astype(np.float64)
    due: FloatArray = (session.eeg_t - session.eeg_t[0]) * 128.0 / outlet.hz
    x[1] = np.arange(x.shape[1]) % round(outlet.hz)
    first = _FIRST_SENSOR
    x[first : first + outlet.flat] = 4200.0
    x[first + outlet.flat : first + outlet.flat + outlet.railed] = 187_500.0
    if outlet.nan_bursts:
        turn = np.arange(x.shape[1]) % (4 * round(outlet.hz))
        x[first : first + 14, turn < 0.05 * outlet.hz] = np.nan
        x[first + 5, turn > 3.7 * outlet.hz] = np.nan
    rows = [i for i in range(len(labels)) if not first + outlet.sensors <= i < first + 14]
    names = tuple(labels[i] if outlet.counter or i != 1 else "Reserved" for i in rows)
    x = np.concatenate([x[rows], np.arange(x.shape[1])[None, :]])
    received = np.random.default_rng(5).random(x.shape[1]) >= outlet.lost
    return (*names, NUMBER), due[received], x[:, received]


def main(outlet: Outlet, *known: str) -> None:
    """Publish the stream and play it."""
    import pylsl

    if known:
        with np.load(known[0]) as saved:
            labels, times, x = tuple(saved["labels"].tolist()), saved["due"], saved["x"]
    else:
        labels, times, x = played(outlet)
    nominal_hz = outlet.hz if outlet.nominal_hz is None else outlet.nominal_hz
    info = pylsl.StreamInfo(outlet.name, "EEG", len(labels), nominal_hz, pylsl.cf_float32, outlet.source_id)
    info.desc().append_child_value("manufacturer", "Emotiv")
    channels = info.desc().append_child("channels")
    for label in labels:
        channels.append_child("channel").append_child_value("label", label).append_child_value("unit", "microvolts")
    stream = pylsl.StreamOutlet(info)
    signal.signal(signal.SIGUSR1, lambda *_: signal.pause())
    signal.signal(signal.SIGUSR2, lambda *_: None)
    print("ready", flush=True)
    stream.wait_for_consumers(60)
    begin = pylsl.local_clock() - times[0]
    to_stamp = time.time() - pylsl.local_clock() if outlet.stamps == "unix" else 0.0
    delays = np.random.default_rng(9)
    for first in range(0, times.size - outlet.chunk, outlet.chunk):
        due = begin + times[first + outlet.chunk - 1]
        late_s = float(delays.exponential(outlet.late_s)) if outlet.late_s else 0.0
        time.sleep(max(0.0, due + late_s - pylsl.local_clock()))
        stamp = pylsl.local_clock() if outlet.late_s else due + to_stamp
        stream.push_chunk(np.ascontiguousarray(x[:, first : first + outlet.chunk].T), stamp)


if __name__ == "__main__":
    main(Outlet(**json.loads(sys.argv[1])), *sys.argv[2:])
