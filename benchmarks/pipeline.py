"""How long the path from a sample to a probability takes: signal path and model, on one core.

Run with ``python -m benchmarks.pipeline``. Figures of one run may be compared with each other, figures of different
runs or machines hardly. Nothing is asserted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.support.report import Report, Table, make_parser, percentiles_ms
from clmer_model.artifact import find_artifact
from clmer_model.predictor import Predictor, limit_threads
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate
from clmer_streaming.types import Item, Window

SECONDS, TINY_SECONDS = 300.0, 10.0
CALLS, TINY_CALLS = 200, 2
CHUNKS = (1, 8, 16, 64)  # samples
BATCHES = (1, 8, 64)  # windows


def main() -> int:
    """Measure and print; return the exit code."""
    args = make_parser(__doc__).parse_args()
    limit_threads()
    seconds, n_calls = (TINY_SECONDS, TINY_CALLS) if args.tiny else (SECONDS, CALLS)
    predictor = Predictor(find_artifact(), "auto")
    predictor.warm_up(BATCHES)
    with Report("pipeline", args.json) as report:
        report.print(f"{predictor.device}, torch {torch.__version__}; {seconds:g} s of EEG and face")
        report.show(*measure(predictor, seconds, n_calls))
    return 0


def measure(predictor: Predictor, seconds: float, n_calls: int) -> tuple[Table, Table]:
    """Return the times of the signal path and of the model."""
    session = simulate(SimulationConfig(seconds=seconds, seed=1))
    formats = {"p50_ms": ".3f", "p99_ms": ".3f", "max_ms": ".3f"}
    pushes = Table(
        "push", "Preprocessor.push, with face", chunk_samples="d", **formats, items="d", times_real_time=".0f"
    )
    windows: list[Window] = []
    for chunk in CHUNKS:
        items = list(session.items(chunk))
        windows, spent = push_all(items, predictor)
        speed = seconds / float(np.sum(spent))
        pushes.add(chunk_samples=chunk, **figures(spent), items=len(items), times_real_time=speed)
    usable = [window for window in windows if window.mask["eeg"].any()]
    predictions = Table("predict", "Predictor.predict", batch="d", **formats)
    for batch in BATCHES:
        chosen = usable[:batch]
        predictions.add(
            batch=len(chosen),
            **figures(timed(lambda chosen=chosen: predictor.predict(chosen), n_calls)),  # type: ignore[misc]
        )
    return pushes, predictions


def push_all(items: Sequence[Item], predictor: Predictor) -> tuple[list[Window], list[float]]:
    """Push every item; return the windows and the seconds that each push took."""
    preprocessor = Preprocessor(predictor.meta.preprocess)
    windows: list[Window] = []
    spent: list[float] = []
    for item in items:
        start = time.perf_counter()
        windows.extend(preprocessor.push(item))
        spent.append(time.perf_counter() - start)
    return windows, spent


def timed(call: Callable[[], object], n_calls: int) -> list[float]:
    """Return the seconds that each call took."""
    spent = []
    for _ in range(n_calls):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return spent


def figures(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return p50, p99 and maximum in milliseconds."""
    return dict(zip(("p50_ms", "p99_ms", "max_ms"), percentiles_ms(seconds, 50, 99, 100), strict=True))


if __name__ == "__main__":
    sys.exit(main())
