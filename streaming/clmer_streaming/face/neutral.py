"""The face without expression, which action units are measured against: of an average person, or of this one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import norm

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
"""The average neutral face of five people, seen through this reference mesh; the furrow is of five others."""

PRIOR_SD = FaceFeatures(
    brow_inner=0.037, brow_outer=0.030, brow_mid=0.037, brow_gap=0.016, lid_upper=0.010, lid_lower=0.004,
    eye_open=0.033, cheek=0.021, nostril=0.032, upper_lip=0.017, corner_up=0.051, corner_out=0.020,
    corner_forward=0.021, corner_over_lips=0.022, lip_thickness=0.024, chin=0.043, lower_lip=0.020,
    lip_to_chin=0.036, lip_gap=0.044, brow_furrow=0.003,
)  # fmt: skip
"""How far neutral faces differ between people, standard deviation."""

NEUTRAL_QUANTILE = FaceFeatures(*(0.7 if name in ("eye_open", "lid_upper") else 0.5 for name in FaceFeatures._fields))
"""Which quantile of a person's frames is neutral: the median, but blinks bias that of the open eye."""


@dataclass(frozen=True)
class NeutralFace:
    """One person's neutral face, as measured on purpose; kept from session to session."""

    features: FaceFeatures
    pitch: float  # rad, of the head while it was measured
    yaw: float  # rad
    shape: tuple[float, ...]  # whose face it is; see identity.py
    n_frames: int  # that it was measured on
    extractor: str = EXTRACTOR_ID

    def to_json(self) -> str:
        """Return the neutral face as JSON text."""
        return json.dumps({**asdict(self), "features": self.features._asdict()}, indent=2)

    @classmethod
    def from_json(cls, text: str, extractor: str = EXTRACTOR_ID) -> NeutralFace:
        """Return the neutral face that ``to_json`` wrote.

        Args:
            text: What it wrote.
            extractor: What will read the face that is compared with it.

        Raises:
            SettingsError: The text is no neutral face, or another extractor measured it.
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
    """What a frame is compared with."""

    features: FaceFeatures
    pitch: float  # rad, of the head in the frames that the features come from
    yaw: float  # rad
    calibration: FaceCalibration


PRIOR_BASELINE = Baseline(features=PRIOR_MEAN, pitch=0.0, yaw=0.0, calibration="prior")
"""The average person, looking into the camera."""


def measured_neutral(
    frames: Sequence[FaceFeatures], poses: Sequence[tuple[float, float]], shapes: Sequence[FloatArray]
) -> NeutralFace:
    """Return the neutral face that frames of a person at rest show.

    Args:
        frames: Features of at least one frame.
        poses: Pitch and yaw of each in rad.
        shapes: Shape of the rigid part of each, (k,).
    """
    values = np.array(frames)
    neutral = [float(np.quantile(column, q)) for column, q in zip(values.T, NEUTRAL_QUANTILE, strict=True)]
    pitch, yaw = np.median(np.array(poses), axis=0).tolist()
    shape = np.median(np.array(shapes), axis=0)
    return NeutralFace(FaceFeatures(*neutral), pitch, yaw, tuple(shape.tolist()), len(frames))


PRIOR_WEIGHT = 90.0
"""Frames that the prior counts as: three seconds of a webcam."""

BIN = 0.001  # width of a histogram's bin; the finest full scale of an action unit is .025
HALF_RANGE = 0.25  # features are counted this far from the prior's mean: five standard deviations of the widest
MAX_LIP_GAP, MAX_CORNER_RISE, MAX_CORNER_WIDENING = 0.06, 0.035, 0.03
"""A frame counts as quiet below these; the last two are against the neutral so far."""

_POSE_HALF_RANGE = 0.8  # rad
_POSE_SD = 0.1  # rad, of how people sit before a camera
_N_BINS = round(2 * HALF_RANGE / BIN)
_CENTRE = np.array([*PRIOR_MEAN, 0.0, 0.0])  # of each histogram: features, pitch, yaw
_WIDTH = np.array([BIN] * N_FEATURES + [2 * _POSE_HALF_RANGE / _N_BINS] * 2)
_SD = np.array([*PRIOR_SD, _POSE_SD, _POSE_SD])
_QUANTILE = np.array([*NEUTRAL_QUANTILE, 0.5, 0.5])
_ROWS = np.arange(N_FEATURES + 2)


def _prior_histogram() -> FloatArray:
    """Return the prior's pseudo-frames, (N_FEATURES + 2, _N_BINS).

    Each row is a normal distribution that has the prior's mean at the quantile that is taken for neutral.
    """
    edges = (np.arange(_N_BINS + 1) - _N_BINS / 2) * _WIDTH[:, None]
    shares = np.diff(norm.cdf(edges / _SD[:, None] + norm.ppf(_QUANTILE)[:, None]), axis=1)
    counts: FloatArray = PRIOR_WEIGHT * shares / shares.sum(axis=1, keepdims=True)
    return counts


class RunningNeutral:
    """The quantiles of the quiet frames so far, and of the pseudo-frames that stand for the average person.

    Histograms keep them, so that memory stays the same however long a session is.
    """

    def __init__(self) -> None:
        self._prior = _prior_histogram()
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        self.n_frames = 0
        self._counts = self._prior.copy()
        self._update()

    def push(self, features: FaceFeatures, pitch: float, yaw: float) -> None:
        """Learn from a frame, if its face is quiet: a smile or an open mouth must not become neutral."""
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
        """Read each row's quantile off its histogram, straight lines within a bin."""
        below = np.cumsum(self._counts, axis=1)
        wanted = _QUANTILE * below[:, -1]
        bins = np.argmax(below >= wanted[:, None], axis=1)
        inside = self._counts[_ROWS, bins]
        share = 1.0 - (below[_ROWS, bins] - wanted) / inside
        *features, pitch, yaw = (_CENTRE + (bins + share - _N_BINS / 2) * _WIDTH).tolist()
        self.baseline = Baseline(FaceFeatures(*features), pitch, yaw, "running" if self.n_frames else "prior")


