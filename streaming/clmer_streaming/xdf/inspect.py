"""Inspecting a recording: the spacing of its samples, the state of its clocks, and its faults.

``inspect`` returns the whole ``Inspection``. ``measure_spacing`` finds rate, gaps and jumps; ``find_faults`` turns
measurements into faults with stable codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from clmer_streaming.clock import is_unix_time
from clmer_streaming.pipeline.channels import microvolts_per_unit
from clmer_streaming.types import FloatArray, IndexArray
from clmer_streaming.xdf.clock import ClockHealth, measure_clock
from clmer_streaming.xdf.header import StreamDescription
from clmer_streaming.xdf.reader import XdfFile, XdfStream
from clmer_streaming.xdf.scan import ScanReport

SHORTEST_GAP_S = 0.1
"""Shortest gap in seconds; shorter losses are bridged by the signal path and counted as short."""

_LEAST_LOSS_S = 0.03  # s, and three samples; less is not distinguishable from jitter, as in the timeline
_CONFIRM_S = 0.25  # s on both sides for which an offset must last, as in the timeline
_LEAST_SIDE = 3  # samples on each side of a gap
_FIRST_SPAN_S, _RATE_SPAN_S = 1.0, 10.0  # s of one measurement of the rate, before and after gaps are removed
_MOST_RATES = 10_000  # measurements
_STEADY = 0.05  # largest relative interquartile range of the rate of a steady stream
_LEAST_PERIOD_S = 1e-6  # s; no rate is estimated from stamps that are nearer to each other
_LEAST_STEADY = 20  # samples of an irregular stream whose rate can be steady
_SLOWEST_STEADY_HZ = 4.0  # lowest rate of such a stream; slower ones are events
_WRONG_RATE = 0.01  # relative; rates of devices differ from the nominal one by up to 0.4 %
_LEAST_RATE_S = 2.0  # s, shortest stream whose rate is checked
_STAIRCASE = 0.005  # share of stamps that step back or come in bunches


class FaultCode(StrEnum):
    """The kinds of faults. The vocabulary is stable; codes are only added."""

    NO_SAMPLES = "no_samples"
    BACKWARD_STEPS = "backward_steps"
    STAIRCASE = "staircase"
    CLOCK_JUMP = "clock_jump"
    CLOCK_RESTARTED = "clock_restarted"
    WRONG_RATE = "wrong_rate"
    NO_LABELS = "no_labels"
    UNIT_UNKNOWN = "unit_unknown"
    UNIX_STAMPS = "unix_stamps"
    NO_CLOCK_OFFSETS = "no_clock_offsets"
    NO_FOOTER = "no_footer"
    FOOTER_DISAGREES = "footer_disagrees"
    DAMAGED_CHUNKS = "damaged_chunks"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a stream."""

    code: FaultCode
    text: str  # a sentence for the user


@dataclass(frozen=True)
class Spacing:
    """The spacing of the samples of one stream."""

    rate_hz: float  # effective rate between gaps; 0 if it cannot be estimated
    steady: bool  # whether the samples have a constant rate
    gaps: tuple[tuple[float, float], ...]  # (stamp before, seconds from there to the next sample) of each gap
    n_short_losses: int  # losses shorter than a gap
    n_back_jumps: int  # places where the clock went back permanently
    n_steps_back: int  # stamps before the preceding one
    step_back_s: float  # the largest such step
    n_bunched: int  # stamps within a tenth of the period after the preceding one, as in bursts stamped on arrival


