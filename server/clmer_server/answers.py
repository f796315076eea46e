"""From a session's windows to its events: each is asked of the model once, numbered, and published."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

from clmer_model.prediction import Prediction
from clmer_server.arrival import Arrival
from clmer_server.delivery import Delivery
from clmer_server.events import EventContext, EventTimes, emotion_event, quality_message
from clmer_server.inference import InferenceThread, Job
from clmer_streaming.clock import local_clock
from clmer_streaming.types import Window

MAX_WAITING_WINDOWS = 4
"""Windows that may wait for the model. More: it is late, and a live session skips windows."""


class Answers:
    """Every window gives exactly one event, in order.

    Args:
        context: What all events share.
        inference: The running inference thread.
        delivery: How events reach the clients.
        fail: Ends the session with its cause; called in any thread.

    Attributes:
        newest: Number of the newest window's event, and its index on the grid; None before the first.
    """

    def __init__(
        self,
        context: EventContext,
        inference: InferenceThread,
        delivery: Delivery,
        fail: Callable[[Exception], None],
    ) -> None:
        self.newest: tuple[int, int] | None = None
        self._context = context
        self._inference = inference
        self._delivery = delivery
        self._fail = fail
        self._live = context.source == "live"
        self._seq = context.first_seq  # of the next event
        self._places = threading.Semaphore(MAX_WAITING_WINDOWS)  # one is held by each window at the model

    def submit(self, window: Window, arrival: Arrival) -> None:
        """Queue a window for the model; a live session skips it where too many wait already."""
        ready = local_clock()
        skip = not self._places.acquire(blocking=not self._live)
        self.newest = self._seq, window.index
        arrived = arrival.eeg_s, arrival.face_s
        done = functools.partial(self._answer, self._seq, window, (ready, *arrived))
        self._seq += 1
        name = self._context.session
        job = Job(window, done=done, failed=self._fail_at_model, skip=skip, alone=not self._live, session=name)
        self._inference.submit(job)

    def wait(self) -> None:
        """Wait until every window has been answered; nothing can be submitted behind it."""
        for _ in range(MAX_WAITING_WINDOWS):
            self._places.acquire()

    def _answer(
        self, seq: int, window: Window, before: tuple[float, float, float], prediction: Prediction | None
    ) -> None:
        """Publish the event of a window; called in the inference thread, which other sessions wait for."""
        answered = local_clock()

        def publish() -> None:
            ready, eeg_s, face_s = before
            times = EventTimes(ready, answered, out=local_clock(), unix=time.time(), acquire_s=eeg_s, face_s=face_s)
            try:
                self._publish(seq, window, prediction, times)
            except Exception as error:
                self._fail(error)
            finally:
                if prediction is not None:
                    self._places.release()

        self._delivery.hand_over(publish)

    def _publish(self, seq: int, window: Window, prediction: Prediction | None, times: EventTimes) -> None:
        event = emotion_event(seq, window, prediction, self._context, times)
        self._delivery.publish(event)
        if self._delivery.sink is not None and self._delivery.sink.wants("quality"):
            self._delivery.publish(quality_message(seq, window, event))

    def _fail_at_model(self, error: Exception) -> None:
        self._fail(error)
        self._places.release()
