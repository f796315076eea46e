"""The face of a simulated session: action units, and the ``CLMER-Face`` stream that a camera makes of them.

``simulate_action_units`` makes the true intensities from emotion, expressions, speech and blinks. ``simulate_face``
makes the stream at 30 Hz from them: landmarks, readings with the extractor's errors, pose, gaze, quality and losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtri

from clmer_streaming.face.action_units import ABSENT_BELOW, MAX_INTENSITY, PRESENT_FROM
from clmer_streaming.face.geometry import EYE_DISTANCE_CM
from clmer_streaming.face.layout import AU_NAMES, EXTRACTOR_ID, FACE_CH_NAMES, N_LANDMARKS
from clmer_streaming.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.simulation.eeg import Blinks, closure
from clmer_streaming.simulation.participant import (
    DRIVES,
    IDLE_GAINS,
    SPEECH_CLOSED,
    SPEECH_OPEN,
    Participant,
    draw_expressions,
    gain_row,
    mirrored,
)
from clmer_streaming.simulation.trials import Emotion, ar1, stimulus_offsets, structured_noise
from clmer_streaming.types import FACE_CALIBRATIONS, BoolArray, FaceFlag, FloatArray, StreamInfo

_SHIFTS: dict[str, dict[int, tuple[float, float, float]]] = {
    "AU01": {21: (0, 0.085, 0), 20: (0, 0.065, 0), 19: (0, 0.03, 0)},
    "AU02": {17: (0, 0.08, 0), 18: (0, 0.085, 0), 19: (0, 0.06, 0), 20: (0, 0.02, 0)},
    "AU04": {21: (0.024, -0.045, 0.005), 20: (0.018, -0.042, 0), 19: (0.008, -0.03, 0), 18: (0, -0.015, 0)},
    "AU05": {37: (0, 0.035, 0), 38: (0, 0.035, 0)},
    "AU06": {40: (0, 0.028, 0), 41: (0, 0.03, 0), 36: (0.004, 0, 0)},
    "AU07": {40: (0, 0.024, 0), 41: (0, 0.025, 0), 37: (0, -0.008, 0), 38: (0, -0.008, 0)},
    "AU09": {31: (-0.008, 0.045, 0), 32: (-0.004, 0.035, 0), 33: (0, 0.02, 0), 21: (0.004, -0.012, 0)},
    "AU10": {49: (0, 0.04, 0), 50: (0, 0.055, 0.004), 51: (0, 0.055, 0.004), 61: (0, 0.045, 0), 62: (0, 0.045, 0)},
    "AU12": {
        48: (-0.07, 0.075, -0.055), 60: (-0.066, 0.072, -0.05), 49: (-0.045, 0.04, -0.035), 59: (-0.045, 0.035, -0.035),
        50: (-0.016, 0.012, -0.012), 61: (-0.02, 0.014, -0.014), 58: (-0.018, 0.008, -0.014), 67: (-0.02, 0.01, -0.014),
        31: (-0.012, 0.008, 0), 4: (-0.012, 0.006, 0), 5: (-0.008, 0.004, 0),
    },
    "AU14": {48: (-0.03, 0, -0.05), 60: (-0.028, 0, -0.048), 49: (-0.012, 0, -0.02), 59: (-0.012, 0, -0.02)},
    "AU15": {48: (0.004, -0.07, 0), 60: (0.004, -0.066, 0), 49: (0, -0.025, 0), 59: (0, -0.035, 0)},
    "AU17": {
        57: (0, 0.065, 0.01), 58: (0, 0.06, 0.01), 59: (0, 0.03, 0), 66: (0, 0.012, 0), 67: (0, 0.01, 0),
        8: (0, 0.012, 0.006), 7: (0, 0.01, 0.004),
    },
    "AU20": {
        48: (-0.095, -0.012, -0.03), 60: (-0.09, -0.012, -0.028), 49: (-0.05, 0, -0.015), 59: (-0.05, -0.008, -0.015),
    },
    "AU23": {50: (0.004, -0.022, -0.006), 51: (0, -0.022, -0.006), 57: (0, 0.024, -0.006), 58: (0.004, 0.022, -0.006)},
    "AU25": {
        49: (0, 0.015, 0), 50: (0, 0.035, 0), 51: (0, 0.035, 0), 61: (0, 0.04, 0), 62: (0, 0.045, 0),
        57: (0, -0.14, 0), 58: (0, -0.13, 0), 59: (0, -0.06, 0), 66: (0, -0.165, 0), 67: (0, -0.15, 0),
        8: (0, -0.03, 0), 7: (0, -0.03, 0), 6: (0, -0.02, 0),
    },
    "AU26": {
        8: (0, -0.22, -0.03), 7: (0, -0.21, -0.03), 6: (0.003, -0.185, -0.025), 5: (0.006, -0.14, -0.02),
        4: (0.006, -0.085, -0.01), 3: (0.004, -0.035, 0), 2: (0, -0.01, 0),
        57: (0, -0.14, -0.015), 58: (0, -0.13, -0.015), 59: (0, -0.08, -0.01), 66: (0, -0.13, -0.01),
        67: (0, -0.12, -0.01), 48: (0.01, -0.035, 0), 60: (0.01, -0.035, 0),
    },
    "AU45": {37: (0, -0.072, 0), 38: (0, -0.072, 0), 40: (0, 0.008, 0), 41: (0, 0.008, 0)},
}  # fmt: skip


def expression_shifts() -> FloatArray:
    """Return the shift of every landmark per point of intensity, (17, 68, 3) cm, in the order of AU_NAMES."""
    return np.stack([mirrored(_SHIFTS[au]) for au in AU_NAMES]) * (EYE_DISTANCE_CM / MAX_INTENSITY)


def express(neutral: FloatArray, intensities: FloatArray) -> FloatArray:
    """Return the faces (n, 68, 3) cm of a neutral face (68, 3) cm with action units of intensities (17, n)."""
    shifts = expression_shifts()
    moved = intensities.T @ shifts.reshape(len(AU_NAMES), -1)
    faces: FloatArray = neutral + moved.reshape(-1, *neutral.shape)
    return faces


TRIAL_SD, SECOND_SD = 0.55, 0.83  # SD of the noise of a drive; together 1
GAIN = 1.5  # points of intensity per SD of drive above the threshold
SMOOTHING_S = 0.15  # s, time constant of muscles
SYLLABLE_HZ = 4.0  # Hz, rate at which speech opens and closes the mouth
SPEECH_AR = 0.7  # lag-1 autocorrelation of speaking, in seconds

_OWN_SHARE = 0.4  # share of a driven unit's noise (variance) that is its own


def simulate_action_units(
    config: SimulationConfig, person: Participant, emotion: Emotion, blinks: Blinks, times: FloatArray
) -> FloatArray:
    """Return the intensities (17, n), 0 to 5, at increasing, even ``times`` (n,) in seconds since the session began."""
    rng = session_generator(config, Draw.EXPRESSION)
    shared = structured_noise(rng, (len(DRIVES),), emotion, TRIAL_SD, SECOND_SD)
    own = structured_noise(rng, (len(AU_NAMES),), emotion, TRIAL_SD, SECOND_SD)
    effect = emotional_drives(config, person, emotion)
    gains = _gains_by_second(rng, person, emotion)
    by_second = np.maximum(gain_row(IDLE_GAINS)[:, None] * (own - person.threshold), 0.0)
    for drive, gain in enumerate(gains):
        noise = np.sqrt(1 - _OWN_SHARE) * shared[drive] + np.sqrt(_OWN_SHARE) * own
        by_second = np.maximum(by_second, gain * (noise + effect[drive] - person.threshold))
    moved = _follow(by_second, emotion.centres, times) * (GAIN * person.expressivity)
    moved = np.maximum(moved, _speech(rng, person, emotion, times))
    lids = AU_NAMES.index("AU45")
    moved[lids] = np.maximum(moved[lids], MAX_INTENSITY * closure(blinks, times))
    return np.clip(moved, 0.0, MAX_INTENSITY)


def emotional_drives(config: SimulationConfig, person: Participant, emotion: Emotion) -> FloatArray:
    """Return the effects of emotion and stimulus on the drives of each second, (3, S), in the order of DRIVES."""
    felt = np.stack([emotion.valence, -emotion.valence, emotion.arousal])
    offsets = stimulus_offsets(emotion, len(DRIVES), config.effects.stimuli_balanced)
    drives: FloatArray = 0.5 * person.au_d * felt + config.effects.stimulus_sd * offsets
    return drives


def _gains_by_second(rng: np.random.Generator, person: Participant, emotion: Emotion) -> FloatArray:
    """Return the gains of each drive in each second, (3, 17, S): one expression for a trial and the rest after it."""
    starts = np.asarray([trial.t_start for trial in emotion.trials])
    block = np.searchsorted(starts, emotion.centres, side="right")
    return np.stack([draw_expressions(rng, person.habits, drive, starts.size + 1)[:, block] for drive in DRIVES])


def _speech(rng: np.random.Generator, person: Participant, emotion: Emotion, times: FloatArray) -> FloatArray:
    """Return the intensities of speech (17, n), independent of emotion: the mouth opens and closes in some seconds."""
    speaks = ar1(rng, emotion.centres.shape, SPEECH_AR) < ndtri(person.talkativeness)
    loudness = np.interp(times, emotion.centres, speaks.astype(np.float64))
    tempo = 1.0 + 0.3 * ar1(rng, emotion.centres.shape, SPEECH_AR)
    phase = 2 * np.pi * SYLLABLE_HZ * np.cumsum(np.interp(times, emotion.centres, tempo)) * _step_s(times)
    opened = 0.5 + 0.5 * np.sin(phase)
    by_unit = gain_row(SPEECH_OPEN)[:, None] * opened + gain_row(SPEECH_CLOSED)[:, None] * (1 - opened)
    spoken: FloatArray = by_unit * loudness
    return spoken


def presence(intensities: FloatArray) -> BoolArray:
    """Return which units are present, (17, n) bool, with the hysteresis of ``action_units.Presence``."""
    high = intensities >= PRESENT_FROM
    begins = high.copy()
    begins[:, 1:] &= high[:, :-1]
    begins[:, :1] = False
    ends = intensities < ABSENT_BELOW
    frame = np.arange(intensities.shape[1])
    last_begin = np.maximum.accumulate(np.where(begins, frame, -1), axis=1)
    last_end = np.maximum.accumulate(np.where(ends, frame, -1), axis=1)
    on: BoolArray = last_begin > last_end
    return on


def _follow(by_second: FloatArray, centres: FloatArray, times: FloatArray) -> FloatArray:
    """Return values of seconds (k, S) at ``times``: interpolated, then smoothed with the muscles' time constant."""
    joined = np.stack([np.interp(times, centres, row) for row in by_second])
    keep = np.exp(-_step_s(times) / SMOOTHING_S) if times.size > 1 else 0.0
    smooth: FloatArray = lfilter([1 - keep], [1, -keep], joined, axis=-1)
    return smooth


