"""The parts that the pipeline thread of a session works with.

To be read in this order, which is that of the data: the queue of items, the threads of the sources that fill it, the
latencies, the queue of windows at the model, the statuses of the streams, and the previews.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from clmer_model.prediction import Prediction
from clmer_server.protocol.outbound import Preview
from clmer_server.session.events import EventContext, EventTimes, emotion_event, quality_message
from clmer_server.session.inference import InferenceThread, Job
from clmer_server.session.inputs import Inputs
from clmer_server.session.sink import EventSink
from clmer_streaming.clock import StreamClock, local_clock
from clmer_streaming.pipeline.liveness import ExtraStreams
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import (
    INPUT_KINDS,
    BoolArray,
    Chunk,
    FaceSample,
    FloatArray,
    Item,
    Source,
    StreamInfo,
    StreamStatus,
    Window,
)


class ItemQueueOverflowError(Exception):
    """Items came faster than the pipeline processed them; EEG is never dropped silently."""


class ItemQueue:
    """A bounded queue between the threads of the sources and the pipeline thread.

    Args:
        capacity: Items that may wait.
        blocking: What ``put`` does where the queue is full: wait (a replay), or fail (live).
    """

    def __init__(self, capacity: int, *, blocking: bool) -> None:
        self._capacity = capacity
        self._blocking = blocking
        self._items: deque[Item] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Add an item; after ``close`` it is discarded.

        Raises:
            ItemQueueOverflowError: The queue is full and not blocking.
        """
        with self._changed:
            if self._blocking:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            elif len(self._items) >= self._capacity and not self._closed:
                raise ItemQueueOverflowError(
                    f"{self._capacity} items wait for the pipeline: this machine is too slow for the stream"
                )
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def put_now(self, item: Item) -> None:
        """Add an item at once, also where the queue is full; after ``close`` it is discarded."""
        with self._changed:
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def get(self) -> Item | None:
        """Wait for the next item and return it; None when the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """Accept no more items; those that wait are still returned unless ``discard`` is set."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


class SourceThreads:
    """One thread for each source; when the last one ends, the queue is closed.

    Args:
        sources: What they run.
        items: The queue that they fill.
        stop: Set to end them.
        fail: Called with what a source raised, in its thread.
    """

    def __init__(
        self, sources: Sequence[Source], items: ItemQueue, stop: threading.Event, fail: Callable[[Exception], None]
    ) -> None:
        self._items = items
        self._stop = stop
        self._fail = fail
        self._lock = threading.Lock()  # guards _n_running
        self._n_running = len(sources)
        self.threads = tuple(
            threading.Thread(target=self._run, args=(source,), name="clmer-source", daemon=True) for source in sources
        )

    def _run(self, source: Source) -> None:
        try:
            source.run(self._items.put, self._stop)
        except Exception as error:
            self._fail(error)
        with self._lock:
            self._n_running -= 1
            last = self._n_running == 0
        if last:
            self._items.close()


class LatencyTracker:
    """Measures how old the newest EEG sample and the newest frame were when they came.

    Attributes:
        eeg_s: Age of the newest EEG sample in seconds; NaN before the first one.
        face_s: Age of the newest frame in seconds; NaN before the first one.
    """

    def __init__(self) -> None:
        self.eeg_s = math.nan
        self.face_s = math.nan
        self._eeg = ""  # the source of EEG

    def push(self, item: Item, now: float) -> None:
        """Measure an item that came at ``now`` seconds."""
        if isinstance(item, Chunk):
            if item.source == self._eeg and item.t.size:
                self.eeg_s = now - float(item.t[-1])
        elif isinstance(item, FaceSample):
            self.face_s = now - item.t
        elif isinstance(item, StreamInfo) and item.kind == "eeg":
            self._eeg = item.source


MAX_WAITING_WINDOWS = 4
"""Windows that may wait for the model. More: it is late, and a live session skips windows."""


class PredictionQueue:
    """The windows at the model: every one gives exactly one event, in order.

    Args:
        context: What all events share.
        inference: The running inference thread.
        sink: Where the events go.
        fail: Ends the session with its cause; called in any thread.

    Attributes:
        newest: Number of the newest window's event, and its index on the grid; None before the first.
    """

    def __init__(
        self,
        context: EventContext,
        inference: InferenceThread,
        sink: EventSink,
        fail: Callable[[Exception], None],
    ) -> None:
        self.newest: tuple[int, int] | None = None
        self._context = context
        self._inference = inference
        self._sink = sink
        self._fail = fail
        self._live = context.source == "live"
        self._seq = context.first_seq  # of the next event
        self._places = threading.Semaphore(MAX_WAITING_WINDOWS)  # one is held by each window at the model

    def submit(self, window: Window, latency: LatencyTracker) -> None:
        """Queue a window for the model; a live session skips it where too many wait already."""
        ready = local_clock()
        skip = not self._places.acquire(blocking=not self._live)
        self.newest = self._seq, window.index
        ages = latency.eeg_s, latency.face_s
        done = functools.partial(self._answer, self._seq, window, (ready, *ages))
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
        """Publish the event of a window; called in the inference thread, which all sessions share."""
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

        self._sink.hand_over(publish)

    def _publish(self, seq: int, window: Window, prediction: Prediction | None, times: EventTimes) -> None:
        event = emotion_event(seq, window, prediction, self._context, times)
        self._sink.publish(event)
        if self._sink.wants("quality"):
            self._sink.publish(quality_message(seq, window, event))

    def _fail_at_model(self, error: Exception) -> None:
        self._fail(error)
        self._places.release()


