"""From face meshes to face samples: landmarks, action units, gaze, pose, and the quality of each frame.

``FaceReader`` reads the frames of one camera or video; ``face_quality`` judges one frame.
"""

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
from clmer_streaming.face.layout import AU_NAMES, FACE_SOURCE, N_LANDMARKS
from clmer_streaming.face.neutral import (
    PRIOR_BASELINE,
    NeutralCalibration,
    NeutralFace,
    NeutralMode,
    PersonChangeDetector,
    face_shape,
)
from clmer_streaming.types import FaceCalibration, FaceFlag, FaceSample, FloatArray

PRESENCE = (0.5, 0.9)  # the score is 1.000 nearly always; below .9 something covers the face
WIDTH_PX = (10.0, 50.0)  # temple to temple; FaceMesh sees 192 pixels, fewer are stretched
SHARPNESS = (3.0, 12.0)  # variance of the Laplacian at the luma of a well lit face
LUMA = (3.0, 25.0)  # of 255
RESIDUAL_CM = (0.6, 0.4)  # of the rigid vertices; .13 to .33 on sample videos
TURN_RAD = (math.radians(45.0), math.radians(15.0))  # from 15 degrees on the turn leaks into the action units
"""Bounds of each measure: quality is 0 at the first one and not reduced from the second one on, linear between them.

Those of width, sharpness and luma come from degrading a sample video: the mouth's width is .02 eye distances off (half
a point of AU12) at a sharpness of 8 or a luma of 5, and .008 off at a width of 27 pixels.
"""

SMALL_PX = 40.0  # width below which a face is flagged SMALL
TURNED_RAD = math.radians(30.0)  # turn above which it is flagged TURNED
BLURRED_BELOW = 8.0  # sharpness
DARK_BELOW = 20.0  # luma
WELL_LIT_LUMA = 120.0
RESET_SHARE = 0.7  # share of the quality that is left to a frame whose face was just found

_TEMPLES_CM = 1.52 * EYE_DISTANCE_CM  # between vertices 127 and 356 of the reference mesh


def face_width_px(face: AlignedFace) -> float:
    """Return the width of a face from temple to temple in pixels, corrected for the head's turn."""
    return face.head.scale * _TEMPLES_CM


def face_quality(frame: MeshFrame, face: AlignedFace, turn: float, found_again: bool) -> tuple[float, FaceFlag]:
    """Return the quality, 0 to 1, and the flags of a frame that shows a face.

    The quality is the product of one share for each measure, so that any single one can make it 0.

    Args:
        frame: The face mesh.
        face: The same, aligned.
        turn: Turn of the head in rad, away from the camera or from the pose of the neutral face, whichever is more.
        found_again: Whether the face was found in this frame rather than tracked.
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
    """Return 0 at the first bound, 1 at the second, linear between them; 0 for NaN."""
    none, full = bounds
    share = (value - none) / (full - none)
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0


_PITCH, _YAW = 3, 4  # indices in a pose


@dataclass(frozen=True)
class FaceReaderConfig:
    """Settings of a face reader."""

    neutral: NeutralMode = "running"  # neutral face without an explicit calibration
    min_learning_quality: float = 0.5  # 0-1; frames below it do not change the running calibration
    gaze_hold: float = 0.5  # share by which the eyes are closed from which on the gaze is held
    source: str = FACE_SOURCE  # source key of the samples


class FaceReader:
    """Makes face samples of the frames of one camera or video; the same frames give the same bits.

    Example::

        mesh, reader = FACE_MESH.open(), FaceReader()
        sample = reader.read(t, mesh.process(bgr))

    Args:
        config: How to read.
        neutral: Measured neutral face of the person, if there is one.
    """

    def __init__(self, config: FaceReaderConfig | None = None, neutral: NeutralFace | None = None) -> None:
        self._config = config or FaceReaderConfig()
        self._calibration = NeutralCalibration(self._config.neutral, neutral)
        self._person = PersonChangeDetector()
        self._mean = CausalMean()
        self._presence = Presence()
        self._lost = True  # no face in the frame before
        self._gaze: FloatArray | None = None  # (2,) rad, of the last frame with open eyes
        self.reset()

    def reset(self) -> None:
        """Return to the initial state."""
        self._calibration.reset()
        self._person.reset()
        self._lose()

    @property
    def calibration(self) -> FaceCalibration:
        """Kind of the neutral face that the next frame is measured against."""
        return self._calibration.state

    @property
    def calibrating(self) -> bool:
        """Whether an explicit calibration is running."""
        return self._calibration.collecting

    @property
    def neutral_face(self) -> NeutralFace | None:
        """The neutral face of the last explicit calibration, or the one given; None without one."""
        return self._calibration.neutral_face

    def begin_calibration(self, t: float, seconds: float = 3.0) -> None:
        """Start an explicit calibration: measure the neutral face on the good frames of the next seconds.

        ``calibrating`` becomes False with the first frame after them. ``neutral_face`` is then the measured one; it
        is unchanged if fewer than ten frames were good.

        Args:
            t: Time of the beginning in seconds, on the clock of the frames.
            seconds: How long to measure.
        """
        self._calibration.begin(t, seconds)

    def cancel_calibration(self) -> None:
        """Cancel a running explicit calibration."""
        self._calibration.cancel()

    def revert_calibration(self) -> None:
        """Restore the neutral face that was in force before the last explicit calibration."""
        self._calibration.revert()

    def read(self, t: float, frame: MeshFrame | None) -> FaceSample:
        """Return the face sample of one frame; every number is NaN without a face.

        Args:
            t: Stamp of the frame in seconds; non-decreasing from call to call.
            frame: The face mesh; None without a face.
        """
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
            gaze=_rounded(self._held_gaze(features, face.points, rotation)),
            pose=_rounded(pose),
            quality=float(np.float32(quality)),
            flags=flags,
            calibration=self._calibration.state,
            source=self._config.source,
        )
        if quality >= self._config.min_learning_quality and not self._person.undecided:
            self._calibration.push(features, pitch, yaw, shape)
        return sample

    def _action_units(self, t: float, features: FaceFeatures) -> FloatArray:
        """Return intensity and presence (17, 2); NaN without a neutral face."""
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

    def _held_gaze(self, features: FaceFeatures, points: FloatArray, rotation: FloatArray) -> FloatArray:
        """Return the gaze (2,) in rad; during a blink that of the last frame with open eyes."""
        neutral = self._calibration.baseline or PRIOR_BASELINE
        closed = 1.0 - features.eye_open / neutral.features.eye_open > self._config.gaze_hold
        if not closed:
            self._gaze = gaze_angles(points, rotation)
        return straight_ahead(rotation) if self._gaze is None else self._gaze

    def _lose(self) -> None:
        """Reset what is carried from one frame to the next."""
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
    """Return values rounded to float32, so that a sample has the same bits after a stream or a file."""
    return values.astype(np.float32).astype(np.float64)
