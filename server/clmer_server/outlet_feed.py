"""The session's messages on Lab Streaming Layer: a thread of its own, so that nobody waits for the network."""

from __future__ import annotations

import math
import queue
import threading

from clmer_server.events import EventContext
from clmer_server.protocol.outbound import MarkerMessage, Message
from clmer_server.protocol.prediction import EmotionEvent
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.event_outlets import EmotionOutlet, LabelOutlet, MarkerOutlet, OutletIdentity
from clmer_streaming.types import Marker


class OutletFeed:
    """Publishes predictions, changes of the label, and markers.

    Args:
        identity: Whose streams these are.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """

    def __init__(self, identity: OutletIdentity) -> None:
        self._labels = identity.labels
        self._emotion = EmotionOutlet(identity)
        self._label = LabelOutlet(identity)
        self._markers = MarkerOutlet(identity)
        self._messages: queue.SimpleQueue[EmotionEvent | MarkerMessage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="clmer-outlets", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def message(self, message: Message) -> None:
        """Take a message to the clients; what LSL has no stream for is left out."""
        if isinstance(message, EmotionEvent | MarkerMessage):
            self._messages.put(message)

    def close(self, timeout_s: float) -> None:
        """Publish what waits, then end; do not wait longer than ``timeout_s`` seconds for it."""
        self._messages.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (message := self._messages.get()) is not None:
            if isinstance(message, EmotionEvent):
                self._publish(message)
            elif message.t is not None:
                self._markers.push(Marker(message.t, message.id, message.label, message.value, message.source))

    def _publish(self, event: EmotionEvent) -> None:
        probs = None if event.probs is None else [event.probs[label] for label in self._labels]
        measured = (event.valence, event.arousal, event.confidence, event.entropy)
        rest = [math.nan if value is None else value for value in measured]
        self._emotion.push(event.t_end, probs, [*rest, float(event.valid)])
        self._label.push(event.t_end, event.label if event.valid else None)


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
