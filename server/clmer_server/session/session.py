"""One participant's run: the threads from the sources to the events, and how they end.

::

    source threads -> ItemQueue -> pipeline thread -> inference thread (shared) -> hand_over -> publish
                                 Preprocessor       Predictor                   (event loop)  (Hub)

The session is the only place beside the sources that reads the clock, and only for latencies.
"""

from __future__ import annotations

import logging
import threading
import time
from enum import StrEnum

from pydantic import ValidationError

from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import UNEXPECTED, ByeReason, NoticeCode
from clmer_server.protocol.outbound import Bye, Message, Notice
from clmer_server.protocol.parts import SourceMode
from clmer_server.session.calibration import Controls
from clmer_server.session.events import EventContext, marked_windows, marker_message, status_message
from clmer_server.session.inference import InferenceThread
from clmer_server.session.inputs import Inputs
from clmer_server.session.pipeline import Delivery, ItemQueue, LatencyTracker, PredictionQueue, Previews, SourceThreads
from clmer_server.session.status import StreamWatch
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ClmerError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import Item, Marker, RestBaseline, StreamInfo, Window


class SessionState(StrEnum):
    """What a session is doing."""

    WAITING = "waiting"  # not started
    RUNNING = "running"
    ENDED = "ended"  # its sources have nothing more
    FAILED = "failed"
    STOPPED = "stopped"


class SessionLife:
    """The state of one run of a session; its methods may be called in any thread."""

    def __init__(self) -> None:
        self.state = SessionState.WAITING
        self.failure: Exception | None = None  # why it failed
        self._lock = threading.Lock()  # guards both

    def begin(self) -> bool:
        """Let it run; False where it was started or stopped before."""
        with self._lock:
            if self.state is not SessionState.WAITING:
                return False
            self.state = SessionState.RUNNING
            return True

    def end(self, state: SessionState, failure: Exception | None = None) -> bool:
        """Take the last state; False where it had ended before."""
        with self._lock:
            if self.state not in (SessionState.WAITING, SessionState.RUNNING):
                return False
            self.state, self.failure = state, failure
            return True


def describe(error: Exception) -> str:
    """Return an error as one line for clients; of one that nobody foresaw, no more than its kind."""
    if isinstance(error, ClmerError):
        return f"expected {error.expected}, found {error.found}; {error.mend}"
    return f"{type(error).__name__}: {UNEXPECTED}"


def describe_in_log(error: Exception) -> str:
    """Return an error as one line for the log, which holds no values that a message has."""
    if isinstance(error, ClmerError):
        return describe(error)
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return f"{type(error).__name__} of {error.title}: {found}"
    return f"{type(error).__name__}: {error}"


logger = logging.getLogger(__name__)

LIVE_INTAKE_ITEMS = 8192
"""Items that may wait in a live session: a minute of EEG at 128 Hz that comes sample by sample."""

REPLAY_INTAKE_ITEMS = 64
"""Items that may wait in a replay, which is held back by a full intake."""

WARNING_CODES: dict[SourceMode, NoticeCode] = {
    "live": NoticeCode.SESSION_WARNING,
    "replay": NoticeCode.RECORDING_WARNING,
}
"""Codes of what a person should know before believing the numbers."""

END_NOTICES: dict[SourceMode, Notice] = {
    "live": Notice(code=NoticeCode.INPUT_ENDED, message="The input streams have ended."),
    "replay": Notice(code=NoticeCode.REPLAY_ENDED, message="The recording has been replayed to its end."),
}
"""What clients are told when the sources have nothing more."""


