"""Where everything goes that a run of a session produces: its clients, its recording and its LSL outlets.

To be read in this order: ``EventSink``, the two ways onto the event loop, and the LSL outlets.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable

from clmer_server.hub import Hub
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.outbound import MarkerMessage, Message, Notice, Preview
from clmer_server.protocol.parts import EmotionEvent, Topic
from clmer_server.session.events import EventContext
from clmer_server.session.recorder import Recorder
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.outlets import EmotionOutlet, LabelOutlet, MarkerOutlet, OutletIdentity
from clmer_streaming.types import Item, Marker

logger = logging.getLogger(__name__)

HandOver = Callable[[Callable[[], None]], object]
"""Calls a function in turn on the thread of the clients. It never waits: other sessions share the calling threads."""


def call_at_once(call: Callable[[], None]) -> None:
    """Call a function in the calling thread: a hand-over where there is no event loop."""
    call()


class EventSink:
    """Takes what a run produces: messages, the items that were fed to the preprocessor, and previews.

    ``send``, ``send_preview``, ``hand_over`` and ``record`` may be called in any thread; ``publish`` only where
    ``hand_over`` calls: on the event loop of a service.

    Example::

        events = []
        Session(context, inputs, preprocess, inference, EventSink(events.append))

    Args:
        publish: Sends a message to the clients.
        hand_over: The way there from other threads: ``loop.call_soon_threadsafe`` live, ``ReplayHandOver`` in a replay.
        hub: The clients who may want previews; None: nobody does.
        on_end: Called behind the last message of a run that ended by itself.

    Attributes:
        next_seq: Number of the event that comes next; None before the first one.
    """

    def __init__(
        self,
        publish: Callable[[Message], None],
        hand_over: HandOver = call_at_once,
        *,
        hub: Hub | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.hand_over = hand_over
        self.next_seq: int | None = None
        self._publish_to_clients = publish
        self._hub = hub
        self._on_end = on_end
        self._recorder: Recorder | None = None
        self._outlets: OutletFeed | None = None
        self._closing = threading.Lock()  # acquired by the first who closes, and never released
        self._closed = threading.Event()  # everything is closed, or has had its time

    def attach(self, recorder: Recorder | None = None, outlets: OutletFeed | None = None) -> None:
        """Add a recording and outlets; before ``start``."""
        self._recorder = recorder or self._recorder
        self._outlets = outlets or self._outlets

    def start(self) -> None:
        """Start the threads of recording and outlets."""
        for target in (self._recorder, self._outlets):
            if target is not None:
                target.start()

    def record(self, item: Item) -> None:
        """Record an item, before the preprocessor gets it."""
        if self._recorder is not None:
            self._recorder.item(item)

    def send(self, message: Message) -> None:
        """Pass a message to ``publish``."""
        self.hand_over(lambda: self.publish(message))

    def notify(self, notice: Notice) -> None:
        """Send a notice to the clients alone, also while the sink is being closed."""
        self.hand_over(lambda: self._publish_to_clients(notice))

    def publish(self, message: Message) -> None:
        """Send a message to clients, recording and outlets; after ``close`` it is discarded."""
        if self._closing.locked():
            return
        self._publish_to_clients(message)
        for target in (self._recorder, self._outlets):
            if target is not None:
                target.message(message)
        if isinstance(message, EmotionEvent):
            self.next_seq = message.seq + 1

    def wants(self, topic: Topic) -> bool:
        """Return whether a client has subscribed to a topic."""
        return self._hub is not None and self._hub.wants(topic)

    def send_preview(self, preview: Preview) -> None:
        """Send a preview to the clients."""
        hub = self._hub
        if hub is not None:
            self.hand_over(lambda: hub.publish(preview))

    def end(self) -> None:
        """Hand ``on_end`` over to be called after all messages so far."""
        self.hand_over(self._on_end)

    def close(self, timeout_s: float) -> None:
        """Close recording and outlets after what is queued, the recording first.

        Only the first call does so; a later one waits until it has been done.

        Args:
            timeout_s: Seconds that this may take at most.
        """
        if not self._closing.acquire(blocking=False):
            self._closed.wait(timeout_s)
            return
        deadline = time.monotonic() + timeout_s
        try:
            for target in (self._recorder, self._outlets):
                if target is not None:
                    target.close(max(0.0, deadline - time.monotonic()))
            self._recorder = self._outlets = None  # frees the outlets: a stream of a closed run must not be seen
        finally:
            self._closed.set()


class ReplayHandOver:
    """Calls one function after the other, each when clients that keep up have room, so that a replay loses nothing.

    The thread that hands over never waits. A replay is held back all the same: few of its windows may be on their way.

    Args:
        loop: The event loop on which the functions are called.
        wait_for_room: Waits until there is room, e.g. ``Hub.wait_for_room``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wait_for_room: Callable[[], Awaitable[None]]) -> None:
        self._loop = loop
        self._wait_for_room = wait_for_room
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
            await self._wait_for_room()
            try:
                self._calls.popleft()()
            except Exception as error:  # as the loop does with a call of its own: the next ones are made
                self._loop.call_exception_handler({"message": "a message was not published", "exception": error})


