"""The track of a series that keeps a sampling rate: EEG, and further signals such as ECG or respiration.

``SampledSeries`` says how a stream becomes a series, ``SignalPath`` filters and resamples its chunks,
``SegmentBuffer`` keeps the result by segment and cuts windows from it, and ``SampledTrack`` joins the three.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.clock import FAR_S
from clmer_streaming.config import PhysioConfig, PreprocessConfig, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.buffer import SampleBuffer
from clmer_streaming.pipeline.channels import (
    ChannelMap,
    ChannelPicker,
    UnitGuess,
    explain_unit,
    resolve_channels,
    resolve_series,
)
from clmer_streaming.pipeline.filters import CausalFilter, PolyphaseResampler, design_band, design_sos
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.quality import RawMonitor, RawView
from clmer_streaming.pipeline.rate import RateDecision, RateGate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.pipeline.track import Track
from clmer_streaming.types import (
    BoolArray,
    Chunk,
    FaceSample,
    FloatArray,
    Gap,
    Item,
    Reason,
    Stage,
    StreamInfo,
    StreamStatus,
)

_LOSS_SHARES = (0.4, 0.2, 0.1, 0.05)  # of the samples sent, that a note names
_LOSS_AFTER_S = 5.0  # s of samples before a share of losses means anything
_STALE_SAMPLES = 3.0  # sample periods that the newest sample of a window may lie before t_end


@dataclass(frozen=True, eq=False)
class SampledSeries:
    """Settings by which the chunks of a stream become one series of the windows."""

    name: str
    channels: ChannelMap  # C of them
    sfreq: float  # Hz, of the windows
    settle_s: float  # s after a (re)start of the filter in which no window may begin
    sections: Callable[[float], FloatArray | None]  # of the filter for a rate in Hz; None: unfiltered
    highest_hz: float = 0.0  # up to which the resampling keeps the signal as it is; 0: where it suits the rates
    monitored: bool = False  # an unknown unit is guessed, losses are noted, and the unfiltered signal is kept to judge


def eeg_series(info: StreamInfo, config: SignalConfig) -> SampledSeries:
    """Return how a stream of EEG becomes the series ``"eeg"``.

    Args:
        info: The stream, with its labels (or the names that a map gave them).
        config: Channels, rate, band and notch of the artifact.

    Raises:
        StreamError: Fewer than half of the model's channels are there.
    """
    sections = functools.partial(design_sos, config)
    channels = resolve_channels(info, config)
    return SampledSeries("eeg", channels, config.sfreq, config.settle_s, sections, config.band[1], monitored=True)


def physio_series(info: StreamInfo, config: PhysioConfig) -> SampledSeries:
    """Return how a stream becomes a further signal.

    Raises:
        StreamError: A channel of the series is missing.
    """

    def sections(sfreq: float) -> FloatArray | None:
        return None if config.band is None else design_band(config.band, config.filter_order, sfreq)

    highest_hz = 0.0 if config.band is None else config.band[1]
    return SampledSeries(config.name, resolve_series(info, config), config.sfreq, config.settle_s, sections, highest_hz)


class SampledTrack(Track["SampledCut"]):
    """Filters the chunks of one stream, keeps them by segment, and cuts windows of one series from them.

    Args:
        info: The stream.
        series: How it becomes a series.
        config: The settings of the artifact.
        liveness: The state of the stream.

    Raises:
        StreamError: The nominal rate of the stream is too low for the band of the series.

    Example::

        track = SampledTrack(info, eeg_series(info, config.signal), config, Liveness())
        track.push(Chunk("eeg", t, x), now=-math.inf)  # t (n,) s, x (C_stream, n)
        cut = track.cut(102.5)  # cut.x is (C, T) uV, or None with cut.reasons
    """

    def __init__(self, info: StreamInfo, series: SampledSeries, config: PreprocessConfig, liveness: Liveness) -> None:
        super().__init__(series.name, info, liveness)
        self._window_s = config.window.window_s
        self._path = SignalPath(info, series, config.signal)
        self.present = series.channels.present
        self._unit_note = ""
        n_times = round(series.sfreq * self._window_s)
        self._buffer = SegmentBuffer(n_times, series.sfreq, self._window_s, series.settle_s)

    @property
    def t_first(self) -> float:
        """Time in seconds of the first filtered sample; NaN before it."""
        return self._buffer.t_first

    @property
    def last_t(self) -> float:
        """Time in seconds of the newest sample, filtered or not; NaN before one."""
        return self._path.last_t

    @property
    def watermark(self) -> float:
        """Time in seconds before which every sample has been filtered; -inf before one."""
        return self._buffer.watermark

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample that wait for the rate to be known; NaN without."""
        return self._path.held

    @property
    def n_kept(self) -> int:
        """Number of filtered samples that are kept."""
        return self._buffer.n_kept

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the rate or how much is lost, and about the unit, in sentences for people."""
        return (self._path.note or self._loss_note(), self._path.unit.note, self._unit_note)

    def _loss_note(self) -> str:
        timeline = self._path.timeline
        n_lost = timeline.n_lost + timeline.n_lost_estimated
        if not (self._path.monitor and n_lost) or self.n_samples < _LOSS_AFTER_S * self._path.sfreq:
            return ""
        share = n_lost / (n_lost + self.n_samples)
        reached = next((limit for limit in _LOSS_SHARES if share >= limit), None)
        return "" if reached is None else f"more than {100 * reached:.0f} % of its samples are lost on the way"

    def continue_from(self, before: SampledTrack) -> None:
        """Take over the samples of the stream that this one replaces; a gap ends them."""
        self._buffer = before._buffer
        if math.isfinite(before.last_t):
            self._buffer.push(Gap(before.last_t, before.last_t, self.info.source, "stream_restarted"))

    def push(self, item: Chunk | FaceSample | Gap, now: float, quiet_until: float = -np.inf) -> bool:
        """Filter a raw Chunk (C_stream, n), or end the segment at a Gap; ``now`` changes nothing."""
        if isinstance(item, FaceSample):
            return False
        path = self._path
        self._keep(path.push(item, quiet_until))
        if isinstance(item, Chunk):
            self.n_samples += item.t.size
            if math.isfinite(path.t_first):
                chunk_s = (item.t.size - 1) / path.sfreq
                t_first = path.t_first if self.sets_time else path.last_t - chunk_s
                self.liveness.observe(t_first, path.last_t, chunk_s)
        return not path.waits

    def release(self) -> None:
        """Filter what waits."""
        self._keep(self._path.release())

    def _keep(self, filtered: Iterable[Item]) -> None:
        for item in filtered:
            if isinstance(item, Chunk | Gap):
                self._buffer.push(item)

    def cut(self, t_end: float) -> SampledCut:
        """Return the window that ends at ``t_end`` seconds."""
        cut = self._buffer.cut(t_end)
        if cut.x is None or self._path.monitor is None:
            return cut
        self._unit_note = explain_unit(np.std(cut.x[self.present], axis=1), self.info.unit)
        raw = self._path.monitor.view(t_end - self._window_s, t_end)
        return dataclasses.replace(cut, raw=raw, present=self.present)

    def filtered(self, after: float) -> list[tuple[FloatArray, FloatArray]]:
        """Return the samples newer than ``after`` seconds, by segment: times (n,) and values (C, n)."""
        return self._buffer.after(after)

    def trim(self, t_end: float, now: float) -> None:
        """Drop samples that no window ending after ``t_end`` needs; all where they are too far ahead of ``now``."""
        if self.watermark > now + FAR_S:
            self._buffer.reset()
        self._buffer.drop_before(t_end)
        if self._path.monitor is not None:
            self._path.monitor.drop_before(t_end - self._window_s)

    def status(self) -> StreamStatus:
        """Return what is known now of the stream, its rate and its losses."""
        timeline = self._path.timeline
        rate_hz = timeline.rate_hz
        return dataclasses.replace(
            super().status(),
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / self._path.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_gaps=timeline.n_gaps,
            n_bridged=timeline.n_bridged,
            n_lost=timeline.n_lost,
            n_lost_estimated=timeline.n_lost_estimated,
            n_dropped=self._path.n_dropped,
        )


class SignalPath:
    """Stage: rate, timeline, unit, channels, filter and resampling, for one announced stream.

    Args:
        info: The stream.
        series: How it becomes a series.
        config: The longest loss that is bridged, and the notch.

    Attributes:
        timeline: Places the samples in time, and counts what is lost.
        unit: Guesses the unit where it is unknown.
        monitor: Keeps the unfiltered signal; None where it is not judged.
        waits: Whether what the last push took waits to be filtered.
        t_first: Time in seconds of the oldest sample that the last push placed; NaN where it placed none.
        last_t: Time in seconds of the newest sample placed; NaN before one.

    Raises:
        StreamError: The nominal rate is too low for the band.
    """

    def __init__(self, info: StreamInfo, series: SampledSeries, config: SignalConfig) -> None:
        self._info = info
        self._series = series
        self._config = config
        if info.sfreq:
            series.sections(info.sfreq)  # refuses a rate that is too low for the band
        self._gate = RateGate(info, series.channels.counter)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if newly made."""
        self._gate.reset()
        self._attach(self._info.sfreq or self._series.sfreq)
        self._stages: tuple[Stage[Item], ...] | None = None  # behind the timeline; None: rate unknown, or too low
        self._waiting: list[Chunk] = []
        self._too_slow = ""
        self._n_refused = 0
        self.waits = False
        self.t_first = np.nan
        self.last_t = np.nan

    @property
    def sfreq(self) -> float:
        """Rate in Hz by which samples are counted: the nominal one, or what the stream was found to run at."""
        return self._gate.rate_hz or self._info.sfreq or self._series.sfreq

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample that wait for the rate to be known; NaN without."""
        return self._gate.held

    @property
    def note(self) -> str:
        """What is odd about the rate, in a sentence for people; empty where nothing is."""
        return self._too_slow or self._gate.note

    @property
    def n_dropped(self) -> int:
        """Number of samples that were received and not used."""
        return self.timeline.n_unusable + self._gate.n_dropped + self._n_refused

    def push(self, item: Item, quiet_until: float = -np.inf) -> list[Item]:
        """Return what a raw Chunk (C_stream, n) or a Gap gives: filtered Chunks (C, m), and Gaps.

        Args:
            item: What came.
            quiet_until: Samples before this time in seconds are placed in time, and may wait to be filtered.
        """
        self.t_first = np.nan
        if isinstance(item, Chunk):
            item = Chunk(item.source, item.t - self._info.delay_s, item.x)
        filtered: list[Item] = []
        placed: list[Chunk | Gap] = []
        for given in self._gate.push(item):
            if isinstance(given, RateDecision):  # what came before the change is filtered for the rate that it had
                filtered += self._filter_all(placed)
                placed = []
                self._begin(given)
            else:
                placed += self._place(given)
        chunks = [out for out in placed if isinstance(out, Chunk)]
        self.waits = self.last_t < quiet_until and len(chunks) == len(placed) and not filtered
        if self.waits:
            self._waiting += chunks
            return []
        return filtered + self._filter_all(placed)

    def release(self) -> list[Item]:
        """Return what has waited, filtered."""
        return self._filter_all(())

    def _place(self, item: Item) -> list[Chunk | Gap]:
        """Return the samples with their counted times."""
        if self._stages is None:
            self._n_refused += item.t.size if isinstance(item, Chunk) else 0
            return []
        placed = [out for out in self.timeline.push(item) if isinstance(out, Chunk | Gap)]
        for out in placed:
            if isinstance(out, Chunk) and out.t.size:
                self.t_first = float(out.t[0]) if math.isnan(self.t_first) else self.t_first
                self.last_t = float(out.t[-1])
        return placed

    def _filter_all(self, placed: Iterable[Chunk | Gap]) -> list[Item]:
        """Return what has waited, and what follows it, filtered."""
        waiting, self._waiting = join_chunks(self._waiting), []
        return [out for given in (*waiting, *placed) for out in self._filter(given)]

    def _filter(self, item: Item) -> list[Item]:
        assert self._stages is not None
        items = [item]
        for stage in self._stages:
            items = [out for given in items for out in stage.push(given)]
        return items

    def _begin(self, rate: RateDecision) -> None:
        """Build the stages for the rate at which the stream runs from now on."""
        before, sfreq = self.timeline, rate.sfreq
        self._attach(sfreq)
        self.timeline.carry_counts(before)
        self.timeline.use_measured(rate.measured)
        self._stages, self._too_slow = None, ""
        try:
            self._series.sections(sfreq)
        except StreamError as error:
            self._too_slow = f"runs at {sfreq:g} Hz, but the model needs {error.expected}: not used"
            return
        sos = self._series.sections(self._series.sfreq)
        self._stages = (
            self.unit,
            ChannelPicker(self._series.channels),
            *(() if self.monitor is None else (self.monitor,)),
            PolyphaseResampler(sfreq, self._series.sfreq, self._series.highest_hz),
            *(() if sos is None else (CausalFilter(sos),)),
        )

    def _attach(self, sfreq: float) -> None:
        """Make the stages that are asked from outside, for a rate in Hz."""
        series, channels = self._series, self._series.channels
        self.timeline = Timeline(
            sfreq,
            [pick for pick in channels.picks if pick >= 0],
            channels.counter,
            channels.interpolate,
            self._config.max_bridge_s,
        )
        self.unit = UnitGuess(channels.unit_unknown if series.monitored else (), sfreq, self._info.unit)
        self.monitor = RawMonitor(sfreq, self._config.notch_hz) if series.monitored else None


def join_chunks(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return consecutive chunks that carry ``filled`` as one; none where there are none."""
    if len(chunks) <= 1:
        return list(chunks)
    parts = zip(*((chunk.t, chunk.x, chunk.filled) for chunk in chunks), strict=True)
    t, x, filled = (np.concatenate(part, axis=-1) for part in parts)
    return [Chunk(chunks[0].source, t, x, filled)]


