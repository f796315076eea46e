"""A computer with a camera on the LSL network: plays a simulated face as a CLMER-Face stream, in real time."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator

from clmer_streaming.clock import local_clock
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES
from clmer_streaming.lsl.outlets import FaceOutlet
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate
from clmer_streaming.types import StreamInfo

RATE_HZ = 30.0


@contextlib.contextmanager
def face_player(name: str, extractor: str = EXTRACTOR_ID) -> Iterator[threading.Event]:
    """Play a face until the context ends; while the event is set, the stream is there and sends nothing."""
    info = StreamInfo("face", "face", "camera 0", FACE_CH_NAMES, RATE_HZ, source_id=name, extractor=extractor)
    faces = list(simulate(SimulationConfig(seconds=4.0, seed=3)).face_samples())
    outlet, stop, silent = FaceOutlet(info, name), threading.Event(), threading.Event()

    def play() -> None:
        for face in itertools.cycle(faces):
            if stop.wait(1 / RATE_HZ):
                return
            if not silent.is_set():
                outlet.push(dataclasses.replace(face, t=local_clock()))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield silent
    finally:
        stop.set()
        thread.join()
