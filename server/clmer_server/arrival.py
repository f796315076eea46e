"""How old data are when they reach a session."""

from __future__ import annotations

import math

from clmer_streaming.types import Chunk, FaceSample, Item, StreamInfo


class Arrival:
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
