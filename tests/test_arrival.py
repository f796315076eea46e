"""Claims about how old data are when they come."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from clmer_server.arrival import Arrival
from clmer_streaming.types import Chunk, Tick
from signals import EEG_INFO, face


def test_the_newest_sample_of_eeg_and_the_newest_frame_count() -> None:
    """Another stream's samples, ticks and an empty chunk say nothing."""
    arrival = Arrival()
    assert math.isnan(arrival.eeg_s)
    other = dataclasses.replace(EEG_INFO, source="motion", kind="other")
    for item in (EEG_INFO, other, Chunk(EEG_INFO.source, np.array([1.0, 2.0]), np.zeros((1, 2)))):
        arrival.take(item, 2.25)
    for ignored in (
        Chunk("motion", np.array([9.0]), np.zeros((1, 1))),
        Tick(9.0, EEG_INFO.source),
        Chunk(EEG_INFO.source, np.empty(0), np.zeros((1, 0))),
    ):
        arrival.take(ignored, 10.0)
    assert arrival.eeg_s == 0.25
    assert math.isnan(arrival.face_s)
    arrival.take(face(3.0), 3.5)
    assert (arrival.eeg_s, arrival.face_s) == (0.25, 0.5)
