"""An LSL network of the benchmark's own, child processes, and a headset that records when it pushed each sample."""

from __future__ import annotations

import importlib.util
import multiprocessing as mp
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

NOT_INSTALLED = "not installed: pip install clmer[bench]"
"""Cell of a program whose package is missing."""

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
    """Give this process and its children an LSL network of their own; yield a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lsl_api.cfg"
        path.write_text(_CONFIG.format(session_id=f"clmer-bench-{os.getpid()}"))
        os.environ["LSLAPICFG"] = str(path)
        yield Path(folder)


def installed(*modules: str) -> bool:
    """Return whether all of these packages can be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def versions(*distributions: str) -> str:
    """Return names and versions of installed distributions."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)


_LONGEST_WAIT_S = 90.0


class Child:
    """The parent's end of the pipe to a child process."""

    def __init__(self, name: str, pipe: Connection) -> None:
        self._name = name
        self._pipe = pipe

    def receive(self) -> Any:
        """Return the next object that the process sends.

        Raises:
            RuntimeError: It sends nothing in time, or has died.
        """
        try:
            if self._pipe.poll(_LONGEST_WAIT_S):
                return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self._name} died; its error is above") from None
        raise RuntimeError(f"{self._name} sent nothing for {_LONGEST_WAIT_S:g} s")

    def send(self, word: str) -> None:
        """Send a word to the process."""
        self._pipe.send(word)


@contextmanager
def child(function: Callable[..., None], *args: Any) -> Iterator[Child]:
    """Run ``function(*args, pipe)`` in a new process, which is killed when the context ends."""
    ours, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=function, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(function.__name__, ours)
    finally:
        process.kill()
        process.join()


_NOISE_S = 8.0  # of noise, played over and over
_OFFSET_UV = 4200.0  # as an EPOC has it
_SD_UV = 20.0


@dataclass(frozen=True)
class Headset:
    """Format of the stream."""

    n_channels: int
    sfreq: float  # Hz
    block: int  # samples pushed at once
    name: str = "bench-eeg"

    @property
    def ch_names(self) -> tuple[str, ...]:
        """A label for each channel."""
        return tuple(f"E{i + 1}" for i in range(self.n_channels))

    def __str__(self) -> str:
        return f"{self.n_channels} ch, {self.sfreq:g} Hz, by {self.block}"


def play(headset: Headset, pipe: Connection) -> None:
    """Stream until a word comes over the pipe; then send the first sample's stamp and when each was pushed.

    Stamps lie on an exact grid, so that a stamp gives the number of its sample.
    """
    import pylsl

    info = pylsl.StreamInfo(headset.name, "EEG", headset.n_channels, headset.sfreq, pylsl.cf_float32, headset.name)
    channels = info.desc().append_child("channels")
    for label in headset.ch_names:
        channel = channels.append_child("channel")
        channel.append_child_value("label", label).append_child_value("unit", "microvolts")
        channel.append_child_value("type", "EEG")
    blocks = _noise(headset)
    outlet = pylsl.StreamOutlet(info)
    pipe.send("ready")
    pushed: list[float] = []
    begin = pylsl.local_clock()
    while not pipe.poll():
        due = begin + ((len(pushed) + 1) * headset.block - 1) / headset.sfreq  # stamp of the block's last sample
        time.sleep(max(0.0, due - pylsl.local_clock()))
        block = blocks[len(pushed) % len(blocks)]
        pushed.append(pylsl.local_clock())
        outlet.push_chunk(block, due)
    pipe.send((begin, np.repeat(pushed, headset.block)))


def _noise(headset: Headset) -> list[npt.NDArray[np.float32]]:
    """Return blocks of (block, C) float32."""
    n_blocks = round(_NOISE_S * headset.sfreq) // headset.block
    rng = np.random.default_rng(1)
    noise = rng.normal(_OFFSET_UV, _SD_UV, (n_blocks, headset.block, headset.n_channels)).astype(np.float32)
    return list(noise)
