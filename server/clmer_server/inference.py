"""The one thread that runs the model, for all sessions of the process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clmer_model.prediction import Prediction
from clmer_streaming.types import Window

MAX_BATCH = 8
"""Windows in one call of the model."""

Predict = Callable[[list[Window]], Sequence[Prediction]]
"""One prediction for each window, in the same order."""


@dataclass(frozen=True, slots=True)
class Job:
    """A window that waits for its prediction; exactly one of the two functions is called, in this thread."""

    window: Window
    done: Callable[[Prediction | None], None]  # None: skipped, the model was not asked
    failed: Callable[[Exception], None]
    skip: bool = False  # answer in turn, without the model
    alone: bool = False  # never share a call, so that the same window always gives the same bits


class InferenceThread:
    """Answers jobs in the order in which they came, up to ``MAX_BATCH`` of those waiting in one call.

    Args:
        predict: Runs the model, e.g. ``Predictor.predict``.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._held: Job | None = None  # taken from the queue, but not fit for the batch before it
        self._thread = threading.Thread(target=self._run, name="clmer-inference", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; from any thread."""
        self._jobs.put(job)

    def stop(self, timeout_s: float) -> None:
        """Answer what waits, then end; do not wait longer than ``timeout_s`` seconds for it."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._answer(batch)

    def _next_batch(self) -> list[Job] | None:
        """Return what waits and may share a call; None at the end."""
        job = self._held or self._jobs.get()
        self._held = None
        if job is None:
            return None
        batch = [job]
        while not batch[0].alone and len(batch) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            if job.alone:
                self._held = job
                break
            batch.append(job)
        return batch

    def _answer(self, batch: list[Job]) -> None:
        asked = [job.window for job in batch if not job.skip]
        try:
            answers = iter(self._predict(asked) if asked else ())
        except Exception as error:
            for job in batch:
                job.failed(error)
            return
        for job in batch:
            job.done(None if job.skip else next(answers))
