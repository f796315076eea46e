"""One participant's run: the threads from the sources to the events, and how they end.

::

    source threads -> Intake -> pipeline thread -> inference thread (shared) -> hand_over -> publish
                                 Preprocessor       Predictor                   (event loop)  (Hub)

The session is the only place beside the sources that reads the clock, and only for latencies.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from clmer_model.prediction import Prediction
from clmer_server.arrival import Arrival
from clmer_server.controls import Controls
from clmer_server.events import (
    EventContext,
    EventTimes,
    emotion_event,
    marked_windows,
    marker_message,
    quality_message,
    status_message,
)
from clmer_server.inference import InferenceThread, Job
from clmer_server.inputs import Inputs
from clmer_server.intake import Intake
from clmer_server.previews import Previews, PreviewSink
from clmer_server.protocol.outbound import Bye, Message, Notice
from clmer_server.protocol.parts import SourceMode
from clmer_server.rest_calibration import RestCalibration
from clmer_server.status_feed import StatusFeed
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ClmerError
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.side_streams import SideStreams
from clmer_streaming.stream_clock import StreamClock
from clmer_streaming.types import (
    Chunk,
    FaceSample,
    Item,
    Marker,
    RestReference,
    Source,
    StreamInfo,
    StreamStatus,
    Window,
)

logger = logging.getLogger(__name__)

LIVE_INTAKE_ITEMS = 8192
"""Items that may wait in a live session: a minute of EEG at 128 Hz that comes sample by sample."""

REPLAY_INTAKE_ITEMS = 64
"""Items that may wait in a replay, which is held back by a full intake."""

MAX_WAITING_WINDOWS = 4
"""Windows that may wait for the model. More: it is late, and a live session skips windows."""

LOOK_S = 0.25
"""Stream time in seconds after which samples that complete no window let the streams be looked at again."""

WARNING_CODES: dict[SourceMode, str] = {"live": "session_warning", "replay": "recording_warning"}
"""Codes of what a person should know before believing the numbers."""

END_NOTICES: dict[SourceMode, Notice] = {
    "live": Notice(code="input_ended", message="The input streams have ended."),
    "replay": Notice(code="replay_ended", message="The recording has been replayed to its end."),
}
"""What clients are told when the sources have nothing more."""

HandOver = Callable[[Callable[[], None]], None]
"""Has a function called where messages may be published, in turn. It never waits: other sessions share its threads."""


@dataclass(frozen=True)
class Delivery:
    """The way of a session's messages to the clients."""

    publish: Callable[[Message], None]  # e.g. Hub.publish
    hand_over: HandOver  # every call of publish goes through it, e.g. onto the event loop
    observe: Callable[[Item], None] = lambda item: None  # gets each item before the preprocessor, e.g. a recorder
    sink: PreviewSink | None = None  # who looks at the signals, e.g. Hub; None: nobody
    over: Callable[[], None] = lambda: None  # called like publish, behind the last message of a session that ended


class SessionState(StrEnum):
    """What a session is doing."""

    WAITING = "waiting"  # not started
    RUNNING = "running"
    ENDED = "ended"  # its sources have nothing more
    FAILED = "failed"
    STOPPED = "stopped"