def _step_s(times: FloatArray) -> float:
    return float(np.mean(np.diff(times))) if times.size > 1 else 0.0


FRAME_RATE = 30.0  # Hz, nominal
FRAME_JITTER_S = 0.0008  # s, SD of a frame's stamp
LANDMARK_NOISE_CM = 0.018  # SD, 0.2 % of the distance of the outer eye corners, as in a face mesh
INTENSITY_NOISE = 0.06  # points, SD of the noise of every frame
INTENSITY_DRIFT, INTENSITY_DRIFT_S = 0.1, 3.0  # points and s, SD and time constant of the neutral face's drift
POSE_SD = np.array([1.2, 0.8, 2.0, 0.05, 0.08, 0.03])  # cm and rad, of slow movement
POSE_S = 6.0  # s, its time constant
POSE_LEAK = 0.05  # share of a head turn that pose normalization leaves in the landmarks
GAZE_SD = np.array([0.12, 0.07])  # rad, of fixations: horizontal, vertical
FIXATION_S = 0.6  # s, mean
FIRM_YAW, TURNED_YAW = np.deg2rad(15.0), np.deg2rad(30.0)  # quality falls from the first, the second is flagged
LOSS_S = (0.3, 1.2)  # s, shortest and longest stretch without a face
_QUALITY, _FLAGS = FACE_CH_NAMES.index("QUALITY"), FACE_CH_NAMES.index("FLAGS")


