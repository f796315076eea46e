"""The way of a further physiological series (ECG, skin conductance, respiration) into windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from clmer_streaming.channels import ChannelMap, ChannelPicker, normalise_label
from clmer_streaming.config import FurtherSeries, PhysioConfig, PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.filters import CausalFilter, design_band
from clmer_streaming.liveness import Liveness
from clmer_streaming.rate_gate import RateGate
from clmer_streaming.resampling import PolyphaseResampler
from clmer_streaming.timeline import Timeline
from clmer_streaming.types import Chunk, Gap, Item, Items, Stage, StreamInfo, StreamStatus
from clmer_streaming.units import channel_scales
from clmer_streaming.windows import EegBuffer, EegCut

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
        config: The settings of the artefact.

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
