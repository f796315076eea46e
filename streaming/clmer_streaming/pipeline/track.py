"""The interface of a track, which takes the samples of one stream and cuts one series of the windows from them.

``SampledTrack`` (module ``sampled``) and ``SlottedTrack`` (module ``slotted``) implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from clmer_streaming.clock import FAR_S
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.types import CLOCK_KINDS, Chunk, FaceSample, Gap, StreamInfo, StreamStatus

Cut_co = TypeVar("Cut_co", covariant=True)


class Track(ABC, Generic[Cut_co]):
    """Takes the samples of one stream, keeps the latest, and cuts one series of the windows from them.

    ``SampledTrack`` is that of EEG and further signals, ``SlottedTrack`` that of the face and of series of numbers that
    come a few times a second or at odd times.

    Args:
        series: Name of the series in a window: ``"eeg"``, ``"face"``, or that of a further series.
        info: The stream as announced.
        liveness: The state of the stream; the track reports its samples to it.

    Attributes:
        sets_time: Whether the samples move the time of the grid. EEG and faces do; the stream of a further series may
            be on a clock of its own, and must not.
        n_samples: Samples received since the stream was announced.
    """

    def __init__(self, series: str, info: StreamInfo, liveness: Liveness) -> None:
        self.series = series
        self.info = info
        self.liveness = liveness
        self.sets_time = info.kind in CLOCK_KINDS
        self.n_samples = 0

    @property
    @abstractmethod
    def t_first(self) -> float:
        """Time in seconds of the sample with which the track began; NaN before it."""

    @property
    @abstractmethod
    def last_t(self) -> float:
        """Time in seconds of the newest sample; NaN before one."""

    @property
    @abstractmethod
    def watermark(self) -> float:
        """Time in seconds before which every sample has arrived and can be cut; -inf before a sample."""

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample that wait for the rate to be known; NaN without."""
        return np.nan, np.nan

    @property
    @abstractmethod
    def n_kept(self) -> int:
        """Number of samples that are kept."""

    @abstractmethod
    def push(self, item: Chunk | FaceSample | Gap, now: float, quiet_until: float = -np.inf) -> bool:
        """Add samples, or end a segment.

        Args:
            item: Of this stream, with its own channels and stamps.
            now: Time in seconds that the other streams have reached; -inf where there are none.
            quiet_until: Samples before this time in seconds may be left to wait, because they close no window.

        Returns:
            Whether a window may close; False where the samples wait or are not used.
        """

    @abstractmethod
    def cut(self, t_end: float) -> Cut_co:
        """Return the window that ends at ``t_end`` seconds."""

    @abstractmethod
    def trim(self, t_end: float, now: float) -> None:
        """Drop samples that no window ending after ``t_end`` needs, and those too far ahead of ``now`` (seconds)."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the stream, in sentences for people; empty ones where nothing is."""
        return ()

    @property
    def in_time(self) -> bool:
        """Whether the stamps are on the clock of the windows."""
        return self.sets_time or not self.liveness.on_other_clock

    def _offset_note(self) -> str:
        """Return a sentence for people where the stamps are so far behind other streams that none is in time."""
        offset_s = self.liveness.offset_s
        if not offset_s:
            return ""
        behind = f"its stamps are {offset_s:.1f} s behind the other streams, too late for any window"
        if offset_s > FAR_S:
            return f"{behind}: let the sender stamp in LSL time"
        delay_s = -offset_s if self.info.kind == "eeg" else offset_s
        return f"{behind}: add {delay_s:+.1f} to --eeg-delay, to take that off"

    def status(self) -> StreamStatus:
        """Return what is known now of the stream."""
        liveness = self.liveness
        clock = self._offset_note() if self.sets_time else liveness.clock_note
        return StreamStatus(
            source=self.info.source,
            kind=self.info.kind,
            name=self.info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (self.info.note, *self.notes, clock, liveness.note))),
            nominal_rate_hz=self.info.sfreq,
            n_samples=self.n_samples,
            chunk_s=liveness.chunk_s,
            delay_s=self.info.delay_s,
        )