@dataclass(frozen=True, eq=False)
class SimulatedFace:
    """All frames of a session."""

    t: FloatArray  # (n,) LSL seconds
    rows: npt.NDArray[np.float32]  # (n, 249) in the order of FACE_CH_NAMES


def face_stream_info(config: SimulationConfig) -> StreamInfo:
    """Return the announcement of the face stream."""
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


def simulate_face(config: SimulationConfig, person: Participant, intensities: FloatArray, t0: float) -> SimulatedFace:
    """Return the frames of a session.

    Args:
        config: Settings of the session.
        person: The participant.
        intensities: (17, n) true action units at ``frame_times``.
        t0: LSL seconds at which the session began.
    """
    rng = session_generator(config, Draw.FACE)
    n_frames = intensities.shape[1]
    pose = person.seat + POSE_SD * _wander(rng, n_frames)
    measured = _measure(rng, person, intensities)
    landmarks = express(person.neutral, intensities)
    landmarks += _pose_leak(landmarks, POSE_LEAK * (pose[:, 3:5] - person.seat[3:5]))
    landmarks += LANDMARK_NOISE_CM * rng.standard_normal(landmarks.shape)
    numbers = (landmarks.reshape(-1, 3 * N_LANDMARKS), measured.T, presence(measured).T, _gaze(rng, n_frames), pose)
    rows = np.concatenate([*numbers, _quality_columns(rng, pose[:, 4])], axis=1)
    _drop_faces(rows, config, rng)
    t = t0 + frame_times(config) + rng.normal(0.0, FRAME_JITTER_S, n_frames)
    return SimulatedFace(t=t, rows=rows.astype(np.float32))


