"""One run of a session: the threads from the sources to the events, and how they end.

::

    source threads -> ItemQueue -> pipeline thread -> inference thread (shared) -> EventSink
                                   Preprocessor       Predictor                   (event loop)

The session is the only place beside the sources that reads the clock, and only for latencies. To be read in this
order: ``Session``, then how errors are put into words.
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
from clmer_server.session.pipeline import (
    ItemQueue,
    LatencyTracker,
    PredictionQueue,
    Previews,
    SourceThreads,
    StreamWatch,
)
from clmer_server.session.sink import EventSink
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


logger = logging.getLogger(__name__)

LIVE_QUEUE_ITEMS = 8192
"""Items that may wait in a live session: a minute of EEG at 128 Hz that comes sample by sample."""

REPLAY_QUEUE_ITEMS = 64
"""Items that may wait in a replay, which is held back by a full queue."""

WARNING_CODES: dict[SourceMode, NoticeCode] = {
    "live": NoticeCode.SESSION_WARNING,
    "replay": NoticeCode.RECORDING_WARNING,
}
"""Codes of the notices about what was odd in the inputs."""

END_NOTICES: dict[SourceMode, Notice] = {
    "live": Notice(code=NoticeCode.INPUT_ENDED, message="The input streams have ended."),
    "replay": Notice(code=NoticeCode.REPLAY_ENDED, message="The recording has been replayed to its end."),
}
"""The notices when the sources have ended."""


class Session:
    """One run: sources, pipeline and model calls of one participant. Every window gives exactly one event.

    Example::

        inference = InferenceThread(predictor.predict)
        inference.start()
        config = SessionConfig(replay=Path("session.xdf"), speed=math.inf)
        inputs, _ = replay_inputs(config, preprocess)
        context = EventContext(config.name, model_info(artifact, predictor, preprocess), config.mode)
        session = Session(context, inputs, preprocess, inference, EventSink(print))
        session.start()
        session.wait()

    Args:
        context: What all its events share.
        inputs: Its sources.
        preprocess: The signal settings of the model.
        inference: The running inference thread.
        sink: Where its messages go, and the items that it is fed.

    Attributes:
        controls: What clients may change while it runs.
        state: What it is doing.
        failure: Why it failed; None where it did not.
    """

    def __init__(
        self,
        context: EventContext,
        inputs: Inputs,
        preprocess: PreprocessConfig,
        inference: InferenceThread,
        sink: EventSink,
    ) -> None:
        self.state = SessionState.WAITING
        self.failure: Exception | None = None
        self._state_lock = threading.Lock()  # guards both
        self._context = context
        self._inputs = inputs
        self._sink = sink
        self._live = inputs.mode == "live"
        self._marked = False  # whether clients' markers have been announced
        self._latency = LatencyTracker()
        self._preprocessor = Preprocessor(preprocess)
        self._watch = StreamWatch(inputs)
        self._previews = Previews(context.session, sink)
        self._predictions = PredictionQueue(context, inference, sink, self._fail)
        self.controls = Controls(inputs, preprocess, sink.send)
        self._items = ItemQueue(LIVE_QUEUE_ITEMS if self._live else REPLAY_QUEUE_ITEMS, blocking=not self._live)
        self._stop = threading.Event()
        sources = SourceThreads(inputs.sources, self._items, self._stop, self._fail)
        pipeline = threading.Thread(target=self._run_pipeline, name="clmer-pipeline", daemon=True)
        self._threads = (*sources.threads, pipeline)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.state is SessionState.RUNNING

    def start(self) -> None:
        """Start the threads; do nothing where it was started or stopped before.

        To be called where ``EventSink.publish`` may be called: the first messages are sent at once.
        """
        with self._state_lock:
            if self.state is not SessionState.WAITING:
                return
            self.state = SessionState.RUNNING
        for warning in self._inputs.warnings:
            self._sink.publish(Notice(code=WARNING_CODES[self._inputs.mode], message=warning))
        for status in self._watch.begin(local_clock()):
            self._sink.publish(status_message(status, self._context.session))
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until the sources have ended and every window is answered, or the session has failed."""
        for thread in self._threads:
            thread.join()

    def mark(self, marker: Marker) -> None:
        """Queue a marker of a client behind the items so far; never waits."""
        if not self._marked:
            self._marked = True
            self._items.put_now(_marker_stream(marker.source))
        self._items.put_now(marker)

    def stream_time(self, t: float) -> float:
        """Return the stream time at ``t`` seconds of the LSL clock; not finite before a replay has begun.

        In a replay it is as far behind the newest item as ``t`` is behind now.
        """
        return t if self._live else self._watch.t - (local_clock() - t)

    def stop(self, timeout_s: float) -> None:
        """End the session without a message; do not wait longer than ``timeout_s`` seconds for its threads."""
        self._end(SessionState.STOPPED)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run_pipeline(self) -> None:
        try:
            if self._inputs.rest is not None:
                self._feed(self._inputs.rest)
            while (item := self._items.get()) is not None:
                self._process(item)
            if self.running:
                self._predictions.wait()
            if self._end(SessionState.ENDED):
                self._send_last("the session has ended", END_NOTICES[self._inputs.mode])
        except Exception as error:
            self._fail(error)

    def _process(self, item: Item) -> None:
        """Process one item on the pipeline thread: everything that happens with it happens here, in this order."""
        self._latency.push(item, local_clock())
        windows = self._feed(item)
        if isinstance(item, Marker):
            self._send_marker(item)
        for status in self._watch.push(item, self._preprocessor.statuses, windows_closed=bool(windows)):
            self._sink.send(status_message(status, self._context.session))
        for window in windows:
            self._predictions.submit(window, self._latency)
        if (rest := self.controls.push(windows)) is not None:
            self._feed(rest)
        self._previews.push(item)
        if windows:
            self._previews.windows_closed(self._preprocessor)

    def _feed(self, item: Item) -> list[Window]:
        """Give an item to the recording and the preprocessor, in this order; return the windows that it closes.

        The participant's EEG at rest is an item like any other, which a recording keeps at its place.
        """
        self._sink.record(item)
        if isinstance(item, RestBaseline):
            self.controls.rest.set_known(item)
        return self._preprocessor.push(item)

    def _send_marker(self, marker: Marker) -> None:
        marked = marked_windows(marker.t, self._preprocessor.config.window, self._predictions.newest)
        self._sink.send(marker_message(marker, self._context.session, marked))

    def _fail(self, error: Exception) -> None:
        """End the session with its cause, which clients and log get."""
        if not self._end(SessionState.FAILED, error):
            return
        traceback = None if isinstance(error, ClmerError) else error  # the user can mend the former without one
        name, text = self._context.session, describe_for_log(error)
        logger.error("session %s has failed: %s", name, text, exc_info=traceback, extra={OF_SESSION: name})
        notice = Notice(code=NoticeCode.SESSION_FAILED, message=describe_error(error))
        self._send_last("the session has failed", notice, Bye(reason=ByeReason.SESSION_FAILED))

    def _send_last(self, why: str, *messages: Message) -> None:
        """Send the notices of calibrations that are given up, then the last messages."""
        for message in (*self.controls.give_up(why), *messages):
            self._sink.send(message)
        self._sink.end()

    def _end(self, state: SessionState, failure: Exception | None = None) -> bool:
        """Set the last state and let every thread end; return False where the session had ended before."""
        with self._state_lock:
            if self.state not in (SessionState.WAITING, SessionState.RUNNING):
                return False
            self.state, self.failure = state, failure
        self._stop.set()
        self._items.close(discard=True)
        return True


def _marker_stream(source: str) -> StreamInfo:
    return StreamInfo(source, "markers", f"CLMER-{source}", ("label",), 0.0, type="Markers", channel_format="string")


def describe_error(error: Exception) -> str:
    """Return an error as one line for clients; of an unexpected one, only its type."""
    if isinstance(error, ClmerError):
        return f"expected {error.expected}, found {error.found}; {error.mend}"
    return f"{type(error).__name__}: {UNEXPECTED}"


def describe_for_log(error: Exception) -> str:
    """Return an error as one line for the log, without the values of a message."""
    if isinstance(error, ClmerError):
        return describe_error(error)
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return f"{type(error).__name__} of {error.title}: {found}"
    return f"{type(error).__name__}: {error}"
