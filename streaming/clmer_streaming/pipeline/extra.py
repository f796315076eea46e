"""The way of a further physiological series (ECG, skin conductance, respiration) into windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import FurtherSeries, PhysioConfig, PreprocessConfig, SlotSeriesConfig, WindowConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.channels import ChannelMap, ChannelPicker, channel_scales, normalise_label
from clmer_streaming.pipeline.eeg import EegBuffer, EegCut
from clmer_streaming.pipeline.face import slot_at, slot_means
from clmer_streaming.pipeline.filters import CausalFilter, PolyphaseResampler, design_band
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.rate import RateGate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item, Items, Stage, StreamInfo, StreamStatus

_SOURCE_PREFIX = "physio-"
_MAX_LISTED = 16  # channels in one sentence
_FAR_AHEAD_S = 10.0  # s ahead of the time that is known; such samples are on another clock, and not kept


def physio_source(name: str) -> str:
    """Return the source key of the stream that gives a series, such as ``physio-ecg`` for ``ECG``."""
    return _SOURCE_PREFIX + name.lower()


def series_name(source: str) -> str:
    """Return the series that a source key names; ``""`` where it names none."""
    return source.removeprefix(_SOURCE_PREFIX) if source.startswith(_SOURCE_PREFIX) else ""


def resolve_series(info: StreamInfo, series: FurtherSeries) -> ChannelMap:
    """Find a series' channels in a stream: by label; in their order where the stream has none; or its only one.

    Voltages become microvolts; other units stay what the stream has.

    Raises:
        StreamError: A channel is missing.
    """
    names = [normalise_label(name) for name in info.ch_names]
    wanted = [normalise_label(name) for name in series.ch_names]
    as_they_are = len(names) == len(wanted) and (len(names) == 1 or not any(names))
    place = {name: i for i, name in reversed(list(enumerate(names)))}
    picks = tuple(range(len(names))) if as_they_are else tuple(place.get(name, -1) for name in wanted)
    if -1 in picks:
        raise StreamError(
            expected=f"a stream with the channels {_listed(series.ch_names)}",
            found=f"{info.name!r} with {_listed(info.ch_names) or 'no labels'}",
            mend="name another stream: --physio SERIES=STREAM",
        )
    return ChannelMap(picks, None, None, channel_scales(info, picks))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


class PhysioPath:
    """Takes one announced stream and cuts windows of one series from it.

    Args:
        info: The stream.
        series: The series that it gives.
        config: The settings of the artifact.

    Raises:
        StreamError: The stream cannot give the series.
    """

    def __init__(self, info: StreamInfo, series: PhysioConfig, config: PreprocessConfig) -> None:
        self.info = info
        self.series = series
        self._channels = resolve_series(info, series)
        self._max_bridge_s = config.signal.max_bridge_s
        self._gate = RateGate(info, None)
        self._attach(info.sfreq or series.sfreq)
        if info.sfreq:
            self._filters(info.sfreq)  # refuses a rate that is too low for the band
        self._stages: tuple[Stage[Item], ...] | None = None  # None while the rate is unknown, or too low
        self._too_slow = ""
        self._n_refused = 0
        self._buffer = EegBuffer(config.physio_times(series), series.sfreq, config.window.window_s, series.settle_s)
        self.n_samples = 0
        self.last_t = np.nan  # s, the newest sample placed in time

    @property
    def sfreq(self) -> float:
        """Rate in Hz by which samples are counted: the nominal one, or what the stream was found to run at."""
        return self._gate.rate_hz or self.info.sfreq or self.series.sfreq

    @property
    def watermark(self) -> float:
        """Seconds; every sample before it is in the buffer."""
        return self._buffer.watermark

    @property
    def n_kept(self) -> int:
        """Samples that are kept."""
        return self._buffer.n_kept

    def push(self, item: Chunk | Gap, now: float = np.nan) -> None:
        """Take raw chunks (C_stream, n) and gaps; what other streams say of the time changes nothing."""
        if isinstance(item, Chunk):
            self.n_samples += item.t.size
            item = dataclasses.replace(item, t=item.t - self.info.delay_s)
        for given in self._gate.push(item):
            if isinstance(given, StreamInfo):
                self._begin(given.sfreq)
            elif self._stages is None:
                self._n_refused += given.t.size if isinstance(given, Chunk) else 0
            else:
                self._keep(self._stages, given)

    def span_s(self, chunk: Chunk) -> float:
        """Return the length of a chunk in seconds, by its samples."""
        return (chunk.t.size - 1) / self.sfreq

    def _keep(self, stages: tuple[Stage[Item], ...], item: Item) -> None:
        """Take an item on its way into the buffer."""
        items: Items = [item]
        for stage in stages:
            items = [out for given in items for out in stage.push(given)]
            if stage is self.timeline:
                stamps = [out.t for out in items if isinstance(out, Chunk) and out.t.size]
                self.last_t = float(stamps[-1][-1]) if stamps else self.last_t
        for out in items:
            if isinstance(out, Chunk | Gap):
                self._buffer.push(out)

    def _begin(self, sfreq: float) -> None:
        """Build the path for the rate at which the stream runs from now on."""
        before = self.timeline
        self._attach(sfreq)
        self.timeline.count_on_from(before)
        self._stages, self._too_slow = None, ""
        if self._gate.measured is not None:
            self.timeline.start_from(self._gate.measured)
        try:
            filters = self._filters(sfreq)
        except StreamError as error:
            self._too_slow = f"runs at {sfreq:g} Hz, but the model needs {error.expected}: not used"
            return
        resampler = PolyphaseResampler(sfreq, self.series.sfreq)
        self._stages = (self.timeline, ChannelPicker(self._channels), *filters, resampler)

    def _attach(self, sfreq: float) -> None:
        self.timeline = Timeline(sfreq, self._channels.picks, max_bridge_s=self._max_bridge_s)

    def _filters(self, sfreq: float) -> tuple[CausalFilter, ...]:
        if self.series.band is None:
            return ()
        return (CausalFilter(design_band(self.series.band, self.series.filter_order, sfreq)),)

    def cut(self, t_end: float) -> EegCut:
        """Return the window that ends at ``t_end``."""
        return self._buffer.cut(t_end)

    def forget_before(self, t: float, now: float) -> None:
        """Drop samples that no window ending after ``t`` needs; all where they are too far ahead of ``now``."""
        if self.watermark > now + _FAR_AHEAD_S:
            self._buffer.reset()
        self._buffer.forget_before(t)

    def status(self, liveness: Liveness) -> StreamStatus:
        """Return what is known now of the stream."""
        rate_hz = self.timeline.rate_hz
        return StreamStatus(
            source=self.info.source,
            kind="physio",
            name=self.info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(
                filter(None, (self.info.note, self._too_slow or self._gate.note, liveness.other_clock, liveness.note))
            ),
            nominal_rate_hz=self.info.sfreq,
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / self.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_samples=self.n_samples,
            n_gaps=self.timeline.n_gaps,
            n_bridged=self.timeline.n_bridged,
            n_lost=self.timeline.n_lost,
            n_dropped=self.timeline.n_unusable + self._gate.n_dropped + self._n_refused,
            chunk_s=liveness.chunk_s,
            delay_s=self.info.delay_s,
        )


_CLOCK_SET_S = 10.0  # s; stamps that fall back further are a clock that was set, not samples out of order
_AHEAD_S = 1.0  # s ahead of the time that is known; such a stamp must be confirmed by the next one
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


class FurtherPaths:
    """The paths of all further series, signals and those on slots, by the source of their streams.

    Args:
        config: The settings of the artifact.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._config = config
        self.by_source: dict[str, PhysioPath | SlotPath] = {}
        self._refused: dict[str, StreamStatus] = {}

    def announce(self, info: StreamInfo, now: float) -> bool:
        """Tell whether a stream gives one of the model's series; where it should and cannot, its status says why.

        A stream on slots that comes back as it was goes on where it was, as a face does.
        """
        before = self.by_source.pop(info.source, None)
        if isinstance(before, SlotPath) and before.info == info:
            self.by_source[info.source] = before
            return True
        self._refused.pop(info.source, None)
        series = self._config.further_of(series_name(info.source))
        if series is None:
            return False
        try:
            self.by_source[info.source] = self._path(info, series)
        except StreamError as error:
            reason = f"not used: expected {error.expected}, found {error.found}; {error.mend}"
            self._refused[info.source] = StreamStatus(
                info.source, "physio", info.name, "connecting", now, reason, nominal_rate_hz=info.sfreq
            )
        return info.source in self.by_source

    def _path(self, info: StreamInfo, series: FurtherSeries) -> PhysioPath | SlotPath:
        if isinstance(series, PhysioConfig):
            return PhysioPath(info, series, self._config)
        return SlotPath(info, series, resolve_series(info, series), self._config.window)

    def take(self, item: Chunk | Gap, now: float, liveness: Liveness) -> None:
        """Take samples of a stream that gives a series, at ``now`` seconds; -inf where no other stream tells the time.

        They move no time, which a series on a clock of its own would spoil.
        """
        path = self.by_source[item.source]
        before = path.last_t
        path.push(item, now if math.isfinite(now) else math.nan)
        if isinstance(item, Chunk) and math.isfinite(path.last_t) and path.last_t != before:
            chunk_s = path.span_s(item)
            liveness.observe(path.last_t - chunk_s, path.last_t, chunk_s)

    @property
    def n_kept(self) -> dict[str, int]:
        """Samples that are kept, by source."""
        return {source: path.n_kept for source, path in self.by_source.items()}

    def watermarks(self, live: Mapping[str, Liveness]) -> dict[str, float]:
        """Return by source the seconds before which every sample has arrived; none of a stream on another clock."""
        return {source: path.watermark for source, path in self.by_source.items() if not live[source].far_away}

    def cuts(self, t_end: float, live: Mapping[str, Liveness]) -> dict[str, EegCut | SlotCut]:
        """Return by series the window that ends at ``t_end``; none of a stream on another clock."""
        paths = (path for source, path in self.by_source.items() if not live[source].far_away)
        return {path.series.name: path.cut(t_end) for path in paths}

    def forget_before(self, t: float, now: float) -> None:
        """Drop samples that no window ending after ``t`` needs, and those too far ahead of ``now``."""
        for path in self.by_source.values():
            path.forget_before(t, now)

    def statuses(self, live: Mapping[str, Liveness]) -> tuple[StreamStatus, ...]:
        """Return what is known now of every stream that gives a series, or should."""
        return (*(path.status(live[source]) for source, path in self.by_source.items()), *self._refused.values())
