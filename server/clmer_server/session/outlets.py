"""The session's messages on Lab Streaming Layer: a thread of its own, so that nobody waits for the network."""

from __future__ import annotations

import logging
import math
import queue
import threading
import traceback
from collections.abc import Callable

from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.outbound import MarkerMessage, Message, Notice
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.events import EventContext
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.outlets import EmotionOutlet, LabelOutlet, MarkerOutlet, OutletIdentity
from clmer_streaming.types import Marker

logger = logging.getLogger(__name__)


class _Outlets:
    """The streams of one session."""

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
    """Publishes predictions, changes of the label, and markers; where that fails, it ends, never the session.

    Args:
        identity: Whose streams these are.
        tell: Says something to the clients; called in any thread.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """

    def __init__(self, identity: OutletIdentity, tell: Callable[[Notice], None]) -> None:
        self._outlets: _Outlets | None = _Outlets(identity)  # None: they are closed
        self._log = logging.LoggerAdapter(logger, {OF_SESSION: identity.session})
        self._tell = tell
        self._messages: queue.SimpleQueue[EmotionEvent | MarkerMessage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="clmer-outlets", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def message(self, message: Message) -> None:
        """Take a message to the clients; what LSL has no stream for is left out, and everything after a failure."""
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
        assert outlets is not None  # a failure alone closes them, and ends this thread
        while (message := self._messages.get()) is not None:
            outlets.push(message)

    def _fail(self, error: Exception) -> None:
        """Close the streams, so that others see that they have ended, and say so; let the session go on."""
        self._outlets = None
        self._messages = queue.SimpleQueue()
        self._log.error("the LSL outlets have ended: %r", error, exc_info=error)
        traceback.clear_frames(error.__traceback__)  # they hold the streams, and whoever logs may hold them
        text = f"The LSL outlets have ended, the session goes on: {error!r}. Start it again to have them back."
        self._tell(Notice(code=NoticeCode.OUTLETS_FAILED, message=text))


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
