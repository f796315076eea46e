"""The way of EEG from a stream's raw chunks to the buffer that windows are cut from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.buffer import SampleBuffer
from clmer_streaming.pipeline.channels import ChannelPicker, UnitGuess, resolve_channels
from clmer_streaming.pipeline.filters import CausalFilter, PolyphaseResampler, WaitingChunks, design_sos
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.quality import Evidence, RawMonitor
from clmer_streaming.pipeline.rate import RateGate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import (
    BoolArray,
    Chunk,
    FloatArray,
    Gap,
    Item,
    Items,
    Reason,
    Stage,
    StreamInfo,
    StreamStatus,
)

_LOSS_SHARES = (0.4, 0.2, 0.1, 0.05)  # of the samples sent, that are spoken of
_LOSS_AFTER_S = 5.0  # s of samples before a share of losses means anything


class EegPath:
    """Stage: rate, timeline, unit, channels, filter and resampling, for one announced EEG stream.

    Args:
        info: The stream, with its labels (or the names that a map gave them).
        config: The settings of the artifact.

    Raises:
        StreamError: The stream cannot feed the model.
    """

    def __init__(self, info: StreamInfo, config: PreprocessConfig) -> None:
        self.info = info
        self._signal = config.signal
        self._channels = resolve_channels(info, config.signal)
        if info.sfreq:
            design_sos(config.signal, info.sfreq)  # refuses a rate that is too low for the band
        self._gate = RateGate(info, self._channels.counter)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if newly made."""
        self._gate.reset()
        self._attach(self.info.sfreq or self._signal.sfreq)
        self._waiting = WaitingChunks()
        self._stages: tuple[Stage[Item], ...] | None = (
            None  # behind the timeline; None while the rate is unknown, or too low
        )
        self._too_slow = ""
        self._n_refused = 0
        self.waits = False  # whether what the last push took waits to be filtered
        self.n_samples = 0
        self.t_first = np.nan  # s, the oldest sample that the last push placed in time
        self.last_t = np.nan  # s, the newest sample placed in time

    @property
    def sfreq(self) -> float:
        """Rate in Hz by which samples are counted: the nominal one, or what the stream was found to run at."""
        return self._gate.rate_hz or self.info.sfreq

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample that wait for the rate to be known; NaN without."""
        return self._gate.held

    @property
    def note(self) -> str:
        """What is odd about the stream, in a sentence for people; empty where nothing is."""
        return self._too_slow or self._gate.note or self._loss_note()

    def _loss_note(self) -> str:
        if not self.timeline.n_lost or self.n_samples < _LOSS_AFTER_S * self.sfreq:
            return ""
        share = self.timeline.n_lost / (self.timeline.n_lost + self.n_samples)
        reached = next((limit for limit in _LOSS_SHARES if share >= limit), None)
        return "" if reached is None else f"more than {100 * reached:.0f} % of its samples are lost on the way"

    @property
    def n_dropped(self) -> int:
        """Samples that were received and not used."""
        return self.timeline.n_unusable + self._gate.n_dropped + self._n_refused

    def push(self, item: Item, quiet_until: float = -np.inf) -> list[Item]:
        """Take raw chunks (C_stream, n) and gaps; return filtered chunks (C, m) in microvolts, and gaps.

        Args:
            item: What came.
            quiet_until: Samples before this time in seconds are placed in time, and may wait to be filtered.
        """
        self.t_first = np.nan
        if isinstance(item, Chunk):
            self.n_samples += item.t.size
            item = Chunk(item.source, item.t - self.info.delay_s, item.x)
        filtered: list[Item] = []
        placed: list[Chunk | Gap] = []
        for given in self._gate.push(item):
            if isinstance(given, StreamInfo):  # what came before it goes the way of the rate that it had
                filtered += self._filter_all(placed)
                placed = []
                self._begin(given.sfreq)
            else:
                placed += self._place(given)
        chunks = [out for out in placed if isinstance(out, Chunk)]
        self.waits = self.last_t < quiet_until and len(chunks) == len(placed) and not filtered
        if self.waits:
            self._waiting.extend(chunks)
            return []
        return filtered + self._filter_all(placed)

    def _filter_all(self, placed: Iterable[Chunk | Gap]) -> list[Item]:
        """Return what has waited, and what follows it, filtered."""
        return [out for given in (*self._waiting.take(), *placed) for out in self._filter(given)]

    def release(self) -> list[Item]:
        """Return what has waited, filtered."""
        return self._filter_all(())

    def _place(self, item: Item) -> list[Chunk | Gap]:
        """Give samples their time."""
        if self._stages is None:
            self._n_refused += item.t.size if isinstance(item, Chunk) else 0
            return []
        placed = [out for out in self.timeline.push(item) if isinstance(out, Chunk | Gap)]
        self._note_time(placed)
        return placed

    def _filter(self, item: Chunk | Gap) -> list[Item]:
        assert self._stages is not None
        items: Items = [item]
        for stage in self._stages:
            items = [out for given in items for out in stage.push(given)]
        return [out for out in items if isinstance(out, Chunk | Gap)]

    def _begin(self, sfreq: float) -> None:
        """Build the signal path for the rate at which the stream runs from now on."""
        before = self.timeline
        self._attach(sfreq)
        self.timeline.count_on_from(before)
        self._stages, self._too_slow = None, ""
        if self._gate.measured is not None:
            self.timeline.start_from(self._gate.measured)
        try:
            sos = design_sos(self._signal, sfreq)
        except StreamError as error:
            self._too_slow = f"runs at {sfreq:g} Hz, but the model needs {error.expected}: not used"
            return
        self._stages = (
            self.unit,
            ChannelPicker(self._channels),
            self.raw,
            CausalFilter(sos),
            PolyphaseResampler(sfreq, self._signal.sfreq),
        )

    def _attach(self, sfreq: float) -> None:
        """Make the stages that are asked from outside, for a rate in Hz."""
        channels, signal = self._channels, self._signal
        self.timeline = Timeline(
            sfreq,
            [pick for pick in channels.picks if pick >= 0],
            channels.counter,
            channels.interpolate,
            signal.max_bridge_s,
        )
        self.unit = UnitGuess(channels.unit_unknown, sfreq, self.info.unit)
        self.raw = RawMonitor(sfreq, signal.notch_hz)

    def _note_time(self, placed: list[Chunk | Gap]) -> None:
        chunks = [item for item in placed if isinstance(item, Chunk) and item.t.size]
        if chunks:
            self.t_first = float(chunks[0].t[0]) if np.isnan(self.t_first) else self.t_first
            self.last_t = float(chunks[-1].t[-1])

    def status(self, liveness: Liveness) -> StreamStatus:
        """Return what is known now of the stream."""
        rate_hz = self.timeline.rate_hz
        return StreamStatus(
            source=self.info.source,
            kind="eeg",
            name=self.info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (self.info.note, self.note, self.unit.note, liveness.note))),
            nominal_rate_hz=self.info.sfreq,
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / self.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_samples=self.n_samples,
            n_gaps=self.timeline.n_gaps,
            n_bridged=self.timeline.n_bridged,
            n_lost=self.timeline.n_lost,
            n_dropped=self.n_dropped,
            chunk_s=liveness.chunk_s,
            delay_s=self.info.delay_s,
        )


_STALE_SAMPLES = 3.0  # sample periods that the newest sample of a window may lie before t_end


@dataclass(frozen=True, eq=False)
class _Segment:
    t_first: float  # s; its first sample, when the filters started
    after: str | None  # the reason of the gap before it; None for the first segment of a stream
    samples: SampleBuffer  # uV; marked where a value was invented


@dataclass(frozen=True, eq=False)
class EegCut:
    """The EEG of one window, or why there is none."""

    x: FloatArray | None  # (C, T) uV, not yet referenced
    filled: BoolArray | None  # (C, T)
    t_last: float  # s, the newest sample; NaN without
    reasons: tuple[Reason, ...] = ()
    evidence: Evidence | None = None  # what else its channels are judged by


class EegBuffer:
    """Keeps filtered, resampled EEG by segment and cuts windows from it.

    Args:
        n_times: Samples of a window, T.
        sfreq: Their rate in Hz.
        window_s: Length of a window in seconds.
        settle_s: Seconds after the start of a segment in which no window may begin.
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
        self._began = np.inf  # s, the first sample ever
        self.watermark = -np.inf  # s; every sample before it has arrived

    def push(self, item: Chunk | Gap) -> None:
        """Add samples, or end the segment."""
        if isinstance(item, Gap):
            self._gap = item
        elif item.t.size:
            if not self._segments or self._gap is not None:
                after = self._gap.reason if self._gap else None
                self._segments.append(_Segment(float(item.t[0]), after, SampleBuffer(item.x.shape[0])))
                self._gap = None
            assert item.filled is not None
            self._segments[-1].samples.append(item.t, item.x, item.filled)
            self._began = min(self._began, float(item.t[0]))
            self.watermark = max(self.watermark, float(item.t[-1]))

    def cut(self, t_end: float) -> EegCut:
        """Return the window that ends at ``t_end``."""
        for segment in reversed(self._segments):
            n = int(np.searchsorted(segment.samples.t, t_end))  # samples with t < t_end
            if n:
                return self._cut_segment(segment, n, t_end)
        if self._began < t_end:
            t_last = self.watermark if self.watermark < t_end else np.nan
            return EegCut(None, None, t_last, (Reason.EEG_STALE,))
        return EegCut(None, None, np.nan, (Reason.EEG_MISSING,))

    def _cut_segment(self, segment: _Segment, n: int, t_end: float) -> EegCut:
        samples = segment.samples
        t_last = float(samples.t[n - 1])
        if t_end - t_last > self._stale_s:
            return EegCut(None, None, t_last, (self._silence(segment, t_end),))
        first = n - self._n_times
        if first < 0 or samples.t[first] < segment.t_first + self._settle_s:
            return EegCut(None, None, t_last, self._unsettled(segment, t_end))
        chosen = slice(first, n)
        return EegCut(samples.x[:, chosen], samples.marks[:, chosen], t_last)

    def _silence(self, segment: _Segment, t_end: float) -> Reason:
        ended = segment is not self._segments[-1] or self._gap is not None
        return Reason.GAP if ended and t_end - segment.samples.t[-1] < self._window_s else Reason.EEG_STALE

    def _unsettled(self, segment: _Segment, t_end: float) -> tuple[Reason, ...]:
        if segment.after is None:
            return (Reason.WARMING_UP,)
        reason = Reason.GAP if segment.t_first > t_end - self._window_s else Reason.WARMING_UP
        return (reason, Reason.EEG_CLOCK_JUMP) if segment.after == "clock_jump" else (reason,)

    def after(self, t: float) -> list[tuple[FloatArray, FloatArray]]:
        """Return the samples kept that are newer than ``t`` seconds, by segment: times (n,) and values (C, n) uV."""
        newer = [(s.samples, int(np.searchsorted(s.samples.t, t, side="right"))) for s in self._segments]
        return [(samples.t[n:], samples.x[:, n:]) for samples, n in newer if n < samples.t.size]

    @property
    def n_kept(self) -> int:
        """Samples that are kept."""
        return sum(segment.samples.t.size for segment in self._segments)

    def forget_before(self, t: float) -> None:
        """Drop samples that no later window needs: those before ``t`` less a window and a second."""
        keep_from = t - self._window_s - 1.0
        for segment in self._segments:
            segment.samples.forget_before(keep_from)
        self._segments = [s for s in self._segments if s.samples.t.size or s is self._segments[-1]]
