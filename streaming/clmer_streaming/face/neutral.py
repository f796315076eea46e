"""The neutral face, which action units are measured against: an average one, a running one, or a measured one.

``NeutralCalibration`` chooses between the three for the present person. ``NeutralFace`` is the result of an explicit
calibration; ``RunningNeutral`` learns from quiet frames, starting from the average person (``PRIOR_MEAN``).
``PersonChangeDetector`` tells when another person sits down.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.action_units import N_FEATURES, FaceFeatures
from clmer_streaming.face.layout import EXTRACTOR_ID
from clmer_streaming.types import FaceCalibration, FloatArray

PRIOR_MEAN = FaceFeatures(
    brow_inner=0.224, brow_outer=0.199, brow_mid=0.253, brow_gap=0.319, lid_upper=0.051, lid_lower=-0.041,
    eye_open=0.301, cheek=-0.301, nostril=-0.453, upper_lip=-0.164, corner_up=-0.766, corner_out=0.279,
    corner_forward=0.016, corner_over_lips=0.004, lip_thickness=0.220, chin=-1.249, lower_lip=-0.904,
    lip_to_chin=0.365, lip_gap=0.029, brow_furrow=0.005,
)  # fmt: skip
"""Mean neutral face of five people, aligned to the reference mesh; the furrow is that of five other people."""

PRIOR_SD = FaceFeatures(
    brow_inner=0.037, brow_outer=0.030, brow_mid=0.037, brow_gap=0.016, lid_upper=0.010, lid_lower=0.004,
    eye_open=0.033, cheek=0.021, nostril=0.032, upper_lip=0.017, corner_up=0.051, corner_out=0.020,
    corner_forward=0.021, corner_over_lips=0.022, lip_thickness=0.024, chin=0.043, lower_lip=0.020,
    lip_to_chin=0.036, lip_gap=0.044, brow_furrow=0.003,
)  # fmt: skip
"""Standard deviation of neutral faces between people."""

NEUTRAL_QUANTILE = FaceFeatures(*(0.7 if name in ("eye_open", "lid_upper") else 0.5 for name in FaceFeatures._fields))
"""Quantile of a person's frames that is neutral: the median, but more for open eyes, which blinks bias."""


@dataclass(frozen=True)
class NeutralFace:
    """One person's neutral face from an explicit calibration; stored from session to session as JSON."""

    features: FaceFeatures
    pitch: float  # rad, of the head while it was measured
    yaw: float  # rad
    shape: tuple[float, ...]  # proportions of the face, by which the person is recognized; see ``face_shape``
    n_frames: int  # number of frames that it was measured on
    extractor: str = EXTRACTOR_ID

    def to_json(self) -> str:
        """Return the neutral face as JSON text."""
        return json.dumps({**asdict(self), "features": self.features._asdict()}, indent=2)

    @classmethod
    def from_json(cls, text: str, extractor: str = EXTRACTOR_ID) -> NeutralFace:
        """Return the neutral face of a JSON text.

        Args:
            text: Output of ``to_json``.
            extractor: Id of the extractor whose faces will be compared with it.

        Raises:
            SettingsError: The text is not a neutral face, or another extractor measured it.
        """
        try:
            plain = json.loads(text)
            features = FaceFeatures(**{name: float(value) for name, value in plain.pop("features").items()})
            shape = tuple(float(value) for value in plain.pop("shape"))
            face = cls(features=features, shape=shape, **plain)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unusable(extractor, f"{error} in {text[:60]!r}") from error
        if face.extractor != extractor:
            raise _unusable(extractor, f"one measured by {face.extractor!r}")
        return face


def _unusable(extractor: str, found: str) -> SettingsError:
    return SettingsError(
        expected=f"a neutral face measured by {extractor!r}",
        found=found,
        mend="measure it again with clmer calibrate, with the same --face-landmarker or none",
    )


@dataclass(frozen=True, slots=True)
class Baseline:
    """The neutral face that a frame is compared with."""

    features: FaceFeatures
    pitch: float  # rad, pose of the head in the frames that the features come from
    yaw: float  # rad
    calibration: FaceCalibration


PRIOR_BASELINE = Baseline(features=PRIOR_MEAN, pitch=0.0, yaw=0.0, calibration="prior")
"""The average person, looking into the camera."""


def measured_neutral(
    frames: Sequence[FaceFeatures], poses: Sequence[tuple[float, float]], shapes: Sequence[FloatArray]
) -> NeutralFace:
    """Return the neutral face of a person from frames at rest.

    Args:
        frames: Features of at least one frame.
        poses: Pitch and yaw of each frame in rad.
        shapes: ``face_shape`` of each frame, (4,).
    """
    values = np.array(frames)
    neutral = [float(np.quantile(column, q)) for column, q in zip(values.T, NEUTRAL_QUANTILE, strict=True)]
    pitch, yaw = np.median(np.array(poses), axis=0).tolist()
    shape = np.median(np.array(shapes), axis=0)
    return NeutralFace(FaceFeatures(*neutral), pitch, yaw, tuple(shape.tolist()), len(frames))


