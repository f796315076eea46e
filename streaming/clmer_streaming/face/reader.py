"""From a face mesh to everything CLMER says about a face: landmarks, action units, gaze, pose, quality."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clmer_streaming.face.action_units import CausalMean, FaceFeatures, Presence, face_features, intensities
from clmer_streaming.face.geometry import (
    EYE_DISTANCE_CM,
    AlignedFace,
    MeshFrame,
    align,
    gaze_angles,
    head_pose,
    landmarks_68,
    straight_ahead,
    straightened,
    viewing_ray,
)
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.face.neutral import PRIOR_BASELINE, Calibration, NeutralFace, NeutralMode, PersonWatch, face_shape
from clmer_streaming.types import FaceCalibration, FaceFlag, FaceSample, FloatArray

PRESENCE = (0.5, 0.9)  # the score is 1.000 nearly always; below .9 something covers the face
WIDTH_PX = (10.0, 50.0)  # temple to temple; FaceMesh looks at 192 pixels, fewer are stretched
SHARPNESS = (3.0, 12.0)  # variance of the Laplacian at the luma of a well lit face
LUMA = (3.0, 25.0)  # of 255
RESIDUAL_CM = (0.6, 0.4)  # of the rigid vertices; .13 to .33 on sample videos
TURN_RAD = (math.radians(45.0), math.radians(15.0))  # from 15 degrees on the turn leaks into the action units
"""Of each measure, where it costs all quality, and from where on it costs none. Between them lies a straight line.

Width, sharpness and luma were set by spoiling a sample video: a mouth's width is .02 of the eye distance off (half a
point of AU12) at a sharpness of 8 or a luma of 5, and .008 off at a width of 27 pixels.
"""

SMALL_PX = 40.0
TURNED_RAD = math.radians(30.0)
BLURRED_BELOW = 8.0
DARK_BELOW = 20.0
WELL_LIT_LUMA = 120.0
RESET_SHARE = 0.7  # of the quality that a frame keeps whose face has just been found

_TEMPLES_CM = 1.52 * EYE_DISTANCE_CM  # between vertices 127 and 356 of the reference mesh


def face_width_px(face: AlignedFace) -> float:
    """Return the width of the face from temple to temple in pixels, as it would be without the head's turn."""
    return face.head.scale * _TEMPLES_CM


def face_quality(frame: MeshFrame, face: AlignedFace, turn: float, found_again: bool) -> tuple[float, FaceFlag]:
    """Return the quality 0-1 and the flags of a frame that shows a face.

    The quality is the product of one share for each measure; any one of them can spoil a frame.

    Args:
        frame: The face mesh.
        face: The same, aligned.
        turn: Of the head, away from the camera or from the pose of the neutral face, whichever is more, rad.
        found_again: Whether the face was not tracked up to this frame.
    """
    width = face_width_px(face)
    sharpness = frame.sharpness * (WELL_LIT_LUMA / max(frame.luma, 1.0)) ** 2  # contrast goes with the light
    shares = (
        1.0 if frame.presence is None else _share(frame.presence, PRESENCE),
        _share(width, WIDTH_PX),
        _share(sharpness, SHARPNESS),
        _share(frame.luma, LUMA),
        _share(face.residual_cm, RESIDUAL_CM),
        _share(turn, TURN_RAD),
        RESET_SHARE if found_again else 1.0,
    )
    wrong = {
        FaceFlag.RESET: found_again,
        FaceFlag.MULTIPLE: frame.n_faces > 1,
        FaceFlag.SMALL: width < SMALL_PX,
        FaceFlag.TURNED: turn > TURNED_RAD,
        FaceFlag.BLURRED: sharpness < BLURRED_BELOW,
        FaceFlag.DARK: frame.luma < DARK_BELOW,
    }
    flags = FaceFlag.NONE
    for flag, is_so in wrong.items():
        flags |= flag if is_so else FaceFlag.NONE
    return math.prod(shares), flags


def _share(value: float, bounds: tuple[float, float]) -> float:
    """Return 0 at the first bound, 1 at the second, a straight line between them; 0 for NaN."""
    none, full = bounds
    share = (value - none) / (full - none)
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0


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
