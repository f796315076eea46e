"""The model that answers all sessions of a process, and the one thread that runs it.

To be read in this order: ``ServedModel``, ``InferenceThread``, loading and describing the model.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from clmer_model.prediction import Prediction
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.parts import ModelInfo
from clmer_streaming.types import Window

if TYPE_CHECKING:
    from clmer_model.artifact import ArtifactFile
    from clmer_model.predictor import Predictor
    from clmer_streaming.config import PreprocessConfig


logger = logging.getLogger(__name__)

MAX_BATCH = 8
"""Windows in one call of the model."""

Predict = Callable[[list[Window]], Sequence[Prediction]]
"""One prediction for each window, in the same order."""


@dataclass(frozen=True)
class ServedModel:
    """The model that answers all sessions of a service."""

    info: ModelInfo
    preprocess: PreprocessConfig  # the signal settings that it is fed by
    inference: InferenceThread
    card: dict[str, Any]  # the artifact's own description, as plain JSON values

    @classmethod
    def load(cls, artifact: ArtifactFile, device: str, preprocess: PreprocessConfig) -> Self:
        """Load a model and start the thread that runs it.

        Args:
            artifact: The model's file.
            device: Where it runs: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            preprocess: The signal settings that it is fed by.

        Raises:
            ArtifactError: The model cannot be run here.
            DeviceError: The device is unknown or absent.
        """
        predictor = load_predictor(artifact, device)
        inference = InferenceThread(predictor.predict)
        inference.start()
        return cls(model_info(artifact, predictor, preprocess), preprocess, inference, model_card(artifact))


@dataclass(frozen=True, slots=True)
class Job:
    """A window that waits for its prediction; one of the two functions is called, in the inference thread."""

    window: Window
    done: Callable[[Prediction | None], None]  # None: skipped, the model was not asked
    failed: Callable[[Exception], None]
    skip: bool = False  # answer in turn, without the model
    alone: bool = False  # never share a call, so that the same window always gives the same bits
    session: str | None = None  # whose window it is, for the log


class InferenceThread:
    """Runs the model on the windows of all sessions.

    Live windows share a call, up to ``MAX_BATCH`` of them; a replayed one never does.

    Each kind is answered in order of arrival, and where both wait they take turns: a replay at its greatest speed
    delays a live session by one window at most, and is not starved by live ones.

    Args:
        predict: Runs the model, e.g. ``Predictor.predict``.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._together: deque[Job] = deque()
        self._alone: deque[Job] = deque()
        self._alone_next = False  # whose turn it is where both wait
        self._closed = False
        self._changed = threading.Condition()  # guards all of these
        self._thread = threading.Thread(target=self._run, name="clmer-inference", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; from any thread."""
        with self._changed:
            (self._alone if job.alone else self._together).append(job)
            self._changed.notify()

    def stop(self, timeout_s: float) -> None:
        """Answer what waits, then end; do not wait longer than ``timeout_s`` seconds for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while batch := self._next_batch():
            self._answer(batch)

    def _next_batch(self) -> list[Job]:
        """Return what waits and may share a call; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._together or self._alone or self._closed)
            alone = bool(self._alone) and (self._alone_next or not self._together)
            self._alone_next = not alone
            if alone:
                return [self._alone.popleft()]
            return [self._together.popleft() for _ in range(min(MAX_BATCH, len(self._together)))]

    def _answer(self, batch: list[Job]) -> None:
        """Answer jobs; where a call fails for several, each is asked alone, so that one cannot fail the others."""
        asked = [job.window for job in batch if not job.skip]
        try:
            answers = iter(self._predict(asked) if asked else ())
        except Exception as error:
            if len(asked) > 1:
                for job in batch:
                    self._answer([job])
                return
            for job in batch:
                self._finish(job, None) if job.skip else job.failed(error)
            return
        for job in batch:
            self._finish(job, None if job.skip else next(answers))

    def _finish(self, job: Job, answer: Prediction | None) -> None:
        try:
            job.done(answer)
        except Exception:  # the fault of one session: the others wait for their answers
            logger.exception("an answer of the model was not taken", extra={OF_SESSION: job.session})


def check_device(device: str) -> None:
    """Check that a device exists, before anything else is read.

    Raises:
        DeviceError: The device is unknown or absent.
    """
    if device not in ("auto", "cpu"):  # these are always there: no reason to wait for torch yet
        from clmer_model.predictor import choose_device

        choose_device(device)


def load_predictor(artifact: ArtifactFile, device: str) -> Predictor:
    """Return the model on its device, warm; torch then keeps to one thread.

    Raises:
        ArtifactError: The model cannot be run here.
        DeviceError: The device is unknown or absent.
    """
    from clmer_model.predictor import Predictor, limit_threads

    limit_threads()
    predictor = Predictor(artifact, device)
    predictor.warm_up()
    return predictor


def model_info(artifact: ArtifactFile, predictor: Predictor, preprocess: PreprocessConfig) -> ModelInfo:
    """Return the description of the model that clients get."""
    meta = artifact.meta
    return ModelInfo(
        id=meta.name,
        sha256=artifact.sha256,
        config_hash=preprocess.config_hash,
        labels=meta.labels,
        trained_on=meta.trained_on,
        runner=predictor.runner,
        device=str(predictor.device),
        eeg_ch_names=preprocess.signal.ch_names,
        eeg_rate_hz=preprocess.signal.sfreq,
    )


def model_card(artifact: ArtifactFile) -> dict[str, Any]:
    """Return the artifact's description of itself as plain JSON values, without the bulky reference input."""
    card: dict[str, Any] = json.loads(artifact.meta.to_json())
    del card["reference"]
    return card