PRIOR_WEIGHT = 90.0
"""Weight of the prior in frames: three seconds of a webcam."""

BIN = 0.001  # width of a bin of a histogram; the smallest full scale of an action unit is .025
HALF_RANGE = 0.25  # range of a histogram on both sides of the prior's mean: five SD of the widest feature
MAX_LIP_GAP, MAX_CORNER_RISE, MAX_CORNER_WIDENING = 0.06, 0.035, 0.03
"""Limits of a quiet frame, in eye distances; the last two are relative to the running neutral face."""

_POSE_HALF_RANGE = 0.8  # rad
_POSE_SD = 0.1  # rad, SD of the pose in front of a camera
_N_BINS = round(2 * HALF_RANGE / BIN)
_CENTRE = np.array([*PRIOR_MEAN, 0.0, 0.0])  # of each histogram: features, pitch, yaw
_WIDTH = np.array([BIN] * N_FEATURES + [2 * _POSE_HALF_RANGE / _N_BINS] * 2)
_SD = np.array([*PRIOR_SD, _POSE_SD, _POSE_SD])
_QUANTILE = np.array([*NEUTRAL_QUANTILE, 0.5, 0.5])
_ROWS = np.arange(N_FEATURES + 2)


def _prior_histogram() -> FloatArray:
    """Return the histograms of the prior's pseudo-frames, (N_FEATURES + 2, _N_BINS).

    Each row is a normal distribution whose neutral quantile is the prior's mean.
    """
    edges = (np.arange(_N_BINS + 1) - _N_BINS / 2) * _WIDTH[:, None]
    shares = np.diff(ndtr(edges / _SD[:, None] + ndtri(_QUANTILE)[:, None]), axis=1)
    counts: FloatArray = PRIOR_WEIGHT * shares / shares.sum(axis=1, keepdims=True)
    return counts


class RunningNeutral:
    """The running neutral face: quantiles of the quiet frames so far and of the prior's pseudo-frames.

    They are kept as histograms, so that memory does not grow with the length of a session.

    Attributes:
        baseline: The neutral face now.
        n_frames: Quiet frames so far.
    """

    def __init__(self) -> None:
        self._prior = _prior_histogram()
        self.reset()

    def reset(self) -> None:
        """Start again from the prior."""
        self.n_frames = 0
        self._counts = self._prior.copy()
        self._update()

    def push(self, features: FaceFeatures, pitch: float, yaw: float) -> None:
        """Add a frame if its face is quiet: a smile or an open mouth must not become neutral."""
        if not self._is_quiet(features):
            return
        place = (np.array([*features, pitch, yaw]) - _CENTRE) / _WIDTH + _N_BINS / 2
        self._counts[_ROWS, np.clip(place.astype(np.intp), 0, _N_BINS - 1)] += 1.0
        self.n_frames += 1
        self._update()

    def _is_quiet(self, features: FaceFeatures) -> bool:
        neutral = self.baseline.features
        return (
            features.lip_gap < MAX_LIP_GAP
            and features.corner_over_lips - neutral.corner_over_lips < MAX_CORNER_RISE
            and features.corner_out - neutral.corner_out < MAX_CORNER_WIDENING
        )

    def _update(self) -> None:
        """Compute the quantile of each histogram, linear within a bin."""
        below = np.cumsum(self._counts, axis=1)
        wanted = _QUANTILE * below[:, -1]
        bins = np.argmax(below >= wanted[:, None], axis=1)
        inside = self._counts[_ROWS, bins]
        share = 1.0 - (below[_ROWS, bins] - wanted) / inside
        *features, pitch, yaw = (_CENTRE + (bins + share - _N_BINS / 2) * _WIDTH).tolist()
        self.baseline = Baseline(FaceFeatures(*features), pitch, yaw, "running" if self.n_frames else "prior")


_FROM = [168, 168, 10, 21]  # nose's bridge to its tip and to its base; forehead to bridge; temple to temple
_TO = [4, 2, 168, 251]
_EYES = (33, 263)
_SHAPE_SD = np.array([0.019, 0.019, 0.018, 0.033])  # SD of each ratio within a person who talks and turns

SAME_PERSON = 2.0
"""Largest ``shape_distance`` between two faces of one person."""

N_TRIAL = 8
"""Frames after which it is decided whether a face that was found again belongs to another person."""


def face_shape(points: FloatArray) -> FloatArray:
    """Return four rigid lengths of an aligned mesh (478, 3) in units of the outer eye corners' distance, (4,)."""
    lengths = np.linalg.norm(points[_FROM] - points[_TO], axis=1)
    shape: FloatArray = lengths / math.dist(points[_EYES[0]], points[_EYES[1]])
    return shape


def shape_distance(a: FloatArray, b: FloatArray) -> float:
    """Return the root mean square difference of two shapes (4,), in standard deviations within a person."""
    return float(np.sqrt(np.mean(((a - b) / _SHAPE_SD) ** 2)))