@dataclass(frozen=True, eq=False)
class SampledCut:
    """One sampled series of one window, or why there is none."""

    x: FloatArray | None  # (C, T) uV, or what the stream has; EEG not yet referenced
    filled: BoolArray | None  # (C, T) True where a value was invented
    t_last: float  # s, the newest sample; NaN without
    reasons: tuple[Reason, ...] = ()  # in the words of EEG
    raw: RawView | None = None  # the unfiltered signal, where it was kept
    present: BoolArray | None = None  # (C,) which of the model's channels the stream has; None: all


@dataclass(frozen=True, eq=False)
class _Segment:
    t_first: float  # s; its first sample, when the filters started
    after: str | None  # the reason of the gap before it; None for the first segment of a stream
    samples: SampleBuffer  # marked where a value was invented


class SegmentBuffer:
    """Keeps filtered, resampled samples by segment and cuts windows from them.

    Args:
        n_times: Samples of a window, T.
        sfreq: Their rate in Hz.
        window_s: Length of a window in seconds.
        settle_s: Seconds after the start of a segment in which no window may begin.

    Attributes:
        t_first: Time in seconds of the sample that came first; NaN before it.
        watermark: Time in seconds before which every sample has arrived; -inf before one.
    """

    def __init__(self, n_times: int, sfreq: float, window_s: float, settle_s: float) -> None:
        self._n_times = n_times
        self._stale_s = _STALE_SAMPLES / sfreq
        self._window_s = window_s
        self._settle_s = settle_s
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self._segments: list[_Segment] = []
        self._gap: Gap | None = None
        self._oldest = np.inf  # s, the earliest time that a chunk began at
        self.t_first = np.nan
        self.watermark = -np.inf

    def push(self, item: Chunk | Gap) -> None:
        """Add samples, or end the segment."""
        if isinstance(item, Gap):
            self._gap = item
        elif item.t.size:
            t_first = float(item.t[0])
            if not self._segments:
                self.t_first = t_first
            if not self._segments or self._gap is not None:
                after = self._gap.reason if self._gap else None
                self._segments.append(_Segment(t_first, after, SampleBuffer(item.x.shape[0])))
                self._gap = None
            assert item.filled is not None
            self._segments[-1].samples.append(item.t, item.x, item.filled)
            self._oldest = min(self._oldest, t_first)
            self.watermark = max(self.watermark, float(item.t[-1]))

    def cut(self, t_end: float) -> SampledCut:
        """Return the window that ends at ``t_end`` seconds: the last T samples before it, of one segment."""
        for segment in reversed(self._segments):
            n = int(np.searchsorted(segment.samples.t, t_end))  # samples with t < t_end
            if n:
                return self._cut_segment(segment, n, t_end)
        if self._oldest < t_end:
            t_last = self.watermark if self.watermark < t_end else np.nan
            return SampledCut(None, None, t_last, (Reason.EEG_STALE,))
        return SampledCut(None, None, np.nan, (Reason.EEG_MISSING,))

    def _cut_segment(self, segment: _Segment, n: int, t_end: float) -> SampledCut:
        samples = segment.samples
        t_last = float(samples.t[n - 1])
        if t_end - t_last > self._stale_s:
            return SampledCut(None, None, t_last, (self._silence(segment, t_end),))
        first = n - self._n_times
        if first < 0 or samples.t[first] < segment.t_first + self._settle_s:
            return SampledCut(None, None, t_last, self._unsettled(segment, t_end))
        chosen = slice(first, n)
        return SampledCut(samples.x[:, chosen], samples.marks[:, chosen], t_last)

    def _silence(self, segment: _Segment, t_end: float) -> Reason:
        ended = segment is not self._segments[-1] or self._gap is not None
        return Reason.GAP if ended and t_end - segment.samples.t[-1] < self._window_s else Reason.EEG_STALE

    def _unsettled(self, segment: _Segment, t_end: float) -> tuple[Reason, ...]:
        if segment.after is None:
            return (Reason.WARMING_UP,)
        reason = Reason.GAP if segment.t_first > t_end - self._window_s else Reason.WARMING_UP
        return (reason, Reason.EEG_CLOCK_JUMP) if segment.after == "clock_jump" else (reason,)

    def after(self, t: float) -> list[tuple[FloatArray, FloatArray]]:
        """Return the samples kept that are newer than ``t`` seconds, by segment: times (n,) and values (C, n)."""
        newer = [(s.samples, int(np.searchsorted(s.samples.t, t, side="right"))) for s in self._segments]
        return [(samples.t[n:], samples.x[:, n:]) for samples, n in newer if n < samples.t.size]

    @property
    def n_kept(self) -> int:
        """Number of samples that are kept."""
        return sum(segment.samples.t.size for segment in self._segments)

    def drop_before(self, t: float) -> None:
        """Drop samples that no later window needs: those before ``t`` seconds less a window and a second."""
        keep_from = t - self._window_s - 1.0
        for segment in self._segments:
            segment.samples.drop_before(keep_from)
        self._segments = [s for s in self._segments if s.samples.t.size or s is self._segments[-1]]
