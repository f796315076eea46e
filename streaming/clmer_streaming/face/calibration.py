"""Which neutral face is in force, and how a new one is measured on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from clmer_streaming.face.features import FaceFeatures
from clmer_streaming.face.identity import SAME_PERSON, shape_distance
from clmer_streaming.face.neutral import PRIOR_BASELINE, Baseline, NeutralFace, measured_neutral
from clmer_streaming.face.running_neutral import RunningNeutral
from clmer_streaming.types import FaceCalibration, FloatArray

NeutralMode: TypeAlias = Literal["running", "prior", "none"]
"""What serves for neutral where none was measured on purpose: the prior that learns, the prior, or nothing."""

MIN_FRAMES = 10
"""Frames that a measurement on purpose needs; with fewer it fails and what was in force stays."""


@dataclass
class _Collection:
    """A measurement that is under way."""

    t_end: float  # seconds
    frames: list[FaceFeatures] = field(default_factory=list)
    poses: list[tuple[float, float]] = field(default_factory=list)  # pitch and yaw, rad
    shapes: list[FloatArray] = field(default_factory=list)


class Calibration:
    """Holds the neutral face of the person before the camera.

    Args:
        mode: What serves where no neutral face was measured on purpose.
        neutral_face: One that was, of the person who will sit there.
    """

    def __init__(self, mode: NeutralMode, neutral_face: NeutralFace | None = None) -> None:
        self._mode = mode
        self._given = neutral_face
        self._running = RunningNeutral()
        self.reset()

    def reset(self) -> None:
        """Forget all but what the constructor was given."""
        self._running.reset()
        self._collection: _Collection | None = None
        self.neutral_face = self._given
        self._explicit = self._given is not None  # whether it is of the present person
        self._before = self.neutral_face, self._explicit  # both, before the newest measurement

    @property
    def baseline(self) -> Baseline | None:
        """What frames are compared with; None in mode "none" without a measured neutral face."""
        if self._explicit and self.neutral_face is not None:
            face = self.neutral_face
            return Baseline(face.features, face.pitch, face.yaw, "explicit")
        return {"running": self._running.baseline, "prior": PRIOR_BASELINE, "none": None}[self._mode]

    @property
    def state(self) -> FaceCalibration:
        """The name of what is in force."""
        return "none" if self.baseline is None else self.baseline.calibration

    @property
    def collecting(self) -> bool:
        """Whether a measurement on purpose is under way."""
        return self._collection is not None

    def begin(self, t: float, seconds: float) -> None:
        """Measure the neutral face on the good frames from ``t`` until ``seconds`` later."""
        self._collection = _Collection(t_end=t + seconds)

    def give_up(self) -> None:
        """Forget a measurement that is under way; what was in force stays."""
        self._collection = None

    def take_back(self) -> None:
        """Let that be in force again which was before the newest measurement."""
        self.neutral_face, self._explicit = self._before

    def tick(self, t: float) -> None:
        """End a measurement whose time is up."""
        collection = self._collection
        if collection is None or t < collection.t_end:
            return
        self._collection = None
        if len(collection.frames) >= MIN_FRAMES:
            self._before = self.neutral_face, self._explicit
            self.neutral_face = measured_neutral(collection.frames, collection.poses, collection.shapes)
            self._explicit = True

    def push(self, features: FaceFeatures, pitch: float, yaw: float, shape: FloatArray) -> None:
        """Learn from a good frame of the present person."""
        if self._collection is not None:
            self._collection.frames.append(features)
            self._collection.poses.append((pitch, yaw))
            self._collection.shapes.append(shape)
        if self._mode == "running":
            self._running.push(features, pitch, yaw)

    def change_person(self, shape: FloatArray) -> None:
        """Begin anew with another person; a neutral face measured on purpose waits for its owner."""
        self._running.reset()
        self._collection = None
        if self.neutral_face is not None:
            self._explicit = shape_distance(np.array(self.neutral_face.shape), shape) <= SAME_PERSON
