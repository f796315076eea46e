"""How long it takes from the push of a sample to a finished window with it, and what that costs.

Two consumers get the same stream, each alone and in a process of its own, and make the same product at the same
rate: a (C, T) array of the last 2 s, filtered 4-45 Hz by the same second-order sections, at every grid point
``k * HOP_S`` of stream time. A window is held when the consumer's own code has the array in its hands.

- clmer: ``LslEegSource`` in a thread, ``ItemQueue`` and ``Preprocessor`` behind it, as in a session. No reference is
  taken, because the rival takes none; the channels are judged all the same.
- StreamLSL: its own thread acquires and filters; the consumer asks it how many samples are new, from shortly before
  the one that it waits for is due and then every 0.2 ms, and calls ``get_data`` when that one is there.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from math import ceil, floor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
from streams_parts.child import Child, child
from streams_parts.headset import Headset, play

from clmer_server.session.pipeline import ItemQueue
from clmer_streaming.config import PreprocessConfig, SignalConfig, WindowConfig
from clmer_streaming.lsl.inlet import WindowGrid
from clmer_streaming.lsl.sources import LslEegSource
from clmer_streaming.pipeline.filters import design_sos
from clmer_streaming.pipeline.preprocess import Preprocessor

WINDOW_S = 2.0
HOP_S = 0.125  # four windows where a service with the shipped model makes one
_WARM_UP_S = 1.0  # from the first full window to the first that counts
_POLL_S = 0.0002
_CONNECT_S = 10.0


@dataclass(frozen=True)
class ToWindow:
    """What one consumer did with one stream."""

    newest_s: npt.NDArray[np.float64]  # per window, from the push of its newest sample until it was held
    completing_s: npt.NDArray[np.float64]  # per window, from the push after which it could be known to be whole
    cpu: float  # share of one core, of the consumer's whole process


def measure_clmer(headset: Headset, seconds: float) -> ToWindow:
    """Measure clmer for ``seconds``; its windows are whole when a sample behind them has come."""
    with child(play, headset) as sender:
        sender.receive()
        with child(_clmer, headset, seconds) as consumer:
            newest_t, held, cpu = consumer.receive()
        newest, pushed = _numbers(newest_t, headset, sender)
    return ToWindow(held - pushed[newest], held - pushed[newest + 1], cpu)


def measure_stream_lsl(headset: Headset, seconds: float, acquisition_delay_s: float) -> ToWindow:
    """Measure mne-lsl's StreamLSL for ``seconds``; its windows are taken as soon as the newest sample is in them."""
    with child(play, headset) as sender:
        sender.receive()
        with child(_stream_lsl, headset, seconds, acquisition_delay_s) as consumer:
            newest_t, held, cpu = consumer.receive()
        newest, pushed = _numbers(newest_t, headset, sender)
    latency = held - pushed[newest]
    return ToWindow(latency, latency, cpu)


def _numbers(
    t: npt.NDArray[np.float64], headset: Headset, sender: Child
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the numbers of the samples with stamps ``t``, and when each sample was pushed."""
    sender.send("stop")
    begin, pushed = sender.receive()
    return np.rint((t - begin) * headset.sfreq).astype(np.intp), pushed


class _Log:
    """Windows held, from some time after the first one on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin = np.inf
        self._cpu = 0.0
        self.newest_t: list[float] = []
        self.held: list[float] = []

    def add(self, newest_t: float, held: float) -> bool:
        """Note a window; return False when enough were seen."""
        if not np.isfinite(self._begin):
            self._begin = held + _WARM_UP_S
        if held < self._begin:
            self._cpu = time.process_time()
            return True
        self.newest_t.append(newest_t)
        self.held.append(held)
        return held < self._begin + self._seconds

    def result(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
        """Return stamps of newest samples, times at which their windows were held, and the share of a core."""
        cpu = (time.process_time() - self._cpu) / (self.held[-1] - self._begin)
        return np.array(self.newest_t), np.array(self.held), cpu


def _signal(headset: Headset) -> SignalConfig:
    return SignalConfig(ch_names=headset.ch_names, sfreq=headset.sfreq, reference="none")


def _clmer(headset: Headset, seconds: float, pipe: Connection) -> None:
    from clmer_streaming.clock import local_clock

    config = PreprocessConfig(_signal(headset), WindowConfig(WINDOW_S, HOP_S), modalities=("eeg",))
    source = LslEegSource(headset.name, config.signal, grid=WindowGrid(HOP_S))
    intake, log = ItemQueue(4096, blocking=False), _Log(seconds)
    threading.Thread(target=source.run, args=(intake.put, threading.Event()), daemon=True).start()
    preprocessor = Preprocessor(config)
    while (item := intake.take()) is not None:
        for window in preprocessor.push(item):
            held = local_clock()
            if window.mask["eeg"].all() and not log.add(window.t_end - window.quality["eeg"]["age_s"], held):
                pipe.send(log.result())
                return


def _stream_lsl(headset: Headset, seconds: float, acquisition_delay_s: float, pipe: Connection) -> None:
    from mne_lsl import set_log_level
    from mne_lsl.lsl import local_clock
    from mne_lsl.stream import StreamLSL

    set_log_level("ERROR")
    stream = StreamLSL(WINDOW_S, name=headset.name)
    stream.connect(acquisition_delay_s, processing_flags=["clocksync"], timeout=_CONNECT_S)
    signal, log = _signal(headset), _Log(seconds)
    stream.filter(*signal.band, iir_params={"order": signal.filter_order, "ftype": "butter", "output": "sos"})
    if not np.allclose(stream.filters[0]["sos"], design_sos(signal, headset.sfreq), rtol=1e-9):
        raise RuntimeError("StreamLSL's filter is not ours: the comparison would not be fair")
    time.sleep(WINDOW_S)
    going = True
    while going:
        t = stream.get_data(WINDOW_S)[1][-1]
        t_end = (floor(t / HOP_S) + 1) * HOP_S
        while (n_wanted := ceil((t_end - t) * headset.sfreq) - 1) < 1:
            t_end += HOP_S
        _wait_for(stream, n_wanted, headset.sfreq)
        stream.get_data(WINDOW_S)
        going = log.add(t + n_wanted / headset.sfreq, local_clock())
    pipe.send(log.result())


def _wait_for(stream: Any, n_wanted: int, sfreq: float) -> None:
    while (missing := n_wanted - stream.n_new_samples) > 0:
        time.sleep(max(_POLL_S, (missing - 2) / sfreq))
