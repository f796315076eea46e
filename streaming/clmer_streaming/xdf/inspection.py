"""What is in a recording, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clmer_streaming.xdf.clock_drift import ClockHealth, measure_clock
from clmer_streaming.xdf.faults import Fault, find_faults
from clmer_streaming.xdf.reader import XdfFile, XdfStream
from clmer_streaming.xdf.spacing import Spacing, measure_spacing


@dataclass(frozen=True)
class StreamInspection:
    """One stream of a recording."""

    stream: XdfStream
    first_s: float | None  # s, the recorder's clock; None without samples
    last_s: float | None
    spacing: Spacing
    clock: ClockHealth
    faults: tuple[Fault, ...]

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last stamp."""
        return 0.0 if self.first_s is None or self.last_s is None else self.last_s - self.first_s

    @property
    def longest_gap_s(self) -> float:
        """Seconds; 0 without gaps."""
        return max((length for _, length in self.spacing.gaps), default=0.0)


@dataclass(frozen=True)
class Inspection:
    """A whole recording."""

    path: Path
    n_bytes: int
    readable_share: float  # bytes of intact chunks of known streams / bytes of the file
    streams: tuple[StreamInspection, ...]  # in the order of their headers
    warnings: tuple[str, ...]  # sentences on the file as a whole


def inspect(file: XdfFile) -> Inspection:
    """Return what is in a recording; pure, and the same for the same file."""
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
