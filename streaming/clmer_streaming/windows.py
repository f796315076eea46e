"""EEG windows: the last T samples before a grid point, of one segment, settled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.channel_quality import Evidence
from clmer_streaming.sample_buffer import SampleBuffer
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Reason

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
