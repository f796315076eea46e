"""What is wrong with a recorded stream, in words that are stable and sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from clmer_streaming.units import microvolts_per_unit
from clmer_streaming.xdf.clock_drift import ClockHealth
from clmer_streaming.xdf.description import StreamDescription
from clmer_streaming.xdf.reader import XdfStream
from clmer_streaming.xdf.scan_report import ScanReport
from clmer_streaming.xdf.spacing import Spacing

_WRONG_RATE = 0.01  # relative; true rates of devices differ from the nominal one by up to 0.4 %
_LEAST_RATE_S = 2.0  # s of a stream from which its rate can be called wrong
_STAIRCASE = 0.005  # share of stamps that step back or come in bunches
_UNIX_S = (1e9, 1e10)  # s since 1970: years 2001 to 2286; no computer has run that long


class FaultCode(StrEnum):
    """The kinds of faults. The vocabulary is stable; words are only added."""

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
    """One thing that is wrong."""

    code: FaultCode
    text: str  # a sentence for people


def find_faults(stream: XdfStream, spacing: Spacing, clock: ClockHealth, report: ScanReport) -> tuple[Fault, ...]:
    """Return what is wrong with a stream, in the order of FaultCode."""
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
    if _UNIX_S[0] < float(np.median(stream.t)) < _UNIX_S[1]:
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
        said = f"the unit {stream.unit!r}, which is not known" if stream.unit else "no unit"
        yield Fault(FaultCode.UNIT_UNKNOWN, f"It declares {said}.")


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
    if abs(int(count) - stream.t.size) > 1:  # LabRecorder often leaves one out of its count
        yield Fault(
            FaultCode.FOOTER_DISAGREES, f"The recorder counted {int(count)} samples; {stream.t.size} can be read."
        )