_FROM = [168, 168, 10, 21]  # bridge to the nose's tip, to its base; forehead to bridge; temple to temple
_TO = [4, 2, 168, 251]
_EYES = (33, 263)
_SHAPE_SD = np.array([0.019, 0.019, 0.018, 0.033])  # of each ratio within a person who talks and turns

SAME_PERSON = 2.0
"""Proportions that differ by more than this belong to two people."""

N_TRIAL = 8
"""Frames that are looked at before a face that was found again is judged."""


def face_shape(points: FloatArray) -> FloatArray:
    """Return four lengths of an aligned mesh (478, 3), over the distance between the outer eye corners, (4,)."""
    lengths = np.linalg.norm(points[_FROM] - points[_TO], axis=1)
    shape: FloatArray = lengths / math.dist(points[_EYES[0]], points[_EYES[1]])
    return shape


def shape_distance(a: FloatArray, b: FloatArray) -> float:
    """Return how far two shapes (4,) lie apart: root mean square of the differences, in SDs within a person."""
    return float(np.sqrt(np.mean(((a - b) / _SHAPE_SD) ** 2)))


class PersonWatch:
    """Tells, some frames after a face was found again, whether the person has changed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        self._known = np.zeros(_SHAPE_SD.size)  # sum of the shapes of n_known frames
        self._n_known = 0
        self._trial: list[FloatArray] | None = None  # shapes since the face was found; None: judged

    @property
    def on_trial(self) -> bool:
        """Whether it is not yet known who this is."""
        return self._trial is not None

    @property
    def shape(self) -> FloatArray:
        """The mean shape (4,) of the present person; zeros before anyone was judged."""
        return self._known / max(self._n_known, 1)

    def push(self, shape: FloatArray, found_again: bool) -> bool:
        """Take the next frame's shape (4,); return True if this frame settles that the person has changed."""
        if found_again:
            self._trial = []
        if self._trial is None:
            self._known += shape
            self._n_known += 1
            return False
        self._trial.append(shape)
        return len(self._trial) >= N_TRIAL and self._judge(self._trial)

    def _judge(self, trial: list[FloatArray]) -> bool:
        seen = np.sum(trial, axis=0)
        changed = self._n_known > 0 and shape_distance(seen / len(trial), self.shape) > SAME_PERSON
        if changed:
            self._known, self._n_known = np.zeros_like(seen), 0
        self._known = self._known + seen
        self._n_known += len(trial)
        self._trial = None
        return changed


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
