"""The face without expression, which action units are measured against: of an average person, or of this one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.features import FaceFeatures
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
