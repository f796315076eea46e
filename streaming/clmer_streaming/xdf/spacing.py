"""The spacing of the samples of a recorded stream: its rate, its gaps and its losses.

``measure_spacing`` sends the stamps through the very rate gate and timeline of the signal path, so that what is said of
a recording is what a session makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.pipeline.rate import RateDecision, RateGate, measure_rate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import Chunk, FloatArray, Gap, StreamInfo

_SLICE = 8192  # samples that are looked at together
_SETTLE_S = 2.5  # s of samples in which the time of a segment settles
_LEAST_STEADY = 20  # samples of an irregular stream whose rate can be steady
_SLOWEST_STEADY_HZ = 4.0  # lowest rate of such a stream; slower ones are events
_RATES_HZ = (0.01, 20_000.0)  # nominal rates that are believed


@dataclass(frozen=True)
class Spacing:
    """The spacing of the samples of one stream."""

    rate_hz: float  # effective rate between gaps; 0 if it cannot be estimated
    steady: bool  # whether the samples have a constant rate
    note: str = ""  # what is odd about the rate, in a sentence for people; empty where nothing is
    gaps: tuple[tuple[float, float], ...] = ()  # (stamp before, seconds from there to the next sample) of each gap
    n_short_losses: int = 0  # losses shorter than a gap
    n_clock_jumps: int = 0  # places where the clock was set
    n_lost: int = 0  # samples that a packet counter proves to be missing
    n_lost_estimated: int = 0  # samples that seem to be missing, by the stamps alone
    n_steps_back: int = 0  # stamps before the preceding one
    step_back_s: float = 0.0  # the largest such step
    n_bunched: int = 0  # stamps within a tenth of the period after the preceding one, as in bursts stamped on arrival


def measure_spacing(t: FloatArray, nominal_hz: float, counter: FloatArray | None = None) -> Spacing:
    """Return the spacing of a stream's samples.

    Args:
        t: (n,) finite stamps in seconds, in the order of the file.
        nominal_hz: Declared rate in Hz; 0 for an irregular stream, which has gaps only if it turns out to be steady.
        counter: (n,) values of the packet counter, if there is one.
    """
    declared_hz = nominal_hz if _RATES_HZ[0] <= nominal_hz <= _RATES_HZ[1] else 0.0
    placed = _Placed()
    if t.size > 1:
        _place(t, declared_hz, counter, placed)
    known = placed.rate is not None and (declared_hz > 0 or _keeps_rate(placed.rate, t.size))
    found = placed if known else _Placed()
    rate_hz = found.rate_hz or _mean_rate(t, declared_hz)
    steps = np.diff(t)
    return Spacing(
        rate_hz=rate_hz,
        steady=known,
        note=found.note,
        gaps=tuple(found.gaps),
        n_short_losses=found.n_bridges,
        n_clock_jumps=found.n_jumps,
        n_lost=found.n_lost,
        n_lost_estimated=found.n_lost_estimated,
        n_steps_back=int(np.count_nonzero(steps < 0)),
        step_back_s=float(max(0.0, -np.min(steps, initial=0.0))),
        n_bunched=int(np.count_nonzero(steps < 0.1 / rate_hz)) if rate_hz else 0,
    )


@dataclass
class _Placed:
    """What the timeline made of the samples."""

    rate: RateDecision | None = None  # the first one
    note: str = ""
    gaps: list[tuple[float, float]] = field(default_factory=list)  # (s, s)
    n_bridges: int = 0
    n_jumps: int = 0
    n_lost: int = 0
    n_lost_estimated: int = 0
    n_first: int = 0  # samples of a segment before its rate is measured
    t_first: float = np.nan  # s, of the sample behind them, in the segment under way
    t_last: float = np.nan  # s, the last sample placed
    n_segment: int = 0  # samples of the segment under way
    n_steps: int = 0  # steps between the samples of ended segments
    seconds: float = 0.0  # s of them

    def add(self, chunk: Chunk) -> None:
        assert chunk.filled is not None
        if not chunk.t.size:
            return
        filled = chunk.filled[0]
        self.n_bridges += int(np.count_nonzero(filled & ~np.concatenate([[False], filled[:-1]])))
        if self.n_segment <= self.n_first < self.n_segment + chunk.t.size:
            self.t_first = float(chunk.t[self.n_first - self.n_segment])
        self.n_segment += chunk.t.size
        self.t_last = float(chunk.t[-1])

    def end_segment(self) -> None:
        if self.n_segment > 2 * self.n_first:
            self.n_steps += self.n_segment - 1 - self.n_first
            self.seconds += self.t_last - self.t_first
        self.n_segment = 0

    @property
    def rate_hz(self) -> float:
        return self.n_steps / self.seconds if self.seconds > 0 else 0.0


def _place(t: FloatArray, declared_hz: float, counter: FloatArray | None, placed: _Placed) -> None:
    """Send stamps through the rate gate and the timeline."""
    row = None if counter is None else 1
    gate = RateGate(StreamInfo("recorded", "other", "", ("", "")[: 1 if row is None else 2], declared_hz), row)
    timeline = Timeline(declared_hz or 1.0, [0], row)
    for first in range(0, t.size, _SLICE):
        part = slice(first, first + _SLICE)
        values = np.zeros((1, t[part].size))
        x = values if counter is None else np.concatenate([values, counter[None, part]])
        for item in gate.push(Chunk("recorded", t[part], x)):
            if isinstance(item, RateDecision):
                placed.rate = placed.rate or item
                placed.n_first = round(_SETTLE_S * item.sfreq)
                before, timeline = timeline, Timeline(item.sfreq, [0], row)
                timeline.carry_counts(before)
                timeline.use_measured(item.measured)
                continue
            for out in timeline.push(item):
                if isinstance(out, Chunk):
                    placed.add(out)
                elif isinstance(out, Gap):
                    placed.end_segment()
                    if out.reason == "clock_jump":
                        placed.n_jumps += 1
                    else:
                        placed.gaps.append((out.t0, out.t1 - out.t0))
    placed.end_segment()
    placed.note, placed.n_lost, placed.n_lost_estimated = gate.note, timeline.n_lost, timeline.n_lost_estimated


def _keeps_rate(rate: RateDecision, n_samples: int) -> bool:
    """Return whether an irregular stream keeps the rate that was found."""
    return rate.measured.steady and n_samples >= _LEAST_STEADY and rate.sfreq >= _SLOWEST_STEADY_HZ


def _mean_rate(t: FloatArray, declared_hz: float) -> float:
    """Return the rate of a stream that is too short, or too irregular, for another one; 0 where there is none."""
    if declared_hz and t.size > 1 and (rate_hz := measure_rate(t, None, declared_hz).rate_hz):
        return rate_hz
    span_s = float(t[-1] - t[0]) if t.size > 2 else 0.0
    return (t.size - 1) / span_s if span_s > 0 else 0.0
