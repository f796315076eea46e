"""A simulated session: its streams as arrays, its truth, and the items a source would have delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clmer_streaming.face.layout import row_to_face
from clmer_streaming.sources.simulation.blinks import Blinks
from clmer_streaming.sources.simulation.config import SimulationConfig
from clmer_streaming.sources.simulation.emotion import Emotion
from clmer_streaming.sources.simulation.face import FaceTrack
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.sources.simulation.trials import Trial
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, Marker, StreamInfo


@dataclass(frozen=True, eq=False)
class SessionTruth:
    """What the simulator knows and no recording tells. Times are seconds since the session began."""

    trials: tuple[Trial, ...]  # with label_index 2V+A, valence and arousal levels
    emotion: Emotion  # latent valence and arousal of each second
    blinks: Blinks
    intensities: FloatArray  # (17, n_frames) action units without the extractor's noise
    true_rate_hz: float  # of the EEG


@dataclass(frozen=True, eq=False)
class SimulatedSession:
    """One session of one person. All stamps are LSL seconds; nothing depends on the wall clock."""

    config: SimulationConfig
    person: Participant
    t0: float  # LSL seconds at which the session began
    eeg_info: StreamInfo
    eeg_t: FloatArray  # (n,)
    eeg_x: npt.NDArray[np.float32]  # (19, n) in the order of EMOTIV_CH_NAMES
    face_info: StreamInfo
    face: FaceTrack
    markers_info: StreamInfo
    markers: tuple[Marker, ...]
    truth: SessionTruth

    @property
    def infos(self) -> tuple[StreamInfo, ...]:
        """Announcements of the three streams."""
        return self.eeg_info, self.face_info, self.markers_info

    def face_samples(self) -> Iterator[FaceSample]:
        """Yield every frame in order."""
        for t, row in zip(self.face.t.tolist(), self.face.rows, strict=True):
            yield row_to_face(t, row)

    def chunks(self, chunk: int = 8) -> Iterator[Chunk]:
        """Yield the EEG in pieces of ``chunk`` samples, the last one shorter."""
        for first in range(0, self.eeg_t.size, chunk):
            piece = slice(first, first + chunk)
            yield Chunk("eeg", self.eeg_t[piece].copy(), self.eeg_x[:, piece].astype(np.float64))

    def items(self, chunk: int = 8) -> Iterator[Item]:
        """Yield the announcements, then all items by stamp (a chunk goes by its last one).

        Args:
            chunk: Samples per EEG chunk.
        """
        yield from self.infos
        ends = [min(first + chunk, self.eeg_t.size) - 1 for first in range(0, self.eeg_t.size, chunk)]
        times = np.concatenate([self.eeg_t[ends], self.face.t, [marker.t for marker in self.markers]])
        lanes = np.repeat([0, 1, 2], [len(ends), self.face.t.size, len(self.markers)])
        streams: tuple[Iterator[Item], ...] = (self.chunks(chunk), self.face_samples(), iter(self.markers))
        for lane in lanes[np.argsort(times, kind="stable")].tolist():
            yield next(streams[lane])
