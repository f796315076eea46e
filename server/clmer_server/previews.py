"""Signals for people to look at: cut from what the session sees, only while somebody does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from clmer_server.protocol.parts import Topic
from clmer_server.protocol.preview import Preview
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.types import FaceSample, FloatArray, Item, StreamInfo


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