class Session:
    """Runs sources, pipeline and model calls of one participant; every window gives exactly one event.

    Args:
        context: What all its events share.
        inputs: Its sources.
        preprocess: The signal settings of the model.
        inference: The running inference thread.
        delivery: How its messages reach the clients.

    Attributes:
        controls: What clients may change while it runs.
    """

    def __init__(
        self,
        context: EventContext,
        inputs: Inputs,
        preprocess: PreprocessConfig,
        inference: InferenceThread,
        delivery: Delivery,
    ) -> None:
        self._life = SessionLife()
        self._context = context
        self._inputs = inputs
        self._delivery = delivery
        self._live = inputs.mode == "live"
        self._marked = False  # whether clients' markers have been announced
        self._arrival = LatencyTracker()
        self._preprocessor = Preprocessor(preprocess)
        self._watch = StreamWatch(inputs)
        self._previews = Previews(context.session, delivery.sink, delivery.hand_over) if delivery.sink else None
        self._answers = PredictionQueue(context, inference, delivery, self._fail)
        self.controls = Controls(inputs, preprocess, delivery.send)
        self._intake = ItemQueue(LIVE_INTAKE_ITEMS if self._live else REPLAY_INTAKE_ITEMS, blocking=not self._live)
        self._stop = threading.Event()
        sources = SourceThreads(inputs.sources, self._intake, self._stop, self._fail)
        pipeline = threading.Thread(target=self._run_pipeline, name="clmer-pipeline", daemon=True)
        self._threads = (*sources.threads, pipeline)

    @property
    def state(self) -> SessionState:
        """What it is doing."""
        return self._life.state

    @property
    def failure(self) -> Exception | None:
        """Why it failed; None where it did not."""
        return self._life.failure

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.state is SessionState.RUNNING

    def start(self) -> None:
        """Start the threads; a session that was started or stopped already is left as it is.

        Called where ``publish`` may be called, because it tells at once what is waited for.
        """
        if not self._life.begin():
            return
        for warning in self._inputs.warnings:
            self._delivery.publish(Notice(code=WARNING_CODES[self._inputs.mode], message=warning))
        for status in self._watch.begin(local_clock()):
            self._delivery.publish(status_message(status, self._context.session))
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until the sources have ended and every window is answered, or the session has failed."""
        for thread in self._threads:
            thread.join()

    def mark(self, marker: Marker) -> None:
        """Take a marker of a client to its place among the items; never waits."""
        if not self._marked:
            self._marked = True
            self._intake.put_now(_marker_stream(marker.source))
        self._intake.put_now(marker)

    def stream_time(self, t: float) -> float:
        """Return when ``t`` seconds of the LSL clock is for the session; not finite before a replay has begun.

        A replay is as far behind its newest item as ``t`` is behind now.
        """
        return t if self._live else self._watch.t - (local_clock() - t)

    def stop(self, timeout_s: float) -> None:
        """End the session without a word; do not wait longer than ``timeout_s`` seconds for its threads."""
        self._end(SessionState.STOPPED)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run_pipeline(self) -> None:
        try:
            if self._inputs.rest is not None:
                self._observe(self._inputs.rest)
            while (item := self._intake.take()) is not None:
                self._take(item)
            if self.running:
                self._answers.wait()
            if self._end(SessionState.ENDED):
                self._say_last("the session has ended", END_NOTICES[self._inputs.mode])
        except Exception as error:
            self._fail(error)

    def _take(self, item: Item) -> None:
        self._arrival.take(item, local_clock())
        windows = self._observe(item)
        if isinstance(item, Marker):
            self._tell_marker(item)
        for status in self._watch.take(item, self._preprocessor.statuses, windows_closed=bool(windows)):
            self._delivery.send(status_message(status, self._context.session))
        for window in windows:
            self._answers.submit(window, self._arrival)
        if (rest := self.controls.take(windows)) is not None:
            self._observe(rest)
        self._show(item, windows)

    def _observe(self, item: Item) -> list[Window]:
        """Give an item to the recorder and the preprocessor, in this order; return the windows that it closes.

        The participant's EEG at rest is an item like any other, which a recording keeps at its place.
        """
        self._delivery.observe(item)
        if isinstance(item, RestBaseline):
            self.controls.rest.know(item)
        return self._preprocessor.push(item)

    def _tell_marker(self, marker: Marker) -> None:
        marked = marked_windows(marker.t, self._preprocessor.config.window, self._answers.newest)
        self._delivery.send(marker_message(marker, self._context.session, marked))

    def _show(self, item: Item, windows: list[Window]) -> None:
        """Make previews, where somebody could look."""
        if self._previews is not None:
            self._previews.take(item)
            if windows:
                self._previews.windows_closed(self._preprocessor)

    def _fail(self, error: Exception) -> None:
        """End the session with its cause, told to everybody."""
        if not self._end(SessionState.FAILED, error):
            return
        traceback = None if isinstance(error, ClmerError) else error  # the user can mend the former without one
        name, text = self._context.session, describe_in_log(error)
        logger.error("session %s has failed: %s", name, text, exc_info=traceback, extra={OF_SESSION: name})
        notice = Notice(code=NoticeCode.SESSION_FAILED, message=describe(error))
        self._say_last("the session has failed", notice, Bye(reason=ByeReason.SESSION_FAILED))

    def _say_last(self, why: str, *messages: Message) -> None:
        """Tell of calibrations that come to nothing, and why; then the last messages."""
        for message in (*self.controls.give_up(why), *messages):
            self._delivery.send(message)
        self._delivery.hand_over(self._delivery.over)

    def _end(self, state: SessionState, failure: Exception | None = None) -> bool:
        """Take the last state and let every thread end; False where the session had ended before."""
        if not self._life.end(state, failure):
            return False
        self._stop.set()
        self._intake.close(discard=True)
        return True


def _marker_stream(source: str) -> StreamInfo:
    return StreamInfo(source, "markers", f"CLMER-{source}", ("label",), 0.0, type="Markers", channel_format="string")