class _Outlets:
    """The LSL streams of one session."""

    def __init__(self, identity: OutletIdentity) -> None:
        self._labels = identity.labels
        self._emotion = EmotionOutlet(identity)
        self._label = LabelOutlet(identity)
        self._markers = MarkerOutlet(identity)

    def push(self, message: EmotionEvent | MarkerMessage) -> None:
        """Publish a message."""
        if isinstance(message, EmotionEvent):
            self._push_event(message)
        elif message.t is not None:
            self._markers.push(Marker(message.t, message.id, message.label, message.value, message.source))

    def _push_event(self, event: EmotionEvent) -> None:
        probs = None if event.probs is None else [event.probs[label] for label in self._labels]
        measured = (event.valence, event.arousal, event.confidence, event.entropy)
        rest = [math.nan if value is None else value for value in measured]
        self._emotion.push(event.t_end, probs, [*rest, float(event.valid)])
        self._label.push(event.t_end, event.label if event.valid else None)


class OutletFeed:
    """Publishes predictions, changes of the label, and markers on LSL, in a thread of its own.

    A failure ends the outlets, never the session.

    Args:
        identity: Whose streams these are.
        notify: Sends a notice to the clients; called in any thread.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """

    def __init__(self, identity: OutletIdentity, notify: Callable[[Notice], None]) -> None:
        self._outlets: _Outlets | None = _Outlets(identity)  # None: they are closed
        self._log = logging.LoggerAdapter(logger, {OF_SESSION: identity.session})
        self._notify = notify
        self._messages: queue.SimpleQueue[EmotionEvent | MarkerMessage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="clmer-outlets", daemon=True)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def message(self, message: Message) -> None:
        """Queue a message to the clients; those that LSL has no stream for are ignored, and all after a failure."""
        if self._outlets is not None and isinstance(message, EmotionEvent | MarkerMessage):
            self._messages.put(message)

    def close(self, timeout_s: float) -> None:
        """Publish what waits, then end; do not wait longer than ``timeout_s`` seconds for it."""
        self._messages.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._publish_all()
        except Exception as error:
            self._fail(error)

    def _publish_all(self) -> None:
        outlets = self._outlets
        assert outlets is not None  # only a failure closes them, and it ends this thread
        while (message := self._messages.get()) is not None:
            outlets.push(message)

    def _fail(self, error: Exception) -> None:
        """Close the streams, so that others see that they have ended, and notify; let the session go on."""
        self._outlets = None
        self._messages = queue.SimpleQueue()
        self._log.error("the LSL outlets have ended: %r", error, exc_info=error)
        traceback.clear_frames(error.__traceback__)  # they hold the streams, and whoever logs may hold them
        text = f"The LSL outlets have ended, the session goes on: {error!r}. Start it again to have them back."
        self._notify(Notice(code=NoticeCode.OUTLETS_FAILED, message=text))


def outlet_identity(context: EventContext, port: int, preprocess: PreprocessConfig) -> OutletIdentity:
    """Return whose streams the outlets of a session are."""
    model, window = context.model, preprocess.window
    about = {
        "session": context.session,
        "source": context.source,
        "model": model.id,
        "sha256": model.sha256,
        "config_hash": model.config_hash,
        "trained_on": model.trained_on,
        "window_s": repr(window.window_s),
        "hop_s": repr(window.hop_s),
    }
    return OutletIdentity(context.session, port, model.labels, tuple(about.items()))