@dataclass(frozen=True)
class StreamInspection:
    """The inspection of one stream."""

    stream: XdfStream
    first_s: float | None  # first stamp on the recorder's clock; None without samples
    last_s: float | None  # last stamp
    spacing: Spacing
    clock: ClockHealth
    faults: tuple[Fault, ...]

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last stamp."""
        return 0.0 if self.first_s is None or self.last_s is None else self.last_s - self.first_s

    @property
    def longest_gap_s(self) -> float:
        """Longest gap in seconds; 0 without gaps."""
        return max((length for _, length in self.spacing.gaps), default=0.0)


@dataclass(frozen=True)
class Inspection:
    """The inspection of a recording."""

    path: Path
    n_bytes: int
    readable_share: float  # 0-1, share of bytes in intact chunks of known streams
    streams: tuple[StreamInspection, ...]  # in the order of their headers
    warnings: tuple[str, ...]  # sentences on the file as a whole


def inspect(file: XdfFile) -> Inspection:
    """Return the inspection of a recording.

    Example::

        for stream in inspect(read_xdf("session.xdf")).streams:
            print(stream.stream.name, stream.spacing.rate_hz, stream.faults)
    """
    return Inspection(
        path=file.path,
        n_bytes=file.report.n_bytes,
        readable_share=file.report.n_used / file.report.n_bytes,
        streams=tuple(_inspect_stream(stream, file) for stream in file.streams),
        warnings=file.warnings,
    )


def _inspect_stream(stream: XdfStream, file: XdfFile) -> StreamInspection:
    spacing = measure_spacing(stream.t_synced, stream.sfreq)
    clock = measure_clock(stream.t, stream.clock_times, stream.clock_offsets)
    return StreamInspection(
        stream=stream,
        first_s=float(np.min(stream.t_synced)) if stream.t.size else None,
        last_s=float(np.max(stream.t_synced)) if stream.t.size else None,
        spacing=spacing,
        clock=clock,
        faults=find_faults(stream, spacing, clock, file.report),
    )


def measure_spacing(t: FloatArray, nominal_hz: float) -> Spacing:
    """Return the spacing of a stream's samples.

    Args:
        t: (n,) finite stamps in seconds, in the order of the file.
        nominal_hz: Declared rate in Hz; 0 for an irregular stream, which has gaps only if it turns out to be steady.
    """
    steps = np.diff(t)
    period, steady = _period(t, nominal_hz)
    losses: list[tuple[int, float]] = []
    n_back_jumps = 0
    if steady:
        residual = t - period * np.arange(t.size)
        losses, n_back_jumps = _losses(residual, period), int(_back_jumps(residual, period).size)
        period = _period_between(t, losses, period)
    gaps = tuple((float(t[i]), lost_s + period) for i, lost_s in losses if lost_s > SHORTEST_GAP_S)
    return Spacing(
        rate_hz=1.0 / period if period >= _LEAST_PERIOD_S else 0.0,
        steady=steady,
        gaps=gaps,
        n_short_losses=len(losses) - len(gaps),
        n_back_jumps=n_back_jumps,
        n_steps_back=int(np.count_nonzero(steps < 0)),
        step_back_s=float(max(0.0, -np.min(steps, initial=0.0))),
        n_bunched=int(np.count_nonzero(steps < 0.1 * period)),
    )


def _period(t: FloatArray, nominal_hz: float) -> tuple[float, bool]:
    """Return the seconds per sample, and whether they are constant."""
    if t.size < 2:
        return 0.0, False
    mean_s = max(0.0, float(t[-1] - t[0]) / (t.size - 1))
    guess_hz = nominal_hz or (1.0 / mean_s if mean_s > 0 else 0.0)
    periods = _periods(t, _FIRST_SPAN_S * guess_hz)
    low, period, high = (float(v) for v in np.percentile(periods, [25, 50, 75]))
    if period < _LEAST_PERIOD_S:
        return mean_s, False
    even = t.size >= _LEAST_STEADY and high - low <= _STEADY * period < _STEADY / _SLOWEST_STEADY_HZ
    return (period, True) if nominal_hz or even else (mean_s, False)


def _period_between(t: FloatArray, losses: list[tuple[int, float]], period: float) -> float:
    """Return the seconds per sample without the losses."""
    lost = np.zeros(t.size)
    for i, lost_s in losses:
        lost[i + 1] += lost_s
    refined = float(np.median(_periods(t - np.cumsum(lost), _RATE_SPAN_S / period)))
    return refined if refined > _LEAST_PERIOD_S else period


def _periods(t: FloatArray, lag: float) -> FloatArray:
    """Return measurements of the seconds per sample over ``lag`` samples, at most half of all."""
    n = int(max(1, min(t.size // 2, lag)))
    first = np.arange(0, t.size - n, max(1, (t.size - n) // _MOST_RATES))
    periods: FloatArray = (t[first + n] - t[first]) / n
    return periods


def _side(residual: FloatArray, period: float) -> int:
    return min(max(_LEAST_SIDE, round(_CONFIRM_S / period)), max(_LEAST_SIDE, residual.size))


def _losses(residual: FloatArray, period: float) -> list[tuple[int, float]]:
    """Return the index of the sample before each loss, and its seconds beyond the period."""
    step = _after(residual, period, least=True) - _before(residual, period, least=False)
    side, found = _side(residual, period), []
    for i in _inner(np.flatnonzero(step > max(_LEAST_LOSS_S, 3 * period)), residual.size).tolist():
        before, after = residual[max(0, i + 1 - side) : i + 1], residual[i + 1 : i + 1 + side]
        found.append((i, float(np.median(after) - np.median(before))))
    return found


def _back_jumps(residual: FloatArray, period: float) -> IndexArray:
    """Return the indices of the samples after which the clock goes back permanently."""
    step = _after(residual, period, least=False) - _before(residual, period, least=True)
    return _inner(np.flatnonzero(step < -max(SHORTEST_GAP_S, 3 * period)), residual.size)


def _after(residual: FloatArray, period: float, *, least: bool) -> FloatArray:
    """Return the smallest or largest residual after each of the first n - 1 samples, within a quarter of a second."""
    return _before(residual[::-1], period, least=least)[::-1]


def _before(residual: FloatArray, period: float, *, least: bool) -> FloatArray:
    """Return the smallest or largest residual up to each of the first n - 1 samples, within a quarter of a second."""
    side = _side(residual, period)
    rank = minimum_filter1d if least else maximum_filter1d
    reached: FloatArray = rank(residual, size=side, origin=(side - 1) // 2, mode="nearest")
    return reached[:-1]


def _inner(index: IndexArray, n_samples: int) -> IndexArray:
    """Drop indices with too few samples on one side."""
    return index[(index >= _LEAST_SIDE - 1) & (index < n_samples - _LEAST_SIDE)]


def find_faults(stream: XdfStream, spacing: Spacing, clock: ClockHealth, report: ScanReport) -> tuple[Fault, ...]:
    """Return the faults of a stream, in the order of FaultCode."""
    found = [
        *(_stamp_faults(stream, spacing, clock) if stream.t.size else _without_samples()),
        *_header_faults(stream),
        *_file_faults(stream, clock, report),
    ]
    order = list(FaultCode)
    return tuple(sorted(found, key=lambda fault: order.index(fault.code)))


def _without_samples() -> Iterator[Fault]:
    yield Fault(FaultCode.NO_SAMPLES, "It has no samples.")


def _stamp_faults(stream: XdfStream, spacing: Spacing, clock: ClockHealth) -> Iterator[Fault]:
    n = stream.t.size
    if spacing.n_steps_back:
        yield Fault(
            FaultCode.BACKWARD_STEPS,
            f"{spacing.n_steps_back} stamps step back, by {spacing.step_back_s:.3g} s at most.",
        )
    if spacing.steady and spacing.n_bunched > _STAIRCASE * n:
        yield Fault(
            FaultCode.STAIRCASE, f"{spacing.n_bunched / n:.1%} of the stamps come in bunches, as bursts do on arrival."
        )
    if spacing.n_back_jumps:
        yield Fault(FaultCode.CLOCK_JUMP, f"The clock goes back for good in {spacing.n_back_jumps} place(s).")
    if clock.n_restarts:
        yield Fault(FaultCode.CLOCK_RESTARTED, f"The sender's clock restarted {clock.n_restarts} time(s).")
    yield from _rate_faults(stream, spacing)
    if is_unix_time(float(np.median(stream.t))):
        yield Fault(FaultCode.UNIX_STAMPS, "Its stamps are seconds since 1970, not of the LSL clock.")


def _rate_faults(stream: XdfStream, spacing: Spacing) -> Iterator[Fault]:
    if not (stream.sfreq and spacing.rate_hz and np.ptp(stream.t_synced) >= _LEAST_RATE_S):
        return
    if abs(spacing.rate_hz / stream.sfreq - 1) > _WRONG_RATE:
        yield Fault(
            FaultCode.WRONG_RATE,
            f"It declares {stream.sfreq:g} Hz and has {spacing.rate_hz:.2f} Hz: a wrong rate, or lost samples.",
        )


def _header_faults(stream: XdfStream) -> Iterator[Fault]:
    if stream.channel_format == "string":
        return
    n_named = sum(map(bool, stream.ch_names))
    if n_named < stream.n_channels:
        yield Fault(
            FaultCode.NO_LABELS, f"{stream.n_channels - n_named} of {stream.n_channels} channels have no label."
        )
    if stream.type.lower() == "eeg" and microvolts_per_unit(stream.unit) is None:
        declared = f"the unit {stream.unit!r}, which is not known" if stream.unit else "no unit"
        yield Fault(FaultCode.UNIT_UNKNOWN, f"It declares {declared}.")


def _file_faults(stream: XdfStream, clock: ClockHealth, report: ScanReport) -> Iterator[Fault]:
    if not clock.n_offsets:
        yield Fault(FaultCode.NO_CLOCK_OFFSETS, "Its clock was not measured; its stamps are taken as they are.")
    if stream.footer is None:
        yield Fault(FaultCode.NO_FOOTER, "The recorder did not close it; its end may be missing.")
    else:
        yield from _footer_faults(stream, stream.footer.findtext("sample_count") or "")
    places = [place for place in report.damage if place.stream is not None and _same(place.stream, stream)]
    if places:
        n_bytes = sum(place.n_bytes for place in places)
        yield Fault(FaultCode.DAMAGED_CHUNKS, f"{len(places)} of its chunks are damaged ({n_bytes} bytes).")


def _same(a: StreamDescription, b: StreamDescription) -> bool:
    return (a.stream_id, a.xml) == (b.stream_id, b.xml)


def _footer_faults(stream: XdfStream, count: str) -> Iterator[Fault]:
    if not count.strip().isdecimal() or len(count) > 20:
        return
    if abs(int(count) - stream.t.size) > 1:  # LabRecorder often counts one too few
        yield Fault(
            FaultCode.FOOTER_DISAGREES, f"The recorder counted {int(count)} samples; {stream.t.size} can be read."
        )
