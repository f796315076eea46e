"""From a face mesh to everything CLMER says about a face: landmarks, action units, gaze, pose, quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.face.action_units import intensities
from clmer_streaming.face.alignment import AlignedFace, align
from clmer_streaming.face.calibration import Calibration, NeutralMode
from clmer_streaming.face.features import FaceFeatures, face_features
from clmer_streaming.face.gaze import gaze_angles, straight_ahead
from clmer_streaming.face.identity import PersonWatch, face_shape
from clmer_streaming.face.landmarks import landmarks_68
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.face.neutral import PRIOR_BASELINE, NeutralFace
from clmer_streaming.face.pose import head_pose, straightened, viewing_ray
from clmer_streaming.face.presence import Presence
from clmer_streaming.face.quality import face_quality
from clmer_streaming.face.smoothing import CausalMean
from clmer_streaming.types import FaceCalibration, FaceFlag, FaceSample, FloatArray

_PITCH, _YAW = 3, 4  # in a pose


@dataclass(frozen=True)
class FaceReaderConfig:
    """How faces are read."""

    neutral: NeutralMode = "running"  # what serves for neutral where none was measured on purpose
    min_learning_quality: float = 0.5  # 0-1; frames below it teach nothing about the person
    gaze_hold: float = 0.5  # share by which the eyes are closed from which on the gaze stays as it was
    source: str = "face"  # the name that the samples carry


class FaceReader:
    """Turns the frames of one camera or video into face samples: the same frames give the same bits.

    Args:
        config: How to read.
        neutral: The face of the person who will sit there, if it was measured.
    """

    def __init__(self, config: FaceReaderConfig | None = None, neutral: NeutralFace | None = None) -> None:
        self._config = config or FaceReaderConfig()
        self._calibration = Calibration(self._config.neutral, neutral)
        self._person = PersonWatch()
        self._mean = CausalMean()
        self._presence = Presence()
        self._lost = True
        self._gaze: FloatArray | None = None  # of the last frame with open eyes
        self.reset()

    def reset(self) -> None:
        """Forget every frame and every person, as if newly made."""
        self._calibration.reset()
        self._person.reset()
        self._lose()

    @property
    def calibration(self) -> FaceCalibration:
        """Which neutral face the next frame will be measured against."""
        return self._calibration.state

    @property
    def calibrating(self) -> bool:
        """Whether a neutral face is being measured on purpose."""
        return self._calibration.collecting

    @property
    def neutral_face(self) -> NeutralFace | None:
        """The neutral face that was measured on purpose, or given; None without one."""
        return self._calibration.neutral_face

    def begin_calibration(self, t: float, seconds: float = 3.0) -> None:
        """Measure the neutral face on the good frames of the next seconds.

        ``calibrating`` becomes False with the first frame after them. ``neutral_face`` is then the new one; it
        stays what it was if fewer than ten frames were good.

        Args:
            t: Time of the beginning in seconds, on the clock of the frames.
            seconds: How long to measure.
        """
        self._calibration.begin(t, seconds)

    def give_calibration_up(self) -> None:
        """Forget a measurement that is under way."""
        self._calibration.give_up()

    def take_calibration_back(self) -> None:
        """Let the neutral face be in force again that was before the newest measurement."""
        self._calibration.take_back()

    def read(self, t: float, frame: MeshFrame | None) -> FaceSample:
        """Return what the frame of time ``t`` in seconds shows; without a face, every number is NaN."""
        self._calibration.tick(t)
        face = None if frame is None else align(frame)
        if frame is None or face is None:
            self._lose()
            return self._missing(t)
        found_again = frame.reset or self._lost
        if found_again:
            self._lose()
        self._lost = False
        return self._read_face(t, frame, face, found_again)

    def _read_face(self, t: float, frame: MeshFrame, face: AlignedFace, found_again: bool) -> FaceSample:
        shape = face_shape(face.points)
        if self._person.push(shape, found_again):
            self._calibration.change_person(self._person.shape)
        features = face_features(face.points, frame.brow_furrow)
        rotation = straightened(face.head.rotation, viewing_ray(frame))
        pose = head_pose(face, frame, rotation)
        pitch, yaw = float(pose[_PITCH]), float(pose[_YAW])
        quality, flags = face_quality(frame, face, self._turn(pitch, yaw), found_again)
        sample = FaceSample(
            t=t,
            landmarks=_rounded(landmarks_68(face.points)),
            aus=self._action_units(t, features),
            gaze=_rounded(self._look(features, face.points, rotation)),
            pose=_rounded(pose),
            quality=float(np.float32(quality)),
            flags=flags,
            calibration=self._calibration.state,
            source=self._config.source,
        )
        if quality >= self._config.min_learning_quality and not self._person.on_trial:
            self._calibration.push(features, pitch, yaw, shape)
        return sample

    def _action_units(self, t: float, features: FaceFeatures) -> FloatArray:
        """Return intensity and presence (17, 2); NaN where there is nothing to measure against."""
        smooth = self._mean.push(t, features)
        baseline = self._calibration.baseline
        if baseline is None:
            return np.full((len(AU_NAMES), 2), np.nan)
        measured = _rounded(intensities(smooth, baseline.features))
        return np.stack([measured, self._presence.push(measured)], axis=1)

    def _turn(self, pitch: float, yaw: float) -> float:
        """Return the head's turn in rad, from the camera or from the neutral face's pose, whichever is more."""
        neutral = self._calibration.baseline or PRIOR_BASELINE
        return max(abs(yaw), abs(yaw - neutral.yaw), abs(pitch - neutral.pitch))

    def _look(self, features: FaceFeatures, points: FloatArray, rotation: FloatArray) -> FloatArray:
        """Return the gaze (2,) rad; during a blink the one before it: closed eyes hide where they look."""
        neutral = self._calibration.baseline or PRIOR_BASELINE
        closed = 1.0 - features.eye_open / neutral.features.eye_open > self._config.gaze_hold
        if not closed:
            self._gaze = gaze_angles(points, rotation)
        return straight_ahead(rotation) if self._gaze is None else self._gaze

    def _lose(self) -> None:
        """Forget what joins one frame to the next."""
        self._lost = True
        self._gaze = None
        self._mean.reset()
        self._presence.reset()

    def _missing(self, t: float) -> FaceSample:
        return FaceSample(
            t=t,
            landmarks=np.full((N_LANDMARKS, 3), np.nan),
            aus=np.full((len(AU_NAMES), 2), np.nan),
            gaze=np.full(2, np.nan),
            pose=np.full(6, np.nan),
            quality=0.0,
            flags=FaceFlag.MISSING,
            calibration=self._calibration.state,
            source=self._config.source,
        )


def _rounded(values: FloatArray) -> FloatArray:
    """Return the values rounded to float32, so that a sample survives a stream or a file with the same bits."""
    return values.astype(np.float32).astype(np.float64)