UPDATE_INTERVAL_S = 1.0
"""Least stream time between two messages that bring only new numbers of an input."""

SIDE_INTERVAL_S = 5.0
"""The same for a stream that feeds no window; a lab may have many of them."""


class StatusFeed:
    """Selects the statuses that are due: changes at once, new numbers at an interval."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[StreamStatus, float]] = {}

    def update(self, statuses: Iterable[StreamStatus], t: float) -> list[StreamStatus]:
        """Return the statuses to publish.

        Args:
            statuses: The current status of every stream.
            t: Stream time now, seconds.
        """
        due = [status for status in statuses if self._is_due(status, t)]
        for status in due:
            self._sent[status.source] = (status, t)
        return due

    def _is_due(self, status: StreamStatus, t: float) -> bool:
        if status.source not in self._sent:
            return True
        sent, sent_t = self._sent[status.source]
        if (sent.kind, sent.name, sent.state, sent.since, sent.reason) != (
            status.kind,
            status.name,
            status.state,
            status.since,
            status.reason,
        ):
            return True
        interval_s = UPDATE_INTERVAL_S if status.kind in INPUT_KINDS else SIDE_INTERVAL_S
        return status != sent and not abs(t - sent_t) < interval_s


LOOK_S = 0.25
"""Stream time in seconds after which samples that complete no window let the streams be looked at again."""


class StreamWatch:
    """Returns the statuses to send: of the inputs, of those still waited for, and of streams beside them.

    Args:
        inputs: Of the session.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._feed = StatusFeed()
        self._side = ExtraStreams(inputs.silence)
        self._expected: tuple[StreamStatus, ...] = ()  # streams waited for, since when the session was started
        self._clock = StreamClock()
        self._looked_t = -math.inf  # s of stream time, when the states of the streams were last looked at

    @property
    def t(self) -> float:
        """Stream time now, in seconds; -inf before it has begun."""
        return self._clock.t

    def begin(self, now: float) -> list[StreamStatus]:
        """Return the statuses of the streams that are waited for, from ``now`` seconds on."""
        self._expected = tuple(replace(status, since=now) for status in self._inputs.expected)
        return self._feed.update(self._expected, self._clock.t)

    def push(
        self, item: Item, announced: Callable[[], Sequence[StreamStatus]], *, windows_closed: bool
    ) -> list[StreamStatus]:
        """Return the statuses to send after an item.

        Args:
            item: That the preprocessor has processed.
            announced: Returns the statuses of the preprocessor's streams.
            windows_closed: Whether the item closed a window.
        """
        t = self._clock.update(item)
        beside = self._side.push(item, t)
        samples = isinstance(item, Chunk | FaceSample) and not windows_closed
        if samples and not abs(t - self._looked_t) >= LOOK_S:
            return []
        self._looked_t = t
        return self._feed.update((*self._inputs.streams(announced(), self._expected), *beside), t)


class Previews:
    """Makes the previews of one session, in its pipeline thread, where a client has subscribed to them.

    Args:
        session: Its name.
        sink: Where they go.
    """

    def __init__(self, session: str, sink: EventSink) -> None:
        self._session = session
        self._sink = sink
        self._n_eeg = 0
        self._n_face = 0
        self._eeg_until = -math.inf  # s, newest sample that was sent or passed over
        self._face_delay_s = 0.0

    def push(self, item: Item) -> None:
        """Send a frame's landmarks, (204, 1) cm: x, y, z of each in turn."""
        if isinstance(item, FaceSample) and self._sink.wants("face.preview"):
            t, values = item.t - self._face_delay_s, item.landmarks.reshape(-1, 1)
            self._sink.send_preview(Preview("face.preview", self._session, self._n_face, t, 0.0, values))
            self._n_face += 1
        elif isinstance(item, StreamInfo) and item.kind == "face":
            self._face_delay_s = item.delay_s

    def windows_closed(self, preprocessor: Preprocessor) -> None:
        """Send the filtered EEG since the last call, a block for each segment."""
        if not self._sink.wants("eeg.preview"):
            return
        absent = ~preprocessor.eeg_present
        for t, x in preprocessor.filtered_eeg(self._eeg_until):
            self._sink.send_preview(self._eeg_block(t, x, absent))
            self._n_eeg += 1
            self._eeg_until = float(t[-1])

    def _eeg_block(self, t: FloatArray, x: FloatArray, absent: BoolArray) -> Preview:
        interval_s = float(t[-1] - t[0]) / (t.size - 1) if t.size > 1 else 0.0
        values = np.array(x)
        values[absent] = np.nan
        return Preview("eeg.preview", self._session, self._n_eeg, float(t[0]), interval_s, values)
