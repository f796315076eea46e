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
_AHEAD_S = 1.0  # s ahead of the time that is known; such a stamp must be confirmed by the next one
_FAR_AHEAD_S = 10.0  # s ahead of the time that is known; such stamps are on another clock, and not kept
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

    A sample stamped more than a second ahead of the time that is known is held until the next one confirms it, by a
    stamp that is not before it. So one wild stamp costs its sample and no more.

    Args:
        n_channels: C.
        config: Window length and slots.
    """

    def __init__(self, n_channels: int, config: WindowConfig) -> None:
        self._n_channels = n_channels
        self._config = config
        self._rows: list[_Row] = []
        self._held: _Row | None = None  # the newest sample, while it must be confirmed
        self.watermark = -np.inf  # s; every sample before it has arrived
        self.last_t = np.nan  # s, the newest stamp that can be believed
        self.n_dropped = 0  # samples that came out of order, or with a stamp that means nothing

    def push(self, t: FloatArray, x: FloatArray, now: float = np.nan) -> None:
        """Add samples; what steps back in time is dropped, as of a face.

        Args:
            t: (n,) stamps in seconds.
            x: (C, n) values.
            now: Seconds, how far other streams have come; NaN where none says so.
        """
        for stamp, numbers in zip(t.tolist(), x.T.copy(), strict=True):
            if not math.isfinite(stamp) or self.watermark - _CLOCK_SET_S <= stamp < self.watermark:
                self.n_dropped += 1
                continue
            self._end_hold(stamp, now)
            measured = bool((np.abs(numbers) <= _LARGEST).all())  # false for NaN, too
            row = _Row(stamp, numbers if measured else None)
            if stamp > now + _AHEAD_S:
                self._held = row
                self.last_t = self.last_t if stamp > now + _FAR_AHEAD_S else stamp
            else:
                self._add(row, now)

    def _end_hold(self, stamp: float, now: float) -> None:
        """Add the sample that is held, or drop it, by the stamp of the next one."""
        held, self._held = self._held, None
        if held is not None and held.t <= stamp:
            self._add(held, now)
        elif held is not None:
            self.n_dropped += 1

    def _add(self, row: _Row, now: float) -> None:
        if row.t < self.watermark:  # the clock was set back: what it told of times to come is void
            self._rows = [r for r in self._rows if r.t <= row.t or r.t <= now + _AHEAD_S]
        self._rows.append(row)
        self.watermark = self.last_t = row.t

    def cut(self, t_end: float) -> SlotCut:
        """Return the window that ends at ``t_end``: each slot is the mean of the measured samples in its interval."""
        n_slots, window_s = self._config.face_slots, self._config.window_s
        t_start = t_end - window_s
        held = () if self._held is None or not self._held.t <= self.last_t else (self._held,)
        rows = [*self._rows, *held]
        found = [(r.t, r.numbers) for r in rows if t_start <= r.t < t_end and r.numbers is not None]
        slots = np.array([slot_at(t - t_start, window_s, n_slots) for t, _ in found], dtype=np.intp)
        order = np.argsort(slots, kind="stable")
        bounds = np.searchsorted(slots[order], np.arange(n_slots + 1))
        x = slot_means([found[i][1] for i in order.tolist()], bounds, self._n_channels)
        return SlotCut(x, np.diff(bounds) > 0, max((t for t, _ in found), default=np.nan))

    @property
    def n_kept(self) -> int:
        """Samples that are kept."""
        return len(self._rows) + (self._held is not None)

    def forget_before(self, t: float, now: float) -> None:
        """Drop samples that no window ending after ``t`` needs, and those too far ahead of ``now``."""
        earliest, latest = t - self._config.window_s - 1.0, now + _FAR_AHEAD_S
        self.n_dropped += sum(row.t > latest for row in self._rows)
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

    @property
    def last_t(self) -> float:
        """Seconds, the newest stamp that can be believed; NaN before one."""
        return self._buffer.last_t

    @property
    def watermark(self) -> float:
        """Seconds; every sample before it is in the buffer."""
        return self._buffer.watermark

    @property
    def n_kept(self) -> int:
        """Samples that are kept."""
        return self._buffer.n_kept

    def push(self, item: Chunk | Gap, now: float = np.nan) -> None:
        """Take raw chunks (C_stream, n) and gaps at ``now`` seconds; NaN where no other stream tells the time."""
        if isinstance(item, Gap):
            self.n_gaps += 1
            return
        self.n_samples += item.t.size
        self._buffer.push(item.t - self.info.delay_s, item.x[self._picks] * self._scales, now)

    def span_s(self, chunk: Chunk) -> float:
        """Return the length of a chunk in seconds, by its stamps; 0 where it has none, or they make no sense."""
        span = float(chunk.t[-1] - chunk.t[0]) if chunk.t.size else 0.0
        return span if 0 <= span <= _CLOCK_SET_S else 0.0

    def cut(self, t_end: float) -> SlotCut:
        """Return the window that ends at ``t_end``."""
        return self._buffer.cut(t_end)

    def forget_before(self, t: float, now: float) -> None:
        """Drop samples that no window ending after ``t`` needs, and those too far ahead of ``now``."""
        self._buffer.forget_before(t, now)

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
