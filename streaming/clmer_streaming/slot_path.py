"""The way of a further series on slots (HOG, a user's own tracker) into windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clmer_streaming.align import slot_at, slot_means
from clmer_streaming.channels import ChannelMap
from clmer_streaming.config import SlotSeriesConfig, WindowConfig
from clmer_streaming.liveness import Liveness
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, StreamInfo, StreamStatus

_CLOCK_SET_S = 10.0  # s; stamps that fall back further are a clock that was set, not samples out of order
_FAR_AHEAD_S = 60.0  # s ahead of the windows; such stamps are on another clock, and not kept
_LARGEST = float(np.finfo(np.float32).max)  # what a model can take; means of such numbers stay finite


@dataclass(frozen=True, eq=False)
class SlotCut:
    """A further series of one window on F slots; a slot without a measured sample is 0 and masked."""

    x: FloatArray  # (F, C)
    mask: BoolArray  # (F,)
    t_last: float  # s, the newest measured sample of the window; NaN without


@dataclass(frozen=True, slots=True)
class _Row:
    t: float  # s
    numbers: FloatArray | None  # (C,); None where not every number was measured


class SlotBuffer:
    """Keeps samples of any rate and averages them over the slots of a window.

    Args:
        n_channels: C.
        config: Window length and slots.
    """

    def __init__(self, n_channels: int, config: WindowConfig) -> None:
        self._n_channels = n_channels
        self._config = config
        self._rows: list[_Row] = []
        self.watermark = -np.inf  # s; every sample before it has arrived
        self.n_dropped = 0  # samples that came out of order, or with a stamp that means nothing

    def push(self, t: FloatArray, x: FloatArray) -> None:
        """Add samples: stamps (n,) in seconds, values (C, n). What steps back in time is dropped, as of a face."""
        for stamp, numbers in zip(t.tolist(), x.T.copy(), strict=True):
            if not math.isfinite(stamp) or self.watermark - _CLOCK_SET_S <= stamp < self.watermark:
                self.n_dropped += 1
                continue
            measured = bool((np.abs(numbers) <= _LARGEST).all())  # false for NaN, too
            self._rows.append(_Row(stamp, numbers if measured else None))
            self.watermark = stamp

    def cut(self, t_end: float) -> SlotCut:
        """Return the window that ends at ``t_end``: each slot is the mean of the measured samples in its interval."""
        n_slots, window_s = self._config.face_slots, self._config.window_s
        t_start = t_end - window_s
        found = [(r.t, r.numbers) for r in self._rows if t_start <= r.t < t_end and r.numbers is not None]
        slots = np.array([slot_at(t - t_start, window_s, n_slots) for t, _ in found], dtype=np.intp)
        order = np.argsort(slots, kind="stable")
        bounds = np.searchsorted(slots[order], np.arange(n_slots + 1))
        x = slot_means([found[i][1] for i in order.tolist()], bounds, self._n_channels)
        return SlotCut(x, np.diff(bounds) > 0, max((t for t, _ in found), default=np.nan))

    def forget_before(self, t: float) -> None:
        """Drop samples that no window ending after ``t`` needs, and those too far ahead of it."""
        earliest, latest = t - self._config.window_s - 1.0, t + _FAR_AHEAD_S
        self._rows = [row for row in self._rows if earliest <= row.t <= latest]


class SlotPath:
    """Takes one announced stream and cuts windows of one series on slots from it.

    Args:
        info: The stream.
        series: The series that it gives.
        channels: Where the stream has the channels of the series.
        config: Window length and slots.
    """

    def __init__(self, info: StreamInfo, series: SlotSeriesConfig, channels: ChannelMap, config: WindowConfig) -> None:
        self.info = info
        self.series = series
        self._picks = np.array(channels.picks, dtype=np.intp)
        self._scales = np.where(np.isnan(channels.scales), 1.0, channels.scales)[:, None]
        self._buffer = SlotBuffer(len(channels.picks), config)
        self.n_samples = 0
        self.n_gaps = 0
        self.last_t = np.nan  # s, the newest sample in the buffer

    @property
    def watermark(self) -> float:
        """Seconds; every sample before it is in the buffer."""
        return self._buffer.watermark

    def push(self, item: Chunk | Gap) -> None:
        """Take raw chunks (C_stream, n) and gaps."""
        if isinstance(item, Gap):
            self.n_gaps += 1
            return
        self.n_samples += item.t.size
        self._buffer.push(item.t - self.info.delay_s, item.x[self._picks] * self._scales)
        self.last_t = self.watermark if math.isfinite(self.watermark) else np.nan

    def span_s(self, chunk: Chunk) -> float:
        """Return the length of a chunk in seconds, by its stamps; 0 where they make no sense."""
        span = float(chunk.t[-1] - chunk.t[0])
        return span if 0 <= span <= _CLOCK_SET_S else 0.0

    def cut(self, t_end: float) -> SlotCut:
        """Return the window that ends at ``t_end``."""
        return self._buffer.cut(t_end)

    def forget_before(self, t: float) -> None:
        """Drop samples that no window ending after ``t`` needs."""
        self._buffer.forget_before(t)

    def status(self, liveness: Liveness) -> StreamStatus:
        """Return what is known now of the stream."""
        return StreamStatus(
            source=self.info.source,
            kind="physio",
            name=self.info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (self.info.note, liveness.other_clock, liveness.note))),
            nominal_rate_hz=self.info.sfreq,
            n_samples=self.n_samples,
            n_gaps=self.n_gaps,
            n_dropped=self._buffer.n_dropped,
            chunk_s=liveness.chunk_s,
            delay_s=self.info.delay_s,
        )
