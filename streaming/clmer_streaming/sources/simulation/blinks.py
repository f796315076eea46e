"""When a person blinks: one list of blinks, seen by the camera and by the frontal electrodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.types import FloatArray

SHORTEST_PAUSE_S = 0.8  # s between two blinks
PAUSE_SHAPE = 2.0  # of the gamma distribution: blinks are more regular than chance
PEAK_SHARE = 0.4  # of a blink's duration: lids close faster than they open


@dataclass(frozen=True, eq=False)
class Blinks:
    """All blinks of a session."""

    onset: FloatArray  # (n,) seconds since the session began
    duration: FloatArray  # (n,) s, 0.2-0.3
    strength: FloatArray  # (n,) how far the lids close, about 1

    @property
    def peak(self) -> FloatArray:
        """Moment of the fullest closure of each blink, (n,) seconds since the session began."""
        return self.onset + PEAK_SHARE * self.duration


def simulate_blinks(config: SimulationConfig, person: Participant) -> Blinks:
    """Return the blinks of a session; pauses between them are gamma distributed, with a shortest one."""
    rng = session_generator(config, Draw.BLINKS)
    mean_pause = 60.0 / person.blinks_per_min - SHORTEST_PAUSE_S
    n_most = int(config.seconds * person.blinks_per_min / 60.0 * 2) + 20
    onset = np.cumsum(SHORTEST_PAUSE_S + rng.gamma(PAUSE_SHAPE, mean_pause / PAUSE_SHAPE, n_most))
    duration = rng.uniform(0.2, 0.3, n_most)
    strength = np.clip(rng.normal(1.0, 0.12, n_most), 0.7, 1.3)
    kept = onset < config.seconds - 0.4
    return Blinks(onset[kept], duration[kept], strength[kept])


def closure(blinks: Blinks, times: FloatArray) -> FloatArray:
    """Return how far the lids are closed at increasing ``times`` (n,): 0 open, about 1 at a blink's peak."""
    closed = np.zeros(times.shape)
    ends = blinks.onset + blinks.duration
    firsts = np.searchsorted(times, blinks.onset)
    for first, last, onset, duration, strength in zip(
        firsts, np.searchsorted(times, ends), blinks.onset, blinks.duration, blinks.strength, strict=True
    ):
        phase = (times[first:last] - onset) / duration
        warped = np.where(phase < PEAK_SHARE, phase / PEAK_SHARE / 2, 0.5 + (phase - PEAK_SHARE) / (1 - PEAK_SHARE) / 2)
        closed[first:last] = strength * np.sin(np.pi * warped) ** 2
    return closed