def _measure(rng: np.random.Generator, person: Participant, intensities: FloatArray) -> FloatArray:
    """Return the intensities (17, n) as an extractor reads them: with errors and noise, rounded to float32."""
    misread = intensities + person.cross_talk @ intensities + person.neutral_offset[:, None]
    keep = np.exp(-1.0 / (INTENSITY_DRIFT_S * FRAME_RATE))
    white = rng.standard_normal(intensities.shape) * np.sqrt(1 - keep**2)
    drift = INTENSITY_DRIFT * lfilter([1.0], [1.0, -keep], white, axis=-1)
    noise = INTENSITY_NOISE * rng.standard_normal(intensities.shape)
    measured = np.clip(misread + drift + noise, 0.0, MAX_INTENSITY)
    rounded: FloatArray = measured.astype(np.float32).astype(np.float64)
    return rounded


def _wander(rng: np.random.Generator, n_frames: int) -> FloatArray:
    """Return slow noise (n, 6) of unit variance, smoothed twice because a head has inertia."""
    keep = np.exp(-1.0 / (POSE_S * FRAME_RATE))
    soft = np.exp(-1.0 / (0.3 * FRAME_RATE))
    start = round(4 * POSE_S * FRAME_RATE)
    white = rng.standard_normal((n_frames + start, 6)) * np.sqrt(1 - keep**2)
    slow: FloatArray = lfilter([1 - soft], [1, -soft], lfilter([1.0], [1.0, -keep], white, axis=0), axis=0)[start:]
    return slow


def _pose_leak(faces: FloatArray, angles: FloatArray) -> FloatArray:
    """Return the shifts of faces (n, 68, 3) by small rotations (n, 2) of pitch (nose down) and yaw in rad."""
    pitch, yaw = angles[:, 0, None], angles[:, 1, None]
    x, y, z = np.moveaxis(faces, -1, 0)
    return np.stack([yaw * z, -pitch * z, pitch * y - yaw * x], axis=-1)


def _gaze(rng: np.random.Generator, n_frames: int) -> FloatArray:
    """Return gaze angles (n, 2) in rad: fixations joined by jumps, and the tracker's noise."""
    n_most = int(n_frames / (FIXATION_S * FRAME_RATE) * 3) + 20
    jumps = np.cumsum(0.15 + rng.exponential(FIXATION_S - 0.15, n_most))
    targets = GAZE_SD * rng.standard_normal((n_most + 1, 2))
    fixation = np.searchsorted(jumps, np.arange(n_frames) / FRAME_RATE)
    angles: FloatArray = targets[fixation] + 0.01 * rng.standard_normal((n_frames, 2))
    return angles


def _quality_columns(rng: np.random.Generator, yaw: FloatArray) -> FloatArray:
    """Return quality, flags and calibration of each frame, (n, 3)."""
    turned = np.maximum(np.abs(yaw) - FIRM_YAW, 0.0) / (TURNED_YAW - FIRM_YAW)
    quality = np.clip(0.95 - 0.5 * turned + 0.015 * rng.standard_normal(yaw.size), 0.05, 1.0)
    flags = np.where(np.abs(yaw) > TURNED_YAW, float(FaceFlag.TURNED), 0.0)
    flags[:1] += float(FaceFlag.RESET)
    return np.stack([quality, flags, np.full(yaw.size, float(FACE_CALIBRATIONS.index("running")))], axis=1)


def _drop_faces(rows: FloatArray, config: SimulationConfig, rng: np.random.Generator) -> None:
    """Remove the face for short stretches: NaN, quality 0, MISSING; the next frame is a RESET."""
    lost = np.zeros(len(rows), dtype=bool)
    for _ in range(rng.poisson(config.effects.face_losses_per_min * config.seconds / 60)):
        first = rng.uniform(1.0, max(config.seconds, 1.0))
        lost[int(first * FRAME_RATE) : int((first + rng.uniform(*LOSS_S)) * FRAME_RATE)] = True
    found_again = np.flatnonzero(lost[:-1] & ~lost[1:]) + 1
    rows[lost, :_QUALITY] = np.nan
    rows[lost, _QUALITY] = 0.0
    rows[lost, _FLAGS] = float(FaceFlag.MISSING)
    rows[found_again, _FLAGS] += float(FaceFlag.RESET)