class PersonChangeDetector:
    """Decides, some frames after a face was found again, whether it is another person's."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Return to the initial state."""
        self._sum = np.zeros(_SHAPE_SD.size)  # of the shapes of the present person's frames
        self._n_frames = 0
        self._candidate: list[FloatArray] | None = None  # shapes since the face was found; None: decided

    @property
    def undecided(self) -> bool:
        """Whether it is not decided yet who this is."""
        return self._candidate is not None

    @property
    def shape(self) -> FloatArray:
        """Mean shape (4,) of the present person; zeros before the first decision."""
        return self._sum / max(self._n_frames, 1)

    def push(self, shape: FloatArray, found_again: bool) -> bool:
        """Add the shape (4,) of the next frame; return True if it is decided now that the person has changed."""
        if found_again:
            self._candidate = []
        if self._candidate is None:
            self._sum += shape
            self._n_frames += 1
            return False
        self._candidate.append(shape)
        return len(self._candidate) >= N_TRIAL and self._decide(self._candidate)

    def _decide(self, candidate: list[FloatArray]) -> bool:
        total = np.sum(candidate, axis=0)
        changed = self._n_frames > 0 and shape_distance(total / len(candidate), self.shape) > SAME_PERSON
        if changed:
            self._sum, self._n_frames = np.zeros_like(total), 0
        self._sum = self._sum + total
        self._n_frames += len(candidate)
        self._candidate = None
        return changed


NeutralMode: TypeAlias = Literal["running", "prior", "none"]
"""Neutral face without an explicit calibration: the running one, the average person's, or none."""

MIN_FRAMES = 10
"""Good frames that an explicit calibration needs; with fewer the neutral face is unchanged."""


@dataclass
class _Collection:
    """The frames of a running explicit calibration."""

    t_end: float  # seconds
    frames: list[FaceFeatures] = field(default_factory=list)
    poses: list[tuple[float, float]] = field(default_factory=list)  # pitch and yaw, rad
    shapes: list[FloatArray] = field(default_factory=list)


class NeutralCalibration:
    """The neutral face of the person in front of the camera.

    Args:
        mode: The neutral face without an explicit calibration.
        neutral_face: Result of an earlier explicit calibration of the same person; None: there is none.

    Attributes:
        neutral_face: Result of the last explicit calibration, or the one given.
    """

    def __init__(self, mode: NeutralMode, neutral_face: NeutralFace | None = None) -> None:
        self._mode = mode
        self._given = neutral_face
        self._running = RunningNeutral()
        self.reset()

    def reset(self) -> None:
        """Return to the initial state."""
        self._running.reset()
        self._collection: _Collection | None = None
        self.neutral_face = self._given
        self._explicit = self._given is not None  # whether ``neutral_face`` is the present person's
        self._before = self.neutral_face, self._explicit  # both, before the last explicit calibration

    @property
    def baseline(self) -> Baseline | None:
        """The neutral face in force; None in mode "none" without an explicit calibration."""
        if self._explicit and self.neutral_face is not None:
            face = self.neutral_face
            return Baseline(face.features, face.pitch, face.yaw, "explicit")
        return {"running": self._running.baseline, "prior": PRIOR_BASELINE, "none": None}[self._mode]

    @property
    def state(self) -> FaceCalibration:
        """The kind of neutral face in force."""
        return "none" if self.baseline is None else self.baseline.calibration

    @property
    def collecting(self) -> bool:
        """Whether an explicit calibration is running."""
        return self._collection is not None

    def begin(self, t: float, seconds: float) -> None:
        """Start an explicit calibration on the good frames from ``t`` until ``seconds`` later."""
        self._collection = _Collection(t_end=t + seconds)

    def cancel(self) -> None:
        """Cancel a running explicit calibration; the neutral face in force is unchanged."""
        self._collection = None

    def revert(self) -> None:
        """Restore what was in force before the last explicit calibration."""
        self.neutral_face, self._explicit = self._before

    def tick(self, t: float) -> None:
        """End an explicit calibration whose time is over at ``t`` seconds."""
        collection = self._collection
        if collection is None or t < collection.t_end:
            return
        self._collection = None
        if len(collection.frames) >= MIN_FRAMES:
            self._before = self.neutral_face, self._explicit
            self.neutral_face = measured_neutral(collection.frames, collection.poses, collection.shapes)
            self._explicit = True

    def push(self, features: FaceFeatures, pitch: float, yaw: float, shape: FloatArray) -> None:
        """Add a good frame of the present person.

        Args:
            features: Of the frame.
            pitch: Of the head in rad.
            yaw: Of the head in rad.
            shape: ``face_shape`` of the frame, (4,).
        """
        if self._collection is not None:
            self._collection.frames.append(features)
            self._collection.poses.append((pitch, yaw))
            self._collection.shapes.append(shape)
        if self._mode == "running":
            self._running.push(features, pitch, yaw)

    def change_person(self, shape: FloatArray) -> None:
        """Start again with a person of this shape (4,); an explicit calibration is kept for its own person."""
        self._running.reset()
        self._collection = None
        if self.neutral_face is not None:
            self._explicit = shape_distance(np.array(self.neutral_face.shape), shape) <= SAME_PERSON
