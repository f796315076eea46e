"""How long one window takes a model, and the machine that was asked."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clmer_model.predictor import Predictor
from clmer_streaming.types import Window

N_CALLS = 300


def measure_latency(predictor: Predictor, n_calls: int = N_CALLS) -> dict[str, Any]:
    """Return median and 99th percentile in ms of a window alone, in one thread, and the machine, as plain JSON."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    predictor.warm_up()
    window = _reference_window(predictor)
    seconds = []
    for _ in range(n_calls):
        start = time.perf_counter()
        predictor.predict([window])
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    p50, p99 = np.percentile(np.asarray(seconds) * 1000.0, (50, 99)).tolist()
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "machine": machine(), "device": str(predictor.device)}


def machine() -> str:
    """Return the processor, the number of cores that may be used, and the version of torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, torch {torch.__version__.split('+')[0]}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in named if name), "") or platform.processor() or platform.machine()


def _reference_window(predictor: Predictor) -> Window:
    reference = predictor.meta.reference
    return Window(
        index=0,
        t_start=0.0,
        t_end=predictor.meta.preprocess.window.window_s,
        series={name: series[0].astype(np.float64) for name, series in reference.x.items()},
        mask={name: known[0] for name, known in reference.mask.items()},
    )
