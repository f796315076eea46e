"""What the camera makes of the face: a ``CLMER-Face`` stream at 30 Hz, with pose, gaze, quality and losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES, N_LANDMARKS
from clmer_streaming.sources.simulation.action_units import presence
from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.expressions import MAX_INTENSITY, express
from clmer_streaming.sources.simulation.participant import Participant
from clmer_streaming.types import FACE_CALIBRATIONS, FaceFlag, FloatArray, StreamInfo

FRAME_RATE = 30.0  # Hz, nominal
FRAME_JITTER_S = 0.0008  # s, SD of a frame's stamp
LANDMARK_NOISE_CM = 0.018  # SD: 0.2 % of the distance between the outer eye corners, as a face mesh has
INTENSITY_NOISE = 0.06  # points, SD, new in every frame
INTENSITY_DRIFT, INTENSITY_DRIFT_S = 0.1, 3.0  # points and s, SD and time constant of what the neutral face is off
POSE_SD = np.array([1.2, 0.8, 2.0, 0.05, 0.08, 0.03])  # cm and rad, of slow movement
POSE_S = 6.0  # s, its time constant
POSE_LEAK = 0.05  # share of a head turn that pose normalisation leaves in the landmarks
GAZE_SD = np.array([0.12, 0.07])  # rad, of fixations: horizontal, vertical
FIXATION_S = 0.6  # s, mean
FIRM_YAW, TURNED_YAW = np.deg2rad(15.0), np.deg2rad(30.0)  # quality falls from the first, the second is flagged
LOSS_S = (0.3, 1.2)  # s without a face
_QUALITY, _FLAGS = FACE_CH_NAMES.index("QUALITY"), FACE_CH_NAMES.index("FLAGS")


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """All frames of a session."""

    t: FloatArray  # (n,) LSL seconds
    rows: npt.NDArray[np.float32]  # (n, 249) in the order of FACE_CH_NAMES


def face_stream_info(config: SimulationConfig) -> StreamInfo:
    """Return how the face stream announces itself."""
    return StreamInfo(
        source="face",
        kind="face",
        name="CLMER-Face",
        ch_names=FACE_CH_NAMES,
        sfreq=FRAME_RATE,
        source_id=f"simulated-face-{config.participant}-{config.seed}",
        hostname="simulator",
        manufacturer="CLMER",
        extractor=EXTRACTOR_ID,
        type="MoCap",
        channel_format="float32",
    )


def frame_times(config: SimulationConfig) -> FloatArray:
    """Return the even times of a session's frames, (n,) seconds since it began."""
    return np.arange(int(config.seconds * FRAME_RATE)) / FRAME_RATE


def simulate_face(config: SimulationConfig, person: Participant, intensities: FloatArray, t0: float) -> FaceTrack:
    """Return the frames of a session that began at ``t0`` with action units (17, n) at ``frame_times``."""
    rng = session_generator(config, Draw.FACE)
    n_frames = intensities.shape[1]
    pose = person.seat + POSE_SD * _wander(rng, n_frames)
    measured = _measure(rng, person, intensities)
    landmarks = express(person.neutral, intensities)
    landmarks += _pose_leak(landmarks, POSE_LEAK * (pose[:, 3:5] - person.seat[3:5]))
    landmarks += LANDMARK_NOISE_CM * rng.standard_normal(landmarks.shape)
    numbers = (landmarks.reshape(-1, 3 * N_LANDMARKS), measured.T, presence(measured).T, _gaze(rng, n_frames), pose)
    rows = np.concatenate([*numbers, _verdict(rng, pose[:, 4])], axis=1)
    _lose(rows, config, rng)
    t = t0 + frame_times(config) + rng.normal(0.0, FRAME_JITTER_S, n_frames)
    return FaceTrack(t=t, rows=rows.astype(np.float32))


