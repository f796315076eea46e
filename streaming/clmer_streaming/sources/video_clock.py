"""When the frames of a video were taken, on the clock of the recording beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.process_video import STAMPS_HEADER, stamps_file
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.reader import XdfFile, XdfStream

_NUMBER_LABEL = re.compile(r"frame[ _-]?(number|index|idx|no|count)?", re.IGNORECASE)
_STAMP_LINE = re.compile(r"(\d{1,9}),(\d{1,15}(?:\.\d{1,20})?(?:e[+-]?\d{1,2})?)", re.ASCII)
_FRAME_STREAM = re.compile(r"video|frame", re.IGNORECASE)


class VideoClock(Protocol):
    """Tells the time of each frame."""

    def time(self, number: int, position_s: float) -> float:
        """Return when a frame was taken, in seconds of the recording's clock.

        Args:
            number: Of the frame; the first one of the file is 0.
            position_s: Where the container says it lies, seconds.
        """


@dataclass(frozen=True)
class OffsetClock:
    """The video began at a known time."""

    begin: float  # s, of the container's time 0

    def time(self, number: int, position_s: float) -> float:
        """Return the beginning plus the container's time."""
        return self.begin + position_s


@dataclass(frozen=True, eq=False)
class NumberedClock:
    """A stream of the recording says when each frame was taken, by its number."""

    name: str  # of the stream
    numbers: FloatArray  # (n,) rising; the first frame of the file is 0
    t: FloatArray  # (n,) seconds

    @property
    def period_s(self) -> float:
        """Seconds between two frames, in the middle."""
        return float(np.median(np.diff(self.t) / np.diff(self.numbers)))

    def time(self, number: int, position_s: float) -> float:
        """Return the stamp of that number; between two and beyond the ends, as the frame rate has it."""
        beyond = number - float(np.clip(number, self.numbers[0], self.numbers[-1]))
        return float(np.interp(number, self.numbers, self.t)) + beyond * self.period_s


def kept_stamps(video: Path) -> FloatArray | None:
    """Return when each frame of a session's own video was taken (n,), seconds of the LSL clock; None of any other.

    Lines behind one that was broken off, or behind a stamp that steps back, are left out.

    Raises:
        RecordingError: The stamps cannot be read.
    """
    path = stamps_file(video)
    if not path.is_file():
        return None
    try:
        header, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] or [""]
    except OSError as error:
        raise RecordingError(
            f"stamps that can be read at {path}", error.strerror or repr(error), "mend that, or move the file away"
        ) from error
    t: list[float] = []
    for line in lines if header == STAMPS_HEADER else ():
        found = _STAMP_LINE.fullmatch(line)
        if found is None or int(found[1]) != len(t) or (t and float(found[2]) <= t[-1]):
            break
        t.append(float(found[2]))
    return np.array(t) if len(t) > 1 else None


def frame_number_clock(file: XdfFile) -> NumberedClock | None:
    """Return the clock that the recording's stream of frame numbers gives; None where it has none."""
    clocks = (_numbered(stream) for stream in file.streams if stream.channel_format != "string")
    return next((clock for clock in clocks if clock is not None), None)


def _numbered(stream: XdfStream) -> NumberedClock | None:
    if stream.t.size < 2 or not _FRAME_STREAM.search(f"{stream.name} {stream.type}"):
        return None
    labelled = [i for i, label in enumerate(stream.ch_names) if _NUMBER_LABEL.fullmatch(label)]
    if not labelled and stream.n_channels > 1:
        return None
    numbers = np.asarray(stream.x[labelled[0] if labelled else 0], dtype=np.float64)
    known = np.isfinite(numbers)
    numbers, first = np.unique(numbers[known], return_index=True)
    t = stream.t_synced[known][first]
    counted = numbers.size >= 2 and np.array_equal(numbers, np.round(numbers)) and bool(np.all(np.diff(t) > 0))
    return NumberedClock(stream.name, numbers, t) if counted else None
