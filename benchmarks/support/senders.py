"""Senders of a stream as they are: samples taken in time, pushed late, and stamped at the push."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import FloatArray, IndexArray

HICCUP_EVERY_S = 5.0
_HICCUP_BEFORE_S = 0.05  # s by which a hiccup begins before the fifth second


@dataclass(frozen=True)
class Sender:
    """How a program pushes the samples of a headset into LSL.

    LSL stamps the last sample of a push with its time, and deduces the stamps of those before by the nominal rate.
    """

    sfreq: float = 128.0  # Hz
    chunk: int = 32  # samples of one push
    delay_s: float = 0.0  # s, mean of the exponential delay of each push
    hiccup_s: float = 0.0  # s for which nothing is pushed, each 5 s; what waited then is pushed at once
    jitter_s: float = 0.0005  # s, standard deviation of every push

    def __str__(self) -> str:
        if self.hiccup_s:
            return f"stall {1e3 * self.hiccup_s:g} ms each 5 s"
        return f"{1e3 * self.delay_s:g} ms"


def push_times(sender: Sender, seconds: float, seed: int = 0, t0: float = 1000.0) -> tuple[FloatArray, FloatArray]:
    """Return when samples were taken (n,), and the stamps that they get (n,), in seconds.

    Args:
        sender: How they are pushed.
        seconds: Length of the stream.
        seed: Of the delays.
        t0: When the first sample is taken, in seconds.
    """
    rng = np.random.default_rng(seed)
    n = int(seconds * sender.sfreq) // sender.chunk * sender.chunk
    taken: FloatArray = t0 + np.arange(n) / sender.sfreq
    last: IndexArray = np.arange(sender.chunk - 1, n, sender.chunk)
    pushed = taken[last] + np.abs(sender.jitter_s * rng.standard_normal(last.size))
    if sender.delay_s:
        pushed = pushed + rng.exponential(sender.delay_s, last.size)
    if sender.hiccup_s:
        phase = (pushed - t0 + _HICCUP_BEFORE_S) % HICCUP_EVERY_S  # pushes of any chunk length fall into it
        stalled = (phase < sender.hiccup_s) & (pushed - t0 >= HICCUP_EVERY_S - _HICCUP_BEFORE_S)
        pushed = np.where(stalled, pushed - phase + sender.hiccup_s + 2e-5 * rng.random(last.size), pushed)
    which = np.arange(n) // sender.chunk
    stamps: FloatArray = pushed[which] - (last[which] - np.arange(n)) / sender.sfreq
    return taken, stamps
