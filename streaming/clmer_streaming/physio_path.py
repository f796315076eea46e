"""The way of a further physiological series (ECG, skin conductance, respiration) into windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from clmer_streaming.channels import ChannelMap, ChannelPicker, normalise_label
from clmer_streaming.config import PhysioConfig, PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.filters import CausalFilter, design_band
from clmer_streaming.liveness import Liveness
from clmer_streaming.resampling import PolyphaseResampler
from clmer_streaming.timeline import Timeline
from clmer_streaming.types import Chunk, Gap, Item, Items, Stage, StreamInfo, StreamStatus
from clmer_streaming.units import channel_scales
from clmer_streaming.windows import EegBuffer, EegCut

_SOURCE_PREFIX = "physio-"


def physio_source(name: str) -> str:
    """Return the source key of the stream that gives a series, such as ``physio-ecg`` for ``ECG``."""
    return _SOURCE_PREFIX + name.lower()


def series_name(source: str) -> str:
    """Return the series that a source key names; ``""`` where it names none."""
    return source.removeprefix(_SOURCE_PREFIX) if source.startswith(_SOURCE_PREFIX) else ""


def resolve_physio(info: StreamInfo, series: PhysioConfig) -> ChannelMap:
    """Find a series' channels in a stream: by label, or the only one there is where one is wanted.

    Voltages become microvolts; other units stay what the stream has.

    Raises:
        StreamError: A channel is missing, or the stream has no nominal rate.
    """
    names = [normalise_label(name) for name in info.ch_names]
    wanted = [normalise_label(name) for name in series.ch_names]
    picks = (0,) if len(names) == len(wanted) == 1 else tuple(names.index(n) if n in names else -1 for n in wanted)
    if -1 in picks or not info.sfreq > 0:
        raise StreamError(
            expected=f"a stream with a nominal rate and the channels {', '.join(series.ch_names)}",
            found=f"{info.name!r} at {info.sfreq:g} Hz with {', '.join(info.ch_names) or 'no labels'}",
            mend="name another stream: --physio SERIES=STREAM",
        )
    return ChannelMap(picks, None, None, channel_scales(info, picks))


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
        channel_map = resolve_physio(info, series)
        self.info = info
        self.series = series
        self.timeline = Timeline(info.sfreq, channel_map.picks, max_bridge_s=config.signal.max_bridge_s)
        stages: list[Stage[Item]] = [self.timeline, ChannelPicker(channel_map)]
        if series.band is not None:
            stages.append(CausalFilter(design_band(series.band, series.filter_order, info.sfreq)))
        self._stages = (*stages, PolyphaseResampler(info.sfreq, series.sfreq))
        self._buffer = EegBuffer(config.physio_times(series), series.sfreq, config.window.window_s, series.settle_s)
        self.n_samples = 0
        self.t_first = np.nan  # s, the first sample in the buffer
        self.last_t = np.nan  # s, the newest sample placed in time

    @property
    def watermark(self) -> float:
        """Seconds; every sample before it is in the buffer."""
        return self._buffer.watermark

    def push(self, item: Chunk | Gap) -> None:
        """Take raw chunks (C_stream, n) and gaps."""
        if isinstance(item, Chunk):
            self.n_samples += item.t.size
            item = dataclasses.replace(item, t=item.t - self.info.delay_s)
        items: Items = [item]
        for stage in self._stages:
            items = [out for given in items for out in stage.push(given)]
            if stage is self.timeline:
                stamps = [out.t for out in items if isinstance(out, Chunk) and out.t.size]
                self.last_t = float(stamps[-1][-1]) if stamps else self.last_t
        for out in items:
            if isinstance(out, Chunk | Gap):
                self._buffer.push(out)
            if isinstance(out, Chunk) and out.t.size and np.isnan(self.t_first):
                self.t_first = float(out.t[0])

    def cut(self, t_end: float) -> EegCut:
        """Return the window that ends at ``t_end``."""
        return self._buffer.cut(t_end)

    def forget_before(self, t: float) -> None:
        """Drop samples that no window ending after ``t`` needs."""
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
            nominal_rate_hz=self.info.sfreq,
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / self.info.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_samples=self.n_samples,
            n_gaps=self.timeline.n_gaps,
            n_bridged=self.timeline.n_bridged,
            chunk_s=liveness.chunk_s,
        )


class PhysioPaths:
    """The paths of all further series, by the source of their streams.

    Args:
        config: The settings of the artefact.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._config = config
        self.by_source: dict[str, PhysioPath] = {}
        self._refused: dict[str, StreamStatus] = {}

    def announce(self, info: StreamInfo, now: float) -> bool:
        """Tell whether a stream gives one of the model's series; where it should and cannot, its status says why."""
        self.by_source.pop(info.source, None)
        self._refused.pop(info.source, None)
        series = self._config.physio_of(series_name(info.source))
        if series is None:
            return False
        try:
            self.by_source[info.source] = PhysioPath(info, series, self._config)
        except StreamError as error:
            reason = f"not used: expected {error.expected}, found {error.found}; {error.mend}"
            self._refused[info.source] = StreamStatus(
                info.source, "physio", info.name, "connecting", now, reason, nominal_rate_hz=info.sfreq
            )
        return info.source in self.by_source

    def watermarks(self) -> dict[str, float]:
        """Return by source the seconds before which every sample has arrived."""
        return {source: path.watermark for source, path in self.by_source.items()}

    def cuts(self, t_end: float) -> dict[str, EegCut]:
        """Return by series the window that ends at ``t_end``."""
        return {path.series.name: path.cut(t_end) for path in self.by_source.values()}

    def forget_before(self, t: float) -> None:
        """Drop samples that no window ending after ``t`` needs."""
        for path in self.by_source.values():
            path.forget_before(t)

    def statuses(self, live: Mapping[str, Liveness]) -> tuple[StreamStatus, ...]:
        """Return what is known now of every stream that gives a series, or should."""
        return (*(path.status(live[source]) for source, path in self.by_source.items()), *self._refused.values())
