"""The bounded queue between the threads of the sources and the pipeline thread of a session."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from clmer_model.prediction import Prediction
from clmer_server.protocol.outbound import Message, Preview
from clmer_server.protocol.parts import Topic
from clmer_server.session.events import EventContext, EventTimes, emotion_event, quality_message
from clmer_server.session.inference import InferenceThread, Job
from clmer_streaming.clock import local_clock
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, Source, StreamInfo, Window


class ItemQueueOverflowError(Exception):
    """Items came faster than the pipeline took them; EEG is never dropped silently."""


class ItemQueue:
    """Items in the order in which they came; closing it wakes everybody who waits.

    Args:
        capacity: Items that may wait.
        blocking: What a full intake does to ``put``: wait (a replay), or fail (live).
    """

    def __init__(self, capacity: int, *, blocking: bool) -> None:
        self._capacity = capacity
        self._blocking = blocking
        self._items: deque[Item] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Add an item; behind a close it is thrown away.

        Raises:
            ItemQueueOverflowError: The intake is full and not blocking.
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
        """Add an item at once, also where the intake is full; behind a close it is thrown away."""
        with self._changed:
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def take(self) -> Item | None:
        """Return the next item, waiting for it; None when the intake is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """Take nothing more; what waits is still handed out, unless it is to be discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


class SourceThreads:
    """One thread for each source; behind the last one that ends, the intake is closed.

    Args:
        sources: What they run.
        intake: Where the items go.
        stop: Set to end them.
        fail: Is given what a source raised, in its thread.
    """

    def __init__(
        self, sources: Sequence[Source], intake: ItemQueue, stop: threading.Event, fail: Callable[[Exception], None]
    ) -> None:
        self._intake = intake
        self._stop = stop
        self._fail = fail
        self._lock = threading.Lock()  # guards _n_running
        self._n_running = len(sources)
        self.threads = tuple(
            threading.Thread(target=self._run, args=(source,), name="clmer-source", daemon=True) for source in sources
        )

    def _run(self, source: Source) -> None:
        try:
            source.run(self._intake.put, self._stop)
        except Exception as error:
            self._fail(error)
        with self._lock:
            self._n_running -= 1
            last = self._n_running == 0
        if last:
            self._intake.close()


class LatencyTracker:
    """The age of the newest EEG sample and of the newest frame, each when it came, in seconds; NaN before the first."""

    def __init__(self) -> None:
        self.eeg_s = math.nan
        self.face_s = math.nan
        self._eeg = ""  # the source of EEG

    def take(self, item: Item, now: float) -> None:
        """Note an item that came at ``now`` seconds."""
        if isinstance(item, Chunk):
            if item.source == self._eeg and item.t.size:
                self.eeg_s = now - float(item.t[-1])
        elif isinstance(item, FaceSample):
            self.face_s = now - item.t
        elif isinstance(item, StreamInfo) and item.kind == "eeg":
            self._eeg = item.source


class PreviewSink(Protocol):
    """Where previews go, e.g. a Hub."""

    def wants(self, topic: Topic) -> bool:
        """Whether anybody looks; asked in the pipeline thread."""

    def publish(self, message: Preview) -> None:
        """Hand a block out; called where messages may be published."""


class Previews:
    """Makes the blocks of one session, in its pipeline thread.

    Args:
        session: Its name.
        sink: Who looks.
        send: Has a function called where messages may be published.
    """

    def __init__(self, session: str, sink: PreviewSink, send: Callable[[Callable[[], None]], None]) -> None:
        self._session = session
        self._sink = sink
        self._send = send
        self._n_eeg = 0
        self._n_face = 0
        self._eeg_until = -math.inf  # s, newest sample that was sent or passed over
        self._face_delay_s = 0.0

    def take(self, item: Item) -> None:
        """Show a frame's landmarks, (204, 1) cm: x, y, z of each in turn."""
        if isinstance(item, FaceSample) and self._sink.wants("face.preview"):
            t, values = item.t - self._face_delay_s, item.landmarks.reshape(-1, 1)
            self._publish(Preview("face.preview", self._session, self._n_face, t, 0.0, values))
            self._n_face += 1
        elif isinstance(item, StreamInfo) and item.kind == "face":
            self._face_delay_s = item.delay_s

    def windows_closed(self, preprocessor: Preprocessor) -> None:
        """Show the filtered EEG since the last call, a block for each segment."""
        if not self._sink.wants("eeg.preview"):
            return
        for t, x in preprocessor.filtered_eeg(self._eeg_until):
            self._publish(self._eeg_block(t, x))
            self._n_eeg += 1
            self._eeg_until = float(t[-1])

    def _eeg_block(self, t: FloatArray, x: FloatArray) -> Preview:
        interval_s = float(t[-1] - t[0]) / (t.size - 1) if t.size > 1 else 0.0
        return Preview("eeg.preview", self._session, self._n_eeg, float(t[0]), interval_s, np.array(x))

    def _publish(self, block: Preview) -> None:
        self._send(lambda: self._sink.publish(block))


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

    def send(self, message: Message) -> None:
        """Hand a message over; from any thread."""
        self.hand_over(lambda: self.publish(message))


MAX_WAITING_WINDOWS = 4
"""Windows that may wait for the model. More: it is late, and a live session skips windows."""


class PredictionQueue:
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

    def submit(self, window: Window, arrival: LatencyTracker) -> None:
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


def live_hand_over(loop: asyncio.AbstractEventLoop) -> HandOver:
    """Return a hand-over for a live session: a client that is slow loses messages."""

    def hand_over(call: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(call)

    return hand_over


class ReplayHandOver:
    """Calls one after the other, each when clients that keep up have room, so that a replay loses nothing at any speed.

    The thread that hands over never waits. A replay is held back all the same: few of its windows may be on their way.

    Args:
        loop: Where the calls are made.
        room: Waits until there is room, e.g. ``Hub.room``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, room: Callable[[], Awaitable[None]]) -> None:
        self._loop = loop
        self._room = room
        self._calls: deque[Callable[[], None]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, call: Callable[[], None]) -> None:
        """Queue a call; from any thread."""
        self._loop.call_soon_threadsafe(self._add, call)

    def _add(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._make_calls())

    async def _make_calls(self) -> None:
        while self._calls:
            await self._room()
            try:
                self._calls.popleft()()
            except Exception as error:  # as the loop does with a call of its own: the next ones are made
                self._loop.call_exception_handler({"message": "a message was not published", "exception": error})
