"""A live service whose headset's time runs 25 times as fast: 50 predictions a second, which nobody holds back.

Its patience with a client that does not read is short, so that a test need not wait for it.

Run as a program, it serves like ``clmer-serve`` until a signal comes. All but headset and model is the service's own.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from clmer_server.cli import end_with
from clmer_server.session.config import SessionConfig
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, ServedModel
from clmer_server.session.inputs import Inputs
from clmer_server.session.managed import PreparedRun
from clmer_server.settings import ServeSettings
from clmer_server.web import limits
from clmer_server.web.auth import Access
from clmer_server.web.service import ServicePlan, loop_factory, run_service
from clmer_server.web.uvicorn import open_listener
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.resolve import StreamClaims
from clmer_streaming.types import Chunk, Item
from tests.support.session_parts import EEG, MODEL, predict_certain

STALL_S = 1.5
"""Seconds that a send queue may stay full."""

TIMES = 25.0
CHUNK = 64  # samples: a hop of the model's windows
BEHIND_S = 36_000.0  # so far lie the stamps in the past at the beginning; they must not get into the future


class FastHeadset:
    """Noise of 10 uV."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        put(EEG)
        rng, t0, begin, n = np.random.default_rng(0), local_clock() - BEHIND_S, time.monotonic(), 0
        while not stop.wait(max(0.0, begin + n / EEG.sfreq / TIMES - time.monotonic())):
            t = t0 + (n + np.arange(CHUNK)) / EEG.sfreq
            put(Chunk("eeg", t, 10.0 * rng.standard_normal((len(EEG.ch_names), CHUNK))))
            n += CHUNK


def main() -> int:
    """Serve."""
    limits.STALL_S = STALL_S
    signal.signal(signal.SIGTERM, _end)
    inference = InferenceThread(predict_certain)
    inference.start()
    model, settings = ServedModel(MODEL, PreprocessConfig(), inference, {}), ServeSettings()
    inputs, context = Inputs("live", (FastHeadset(),)), EventContext("fast", MODEL, "live")
    run = PreparedRun(context, inputs)
    plan = ServicePlan(settings, Access("127.0.0.1"), model, StreamClaims(), ((SessionConfig(name="fast"), run),))
    with open_listener("127.0.0.1", 0) as listener, asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(f"websocket  ws://127.0.0.1:{listener.getsockname()[1]}/ws", flush=True)
        runner.run(run_service(plan, listener))
    return 0


def _end(*_: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    end_with(main)
