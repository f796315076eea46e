"""How fast a recording goes through the signal path, read from the file, and where the time goes."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate, write_session
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, FaceSample


@dataclass
class Replayed:
    """Seconds that the parts of a replay took, by name, with how often each was done."""

    recording_s: float = 0.0  # length of the recording
    parts: dict[str, tuple[int, float]] = field(default_factory=dict)  # name -> (times, seconds)

    @property
    def speed(self) -> float:
        """Seconds of the recording per second, reading the file included."""
        return self.recording_s / sum(seconds for _, seconds in self.parts.values())

    def add(self, name: str, seconds: float) -> None:
        """Count a part once more."""
        times, before = self.parts.get(name, (0, 0.0))
        self.parts[name] = (times + 1, before + seconds)


def write_recording(path: Path, seconds: float) -> None:
    """Write a simulated session: 14 EEG channels with counter at 128 Hz, a face at 30 Hz, markers."""
    write_session(simulate(SimulationConfig(seconds=seconds, seed=1)), path)


def measure_replay(path: Path) -> Replayed:
    """Replay the recording once, as fast as it goes, in this process."""
    clock = time.perf_counter
    result = Replayed()
    start = clock()
    source = ReplaySource(path, speed=math.inf)
    result.add("reading the file", clock() - start)
    result.recording_s = source.duration_s
    preprocessor, items = Preprocessor(PreprocessConfig()), source.items()
    for _ in itertools.count():
        start = clock()
        item = next(items, None)
        made = clock()
        result.add("cutting it into items", made - start)
        if item is None:
            return result
        windows = preprocessor.push(item)
        result.add(_part(item, len(windows)), clock() - made)
    raise AssertionError("the loop ends with the recording")


def _part(item: object, n_windows: int) -> str:
    if n_windows:
        return "pushes that close a window"
    if isinstance(item, Chunk):
        return "pushes of EEG"
    return "pushes of faces" if isinstance(item, FaceSample) else "other pushes"