class Session:
    """Runs sources, pipeline and model calls of one participant; every window gives exactly one event.

    Args:
        context: What all its events share.
        inputs: Its sources.
        preprocess: The signal settings of the model.
        inference: The running inference thread.
        delivery: How its messages reach the clients.
    """

    def __init__(
        self,
        context: EventContext,
        inputs: Inputs,
        preprocess: PreprocessConfig,
        inference: InferenceThread,
        delivery: Delivery,
    ) -> None:
        self.state = SessionState.WAITING
        self.failure: Exception | None = None  # why it failed
        self._context = context
        self._inputs = inputs
        self._preprocessor = Preprocessor(preprocess)
        self._inference = inference
        self._publish = delivery.publish
        self._hand_over = delivery.hand_over
        self._observe = delivery.observe
        self._sink = delivery.sink
        self._previews = Previews(context.session, delivery.sink, delivery.hand_over) if delivery.sink else None
        self._arrival = Arrival()
        self._newest: tuple[int, int] | None = None  # number and grid index of the newest window
        self._marked = False  # whether clients' markers have been announced
        self._over = delivery.over
        self._live = inputs.mode == "live"
        self._rest = RestCalibration(preprocess, inputs.rest, inputs.keep_rest, self._send)
        self.controls = Controls(inputs, self._rest, tell=self._send)
        self._intake = Intake(LIVE_INTAKE_ITEMS if self._live else REPLAY_INTAKE_ITEMS, blocking=not self._live)
        self._places = threading.Semaphore(MAX_WAITING_WINDOWS)  # one is held by each window at the model
        self._feed = StatusFeed()
        self._side = SideStreams(inputs.silence)
        self._expected: tuple[StreamStatus, ...] = ()  # streams waited for, since when the session was started
        self._seq = context.first_seq  # of the next event
        self._clock = StreamClock()
        self._looked_t = -math.inf  # s of stream time, when the states of the streams were last looked at
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards state, failure and _n_running
        self._n_running = len(inputs.sources)
        self._threads = [self._source_thread(source) for source in inputs.sources]
        self._threads.append(threading.Thread(target=self._run_pipeline, name="clmer-pipeline", daemon=True))

    def start(self) -> None:
        """Start the threads; a session that was started or stopped already is left as it is.

        Called where ``publish`` may be called, because it tells at once what is waited for.
        """
        with self._lock:
            if self.state is not SessionState.WAITING:
                return
            self.state = SessionState.RUNNING
        for warning in self._inputs.warnings:
            self._publish(Notice(code=WARNING_CODES[self._inputs.mode], message=warning))
        now = local_clock()
        self._expected = tuple(replace(status, since=now) for status in self._inputs.expected)
        for status in self._feed.update(self._expected, self._clock.t):
            self._publish(status_message(status, self._context.session))
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until the sources have ended and every window is answered, or the session has failed."""
        for thread in self._threads:
            thread.join()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.state is SessionState.RUNNING

    def mark(self, marker: Marker) -> None:
        """Take a marker of a client to its place among the items; never waits."""
        if not self._marked:
            self._marked = True
            self._intake.put_now(_marker_stream(marker.source))
        self._intake.put_now(marker)

    def stream_time(self, t: float) -> float:
        """Return when ``t`` seconds of the LSL clock is for the session; NaN before a replay has begun.

        A replay is as far behind its newest item as ``t`` is behind now.
        """
        return t if self._live else self._clock.t - (local_clock() - t)

    def stop(self, timeout_s: float) -> None:
        """End the session without a word; do not wait longer than ``timeout_s`` seconds for its threads."""
        self._end(SessionState.STOPPED)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _source_thread(self, source: Source) -> threading.Thread:
        return threading.Thread(target=self._run_source, args=(source,), name="clmer-source", daemon=True)

    def _run_source(self, source: Source) -> None:
        try:
            source.run(self._intake.put, self._stop)
        except Exception as error:
            self._fail(error)
        with self._lock:
            self._n_running -= 1
            last = self._n_running == 0
        if last:
            self._intake.close()

    def _run_pipeline(self) -> None:
        try:
            self._measure_against(self._inputs.rest)
            while (item := self._intake.take()) is not None:
                self._take(item)
            if self.state is SessionState.RUNNING:
                for _ in range(MAX_WAITING_WINDOWS):  # all places free: every window has been answered
                    self._places.acquire()
            if self._end(SessionState.ENDED):
                self._send(END_NOTICES[self._inputs.mode])
                self._hand_over(self._over)
        except Exception as error:
            self._fail(error)

    def _take(self, item: Item) -> None:
        self._observe(item)
        self._arrival.take(item, local_clock())
        windows = self._preprocessor.push(item)
        if isinstance(item, Marker):
            marked = marked_windows(item.t, self._preprocessor.config.window, self._newest)
            self._send(marker_message(item, self._context.session, marked))
        t = self._clock.take(item)
        beside = self._side.push(item, t)
        if windows or not isinstance(item, Chunk | FaceSample) or abs(t - self._looked_t) >= LOOK_S:
            self._looked_t = t
            streams = self._inputs.streams(self._preprocessor.statuses(), self._expected)
            for status in self._feed.update((*streams, *beside), t):
                self._send(status_message(status, self._context.session))
        for window in windows:
            self._submit(window)
        self._measure_against(self._rest.take(windows))
        if self._previews is not None:
            self._previews.take(item)
            if windows:
                self._previews.windows_closed(self._preprocessor)

    def _measure_against(self, rest: RestReference | None) -> None:
        """Let the participant's EEG at rest be an item like any other, which a recording keeps at its place."""
        if rest is not None:
            self._observe(rest)
            self._preprocessor.push(rest)

    def _submit(self, window: Window) -> None:
        """Queue a window for the model; a live session skips it where too many wait already."""
        ready = local_clock()
        skip = not self._places.acquire(blocking=not self._live)
        self._newest = self._seq, window.index
        arrived = self._arrival.eeg_s, self._arrival.face_s
        done = functools.partial(self._answer, self._seq, window, (ready, *arrived))
        self._seq += 1
        self._inference.submit(Job(window, done=done, failed=self._fail_at_model, skip=skip, alone=not self._live))

    def _answer(
        self, seq: int, window: Window, before: tuple[float, float, float], prediction: Prediction | None
    ) -> None:
        """Publish the event of a window; called in the inference thread, which other sessions wait for."""
        answered = local_clock()

        def publish() -> None:
            ready, eeg_s, face_s = before
            times = EventTimes(ready, answered, out=local_clock(), unix=time.time(), acquire_s=eeg_s, face_s=face_s)
            try:
                event = emotion_event(seq, window, prediction, self._context, times)
                self._publish(event)
                if self._sink is not None and self._sink.wants("quality"):
                    self._publish(quality_message(seq, window, event))
            except Exception as error:
                self._fail(error)
            finally:
                if prediction is not None:
                    self._places.release()

        self._hand_over(publish)

    def _fail_at_model(self, error: Exception) -> None:
        self._fail(error)
        self._places.release()

    def _send(self, message: Message) -> None:
        self._hand_over(functools.partial(self._publish, message))

    def _fail(self, error: Exception) -> None:
        """End the session with its cause, told to everybody."""
        if not self._end(SessionState.FAILED, error):
            return
        traceback = None if isinstance(error, ClmerError) else error  # the user can mend the former without one
        logger.error("session %s has failed: %s", self._context.session, describe(error), exc_info=traceback)
        self._send(Notice(code="session_failed", message=describe(error)))
        self._send(Bye(reason="session_failed"))
        self._hand_over(self._over)

    def _end(self, state: SessionState, failure: Exception | None = None) -> bool:
        """Take the last state and let every thread end; False where the session had ended before."""
        with self._lock:
            if self.state not in (SessionState.WAITING, SessionState.RUNNING):
                return False
            self.state, self.failure = state, failure
        self._stop.set()
        self._intake.close(discard=True)
        return True


def _marker_stream(source: str) -> StreamInfo:
    return StreamInfo(source, "markers", f"CLMER-{source}", ("label",), 0.0, type="Markers", channel_format="string")


def describe(error: Exception) -> str:
    """Return an error as one line for people."""
    if isinstance(error, ClmerError):
        return f"expected {error.expected}, found {error.found}; {error.mend}"
    return f"{type(error).__name__}: {error}"