def _measure(rng: np.random.Generator, person: Participant, intensities: FloatArray) -> FloatArray:
    """Return the intensities (17, n) as an extractor reads them: with its errors, noisy, rounded to float32."""
    misread = intensities + person.cross_talk @ intensities + person.neutral_offset[:, None]
    keep = np.exp(-1.0 / (INTENSITY_DRIFT_S * FRAME_RATE))
    white = rng.standard_normal(intensities.shape) * np.sqrt(1 - keep**2)
    drift = INTENSITY_DRIFT * lfilter([1.0], [1.0, -keep], white, axis=-1)
    noise = INTENSITY_NOISE * rng.standard_normal(intensities.shape)
    measured = np.clip(misread + drift + noise, 0.0, MAX_INTENSITY)
    rounded: FloatArray = measured.astype(np.float32).astype(np.float64)
    return rounded


def _wander(rng: np.random.Generator, n_frames: int) -> FloatArray:
    """Return slow noise (n, 6) of unit variance, twice smoothed so that a head has inertia."""
    keep = np.exp(-1.0 / (POSE_S * FRAME_RATE))
    soft = np.exp(-1.0 / (0.3 * FRAME_RATE))
    start = round(4 * POSE_S * FRAME_RATE)
    white = rng.standard_normal((n_frames + start, 6)) * np.sqrt(1 - keep**2)
    slow: FloatArray = lfilter([1 - soft], [1, -soft], lfilter([1.0], [1.0, -keep], white, axis=0), axis=0)[start:]
    return slow


def _pose_leak(faces: FloatArray, angles: FloatArray) -> FloatArray:
    """Return how faces (n, 68, 3) move under small rotations (n, 2) of pitch (nose down) and yaw."""
    pitch, yaw = angles[:, 0, None], angles[:, 1, None]
    x, y, z = np.moveaxis(faces, -1, 0)
    return np.stack([yaw * z, -pitch * z, pitch * y - yaw * x], axis=-1)


def _gaze(rng: np.random.Generator, n_frames: int) -> FloatArray:
    """Return gaze angles (n, 2) rad: fixations joined by jumps, and the tracker's noise."""
    n_most = int(n_frames / (FIXATION_S * FRAME_RATE) * 3) + 20
    jumps = np.cumsum(0.15 + rng.exponential(FIXATION_S - 0.15, n_most))
    targets = GAZE_SD * rng.standard_normal((n_most + 1, 2))
    fixation = np.searchsorted(jumps, np.arange(n_frames) / FRAME_RATE)
    angles: FloatArray = targets[fixation] + 0.01 * rng.standard_normal((n_frames, 2))
    return angles


def _verdict(rng: np.random.Generator, yaw: FloatArray) -> FloatArray:
    """Return quality, flags and calibration of each frame, (n, 3)."""
    turned = np.maximum(np.abs(yaw) - FIRM_YAW, 0.0) / (TURNED_YAW - FIRM_YAW)
    quality = np.clip(0.95 - 0.5 * turned + 0.015 * rng.standard_normal(yaw.size), 0.05, 1.0)
    flags = np.where(np.abs(yaw) > TURNED_YAW, float(FaceFlag.TURNED), 0.0)
    flags[:1] += float(FaceFlag.RESET)
    return np.stack([quality, flags, np.full(yaw.size, float(FACE_CALIBRATIONS.index("running")))], axis=1)


def _lose(rows: FloatArray, config: SimulationConfig, rng: np.random.Generator) -> None:
    """Take the face away for short stretches: NaN, quality 0, MISSING; the first frame after is a RESET."""
    lost = np.zeros(len(rows), dtype=bool)
    for _ in range(rng.poisson(config.effects.face_losses_per_min * config.seconds / 60)):
        first = rng.uniform(1.0, max(config.seconds, 1.0))
        lost[int(first * FRAME_RATE) : int((first + rng.uniform(*LOSS_S)) * FRAME_RATE)] = True
    found_again = np.flatnonzero(lost[:-1] & ~lost[1:]) + 1
    rows[lost, :_QUALITY] = np.nan
    rows[lost, _QUALITY] = 0.0
    rows[lost, _FLAGS] = float(FaceFlag.MISSING)
    rows[found_again, _FLAGS] += float(FaceFlag.RESET)
