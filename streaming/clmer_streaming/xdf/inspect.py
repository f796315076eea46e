"""Inspecting a recording: the spacing of its samples, the state of its clocks, and its faults.

``inspect`` returns the whole ``Inspection``; ``find_faults`` turns measurements into faults with stable codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from clmer_streaming.pipeline.channels import find_counter, microvolts_per_unit
from clmer_streaming.xdf.clock import ClockHealth, measure_clock
from clmer_streaming.xdf.header import StreamDescription
from clmer_streaming.xdf.reader import XdfFile, XdfStream
from clmer_streaming.xdf.scan import ScanReport
from clmer_streaming.xdf.spacing import Spacing, measure_spacing

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
    LABEL_COUNT = "label_count"
    UNIT_UNKNOWN = "unit_unknown"
    UNIX_STAMPS = "unix_stamps"
    FOREIGN_STAMPS = "foreign_stamps"
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
    counter = None if stream.channel_format == "string" else find_counter(stream.ch_names)
    values = None if counter is None else stream.samples.read_channel(counter)
    spacing = measure_spacing(stream.t_synced, stream.sfreq, values)
    clock = measure_clock(stream.t, stream.clock_times, stream.clock_offsets)
    return StreamInspection(
        stream=stream,
        first_s=float(np.min(stream.t_synced)) if stream.t.size else None,
        last_s=float(np.max(stream.t_synced)) if stream.t.size else None,
        spacing=spacing,
        clock=clock,
        faults=find_faults(stream, spacing, clock, file.report),
    )


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
    if spacing.n_clock_jumps:
        yield Fault(FaultCode.CLOCK_JUMP, f"The clock was set in {spacing.n_clock_jumps} place(s).")
    if clock.n_restarts:
        yield Fault(FaultCode.CLOCK_RESTARTED, f"The sender's clock restarted {clock.n_restarts} time(s).")
    yield from _rate_faults(stream, spacing)
    if stream.clock == "Unix time":
        yield Fault(FaultCode.UNIX_STAMPS, "Its stamps are seconds since 1970, not of the LSL clock.")
    if stream.clock == "other":
        yield Fault(FaultCode.FOREIGN_STAMPS, "Its stamps are not of the clock on which its offsets were measured.")


def _rate_faults(stream: XdfStream, spacing: Spacing) -> Iterator[Fault]:
    if not (stream.sfreq and spacing.rate_hz and np.ptp(stream.t_synced) >= _LEAST_RATE_S):
        return
    if spacing.note:
        yield Fault(FaultCode.WRONG_RATE, f"It {spacing.note}.")
    elif abs(spacing.rate_hz / stream.sfreq - 1) > _WRONG_RATE:
        yield Fault(
            FaultCode.WRONG_RATE,
            f"It declares {stream.sfreq:g} Hz and has {spacing.rate_hz:.2f} Hz: a wrong rate, or lost samples.",
        )


def _header_faults(stream: XdfStream) -> Iterator[Fault]:
    if stream.channel_format == "string":
        return
    n_named = sum(map(bool, stream.ch_names))
    if stream.n_labels is not None:
        yield Fault(
            FaultCode.LABEL_COUNT,
            f"It has {stream.n_labels} labels for {stream.n_channels} channels: which is which cannot be known.",
        )
    elif n_named < stream.n_channels:
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
