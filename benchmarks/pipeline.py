"""How long the way from a sample to a probability takes: signal path and model, on one core.

Run with ``python benchmarks/pipeline.py``. Prints one table; nothing is asserted. Figures of one run may be
compared with each other, figures of different runs or machines hardly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from clmer_model.artifact import find_artifact
from clmer_model.predictor import Predictor, limit_threads
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.session import SimulationConfig, simulate
from clmer_streaming.types import Item, Window

SECONDS = 300.0
CALLS = 200


def main() -> None:
    """Measure and print."""
    limit_threads()
    predictor = Predictor(find_artifact(), "auto")
    predictor.warm_up((1, 8, 64))
    session = simulate(SimulationConfig(seconds=SECONDS, seed=1))
    table = Table("step", "p50 ms", "p99 ms", "max ms", "note", title="From sample to probability")
    windows: list[Window] = []
    for chunk in (1, 8, 16, 64):
        items = list(session.items(chunk))
        windows, spent = push_all(items, predictor)
        note = f"{len(items)} items, {SECONDS / np.sum(spent):.0f} times real time"
        table.add_row(f"Preprocessor.push, chunks of {chunk}, with face", *figures(spent), note)
    usable = [window for window in windows if window.mask["eeg"].any()]
    for batch in (1, 8, 64):
        chosen = usable[:batch]
        spent = timed(lambda chosen=chosen: predictor.predict(chosen))  # type: ignore[misc]
        table.add_row(
            f"Predictor.predict, batch {batch}", *figures(spent), f"{predictor.device}, torch {torch.__version__}"
        )
    Console(width=130).print(table)


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


def timed(call: Callable[[], object]) -> list[float]:
    """Return the seconds that each of ``CALLS`` calls took."""
    spent = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return spent


def figures(seconds: Sequence[float]) -> tuple[str, str, str]:
    """Return p50, p99 and maximum in milliseconds."""
    p50, p99, most = np.percentile(seconds, [50, 99, 100]) * 1e3
    return f"{p50:.3f}", f"{p99:.3f}", f"{most:.3f}"


if __name__ == "__main__":
    main()
