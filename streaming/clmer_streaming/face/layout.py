"""The channel layout of a ``CLMER-Face`` stream, and the conversion between its rows and FaceSamples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clmer_streaming.types import FACE_CALIBRATIONS, FaceFlag, FaceSample, FloatArray

FACE_SOURCE = "face"
"""Source key of the faces."""

N_LANDMARKS = 68
"""Landmarks of a face, in the order of iBUG 300-W (Sagonas et al. 2013)."""

AU_NAMES = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12",
    "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45",
)  # fmt: skip
"""The 17 action units of FACS (Ekman, Friesen and Hager 2002) that OpenFace measures; the order of every ``aus``."""

EXTRACTOR_ID = "clmer-face-2"
"""Id of this project's face extractor; it changes with any change of the extractor's numbers."""

OPENFACE_EXTRACTOR_ID = "openface-2.2"
"""Id of the extractor whose numbers OpenFace 2.2 writes."""

FACE_CH_NAMES: tuple[str, ...] = (
    *(f"LM{i:02d}_{axis}" for i in range(N_LANDMARKS) for axis in "XYZ"),
    *(f"{au}_r" for au in AU_NAMES),
    *(f"{au}_c" for au in AU_NAMES),
    "GAZE_X", "GAZE_Y",
    "POSE_TX", "POSE_TY", "POSE_TZ", "POSE_PITCH", "POSE_YAW", "POSE_ROLL",
    "QUALITY", "FLAGS", "CALIBRATION",
)  # fmt: skip
"""Labels of the 249 channels of a ``CLMER-Face`` stream, in order."""

_N_AU = len(AU_NAMES)
_LM_END = 3 * N_LANDMARKS
_AU_R_END = _LM_END + _N_AU
_AU_C_END = _AU_R_END + _N_AU
_GAZE_END = _AU_C_END + 2
_POSE_END = _GAZE_END + 6


def face_to_row(sample: FaceSample) -> npt.NDArray[np.float32]:
    """Return a sample as one row of a ``CLMER-Face`` stream: (249,) float32, in the order of FACE_CH_NAMES."""
    tail = [sample.quality, float(sample.flags), float(FACE_CALIBRATIONS.index(sample.calibration))]
    parts = (sample.landmarks.ravel(), sample.aus[:, 0], sample.aus[:, 1], sample.gaze, sample.pose, tail)
    return np.concatenate(parts).astype(np.float32)


def row_to_face(t: float, row: FloatArray | npt.NDArray[np.float32], source: str = FACE_SOURCE) -> FaceSample:
    """Return the FaceSample of one row of a ``CLMER-Face`` stream.

    A row whose flags or calibration are not numbers is a frame without a face.

    Args:
        t: Stamp in seconds.
        row: (249,) in the order of FACE_CH_NAMES.
        source: Source key of the sample.
    """
    values = np.array(row, dtype=np.float64)  # one copy; the parts are views of it
    quality, flags, calibration = values[_POSE_END : _POSE_END + 3].tolist()
    known = math.isfinite(flags) and math.isfinite(calibration) and 0 <= calibration < len(FACE_CALIBRATIONS)
    return FaceSample(
        t=float(t),
        landmarks=values[:_LM_END].reshape(N_LANDMARKS, 3),
        aus=values[_LM_END:_AU_C_END].reshape(2, -1).T,
        gaze=values[_AU_C_END:_GAZE_END],
        pose=values[_GAZE_END:_POSE_END],
        quality=quality if math.isfinite(quality) else 0.0,
        flags=FaceFlag(int(flags) & 0xFF) if known else FaceFlag.MISSING,
        calibration=FACE_CALIBRATIONS[int(calibration)] if known else "none",
        source=source,
    )


def is_clmer_face(ch_names: Sequence[str]) -> bool:
    """Return whether channel labels are those of a ``CLMER-Face`` stream."""
    return tuple(ch_names) == FACE_CH_NAMES
