"""A headset on the LSL network that remembers when it pushed each sample."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

_SECONDS = 8.0  # of noise, played over and over
_OFFSET_UV = 4200.0  # as an EPOC has it
_SD_UV = 20.0


@dataclass(frozen=True)
class Headset:
    """What is streamed."""

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
    """Stream until something is said over the pipe; then tell the first sample's stamp and when each was pushed.

    Stamps lie on an exact grid, so that a stamp tells the number of its sample.
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
    n_blocks = round(_SECONDS * headset.sfreq) // headset.block
    rng = np.random.default_rng(1)
    noise = rng.normal(_OFFSET_UV, _SD_UV, (n_blocks, headset.block, headset.n_channels)).astype(np.float32)
    return list(noise)
