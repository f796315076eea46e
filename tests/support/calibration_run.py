"""A session that waits until a calibration has been asked for, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from clmer_server.protocol.outbound import Message, Notice
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread
from clmer_server.session.inputs import Inputs
from clmer_server.session.session import Session
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.types import FloatArray, Item, RestBaseline
from tests.support.session_parts import MODEL, KeptSink, predict_certain
from tests.support.signals import EEG_INFO, cut, eeg_like, stamps

WANTED = PreprocessConfig(modalities=("eeg",), eeg_calibration="rest")
"""Signal settings of a model that wants EEG measured against rest."""


def eeg(seconds: float = 80.0, gain: float | FloatArray = 1.0) -> list[Item]:
    """Return that much EEG, times a gain for all of it or for each sample."""
    t = stamps(round(seconds * 128))
    return [EEG_INFO, *cut(t, gain * eeg_like(t.size), (32,))]


class HeldSource:
    """Delivers items, of which the first one comes when it is let go."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.go = threading.Event()
        self._items = items

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        self.go.wait(30)
        for item in self._items:
            put(item)


class Run:
    """A session over items, held until ``finish``.

    Args:
        items: What its source delivers.
        inputs: What else it has.
        preprocess: The signal settings.
    """

    def __init__(
        self, items: Iterable[Item], inputs: Inputs | None = None, preprocess: PreprocessConfig = WANTED
    ) -> None:
        self._source = HeldSource(items)
        inputs = replace(inputs or Inputs("replay", ()), sources=(self._source,))
        self._inference = InferenceThread(predict_certain)
        self._inference.start()
        self._sink = KeptSink()
        context = EventContext("s", MODEL, inputs.mode)
        self.session = Session(context, inputs, preprocess, self._inference, self._sink)
        self.session.start()

    @property
    def messages(self) -> list[Message]:
        return self._sink.messages

    @property
    def items(self) -> list[Item]:
        return self._sink.items

    def finish(self) -> None:
        """Let it run to its end."""
        self._source.go.set()
        self.session.wait()
        self._inference.stop(timeout_s=10)

    @property
    def states(self) -> list[str | None]:
        """What the EEG of each event with EEG was measured against."""
        events = [message for message in self.messages if isinstance(message, EmotionEvent)]
        return [event.calibration.eeg for event in events if event.modalities.eeg.used]

    @property
    def rests(self) -> list[RestBaseline]:
        """Every rest among its items."""
        return [item for item in self.items if isinstance(item, RestBaseline)]

    @property
    def notices(self) -> list[Notice]:
        return [message for message in self.messages if isinstance(message, Notice)]

    @property
    def codes(self) -> list[str]:
        """Of the notices."""
        return [notice.code for notice in self.notices]
