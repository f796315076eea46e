"""Recorded samples as evenly spaced signals: placed by the timeline of the signal path, unfiltered, gaps kept open."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from clmer_streaming.channels import normalise_label
from clmer_streaming.stream_rate import MeasuredRate, measure_rate
from clmer_streaming.timeline import Timeline
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo
from clmer_streaming.xdf.format import MAX_STAMP_S

LONGEST_FILL_S = 600.0
"""Seconds; where a gap is longer, or the clock jumped, a signal ends and another one begins."""

_MEASURE_S = 6.0  # s of stamps by which rate and jitter are judged
_RATE_TOLERANCE = 0.01  # a rate within 1 % of the nominal one is that, with drift
_COUNTERS = ("COUNTER", "PACKET_COUNTER", "SAMPLE_COUNTER")
_INVENTED = ("INTERPOLATE", "INTERPOLATED")


@dataclass(frozen=True)
class OpenGap:
    """Samples of a signal that were never measured."""

    first: int  # index of the first one
    n: int
    reason: str


@dataclass(frozen=True, eq=False)
class RegularSignal:
    """Channels of one stream on an even grid."""

    info: StreamInfo
    rows: tuple[int, ...]  # which channels of the stream
    sfreq: float  # Hz
    t: FloatArray  # (n,) s, LSL clock, device delay taken off; NaN in gaps
    x: FloatArray  # (C, n) in the stream's own units; NaN in gaps
    gaps: tuple[OpenGap, ...]
    n_bridged: int  # samples invented over losses of at most 0.1 s

    @property
    def t0(self) -> float:
        """Stamp of the first sample in seconds."""
        return float(self.t[0])

    @cached_property
    def _known(self) -> tuple[FloatArray, FloatArray]:
        """Index and time of every sample that was measured; both as numbers that need not be converted each time."""
        known = np.flatnonzero(np.isfinite(self.t))
        return known.astype(np.float64), self.t[known]

    def seconds_of(self, t: float) -> float:
        """Return where a time of the LSL clock lies in the signal, in seconds of its own rate from its first sample.

        The clock of a headset drifts against the LSL clock; by this way an event stays at the sample that it met.
        """
        known, times = self._known
        if t <= times[0] or t >= times[-1]:
            edge = 0 if t <= times[0] else -1
            return float(known[edge] / self.sfreq + t - times[edge])
        return float(np.interp(t, times, known) / self.sfreq)


@dataclass
class _Growing:
    """A signal while it is read."""

    t: list[FloatArray] = field(default_factory=list)
    x: list[FloatArray] = field(default_factory=list)
    gaps: list[OpenGap] = field(default_factory=list)
    n: int = 0
    n_bridged: int = 0

    def take(self, chunk: Chunk) -> None:
        self.t.append(chunk.t)
        self.x.append(chunk.x)
        self.n += chunk.t.size
        self.n_bridged += 0 if chunk.filled is None else int(chunk.filled.all(axis=0).sum())

    def leave_open(self, n: int, reason: str) -> None:
        self.gaps.append(OpenGap(self.n, n, reason))
        self.t.append(np.full(n, np.nan))
        self.x.append(np.full((self.x[-1].shape[0], n), np.nan))
        self.n += n


def regular_signals(items: Iterable[Item], source: str, picks: Sequence[int] | None = None) -> list[RegularSignal]:
    """Return the signals of one stream: one, or several where it changed, its clock jumped or it was long away.

    Args:
        items: What the session was fed.
        source: The stream within the session.
        picks: Channels to keep; None: all.
    """
    signals: list[RegularSignal] = []
    for info, part in _announced(items, source):
        rows = tuple(range(len(info.ch_names))) if picks is None else tuple(picks)
        signals.extend(_place(info, part, rows))
    return signals


def _announced(items: Iterable[Item], source: str) -> list[tuple[StreamInfo, list[Chunk | Gap]]]:
    """Return what came of a stream under each announcement; one that repeats the last goes on where it was."""
    parts: list[tuple[StreamInfo, list[Chunk | Gap]]] = []
    for item in items:
        if isinstance(item, StreamInfo) and item.source == source:
            if parts and _alike(parts[-1][0], item):
                parts[-1][1].append(Gap(np.nan, np.nan, source, "stream_restarted"))
            else:
                parts.append((item, []))
        elif isinstance(item, Chunk | Gap) and item.source == source and parts:
            parts[-1][1].append(item)
    return parts


def _alike(one: StreamInfo, other: StreamInfo) -> bool:
    return (one.ch_names, one.sfreq, one.unit, one.units) == (other.ch_names, other.sfreq, other.unit, other.units)


def _place(info: StreamInfo, part: Sequence[Chunk | Gap], rows: tuple[int, ...]) -> list[RegularSignal]:
    """Give the samples of a stream their times, and cut where they cannot be one signal."""
    names = [normalise_label(name) for name in info.ch_names]
    counter = next((names.index(name) for name in _COUNTERS if name in names), None)
    invented = next((names.index(name) for name in _INVENTED if name in names), None)
    measured = _measure(info, part, counter)
    sfreq = _rate(info, measured)
    if not sfreq:
        return []
    timeline = Timeline(sfreq, rows, counter, invented)
    timeline.start_from(measured)
    growing, signals, reason = _Growing(), list[RegularSignal](), "lost_samples"
    for item in part:
        given = dataclasses.replace(item, t=item.t - info.delay_s) if isinstance(item, Chunk) else item
        for placed in timeline.push(given):
            if isinstance(placed, Chunk) and placed.t.size:
                n_open = _n_open(growing, float(placed.t[0]), sfreq)
                if n_open is None:
                    signals.append(_finish(growing, info, rows, sfreq))
                    growing = _Growing()
                elif n_open > 0:
                    growing.leave_open(n_open, reason)
                growing.take(dataclasses.replace(placed, x=placed.x[list(rows)]))
            elif isinstance(placed, Gap):
                reason = placed.reason
    return [*signals, _finish(growing, info, rows, sfreq)] if growing.n else signals


def _n_open(growing: _Growing, t_next: float, sfreq: float) -> int | None:
    """Return how many samples are missing before the next one; None where no filling makes sense."""
    if not growing.n:
        return 0
    away_s = t_next - float(growing.t[-1][-1])
    return round(away_s * sfreq) - 1 if 0 < away_s <= LONGEST_FILL_S else None


def _finish(growing: _Growing, info: StreamInfo, rows: tuple[int, ...], sfreq: float) -> RegularSignal:
    x = np.concatenate(growing.x, axis=1)
    t = np.concatenate(growing.t)
    return RegularSignal(info, rows, sfreq, t, x, tuple(growing.gaps), growing.n_bridged)


def _measure(info: StreamInfo, part: Sequence[Chunk | Gap], counter: int | None) -> MeasuredRate:
    """Return the rate of the stream's first seconds."""
    t, counted, n = list[FloatArray](), list[FloatArray](), 0
    for item in part:
        if isinstance(item, Chunk) and n < max(2.0, _MEASURE_S * info.sfreq):
            good = np.abs(item.t) <= MAX_STAMP_S
            t.append(item.t[good])
            counted.append(item.x[counter, good] if counter is not None else np.empty(0))
            n += int(good.sum())
    if n < 2:
        return MeasuredRate(0.0, 0.0)
    return measure_rate(np.concatenate(t), np.concatenate(counted) if counter is not None else None, info.sfreq)


def _rate(info: StreamInfo, measured: MeasuredRate) -> float:
    """Return the rate in Hz by which samples are counted; 0 where the stream has none."""
    nominal = info.sfreq
    if nominal and (not measured.steady or abs(measured.rate_hz / nominal - 1) <= _RATE_TOLERANCE):
        return nominal
    return measured.snapped_hz if measured.steady else 0.0
