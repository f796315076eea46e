"""The simulated face: 68 points where a face has them, moved by action units as the extractor reads them."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.face.layout import AU_NAMES, EXTRACTOR_ID, FACE_CH_NAMES, face_to_row
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.face import express, presence
from clmer_streaming.simulation.participant import (
    DRIVES,
    MIRRORED,
    REPERTOIRE,
    Participant,
    draw_expressions,
    draw_participant,
    neutral_template,
)
from clmer_streaming.simulation.session import SimulatedSession, simulate, simulate_cohort
from clmer_streaming.types import FloatArray

EYE_DISTANCE = 8.9  # cm between the outer eye corners
X, Y, Z = 0, 1, 2


@pytest.fixture(scope="module")
def session() -> SimulatedSession:
    return simulate(SimulationConfig())


def moved(intensity: float = 5.0, *aus: str) -> FloatArray:
    """The shift of each landmark of the average face, (68, 3), in distances of the outer eye corners."""
    intensities = np.zeros((17, 1))
    intensities[[AU_NAMES.index(au) for au in aus]] = intensity
    neutral = neutral_template()
    shift: FloatArray = (express(neutral, intensities)[0] - neutral) / EYE_DISTANCE
    return shift


def test_the_template_stands_in_its_axes() -> None:
    """Origin at 27; the left eye at positive x; brows, eyes, mouth, chin from top down; the nose nearest the camera."""
    face = neutral_template()
    assert np.array_equal(face[27], np.zeros(3))
    assert np.linalg.norm(face[36] - face[45]) == pytest.approx(EYE_DISTANCE)
    assert face[45, X] > 0 > face[36, X]
    assert face[17:27, Y].min() > face[36:48, Y].max() > face[48:68, Y].max() > face[8, Y]
    assert np.argmax(face[:, Z]) == 30
    assert np.argmin(face[:, Z]) in (0, 16)


def test_the_template_agrees_with_the_measures_of_a_neutral_face() -> None:
    """Widths, heights and openings lie within one SD of adult neutral faces (in outer eye distances)."""
    face = neutral_template() / EYE_DISTANCE
    eyes = face[[36, 39, 42, 45], Y].mean()
    assert np.linalg.norm(face[54] - face[48]) == pytest.approx(0.558, abs=0.040)
    assert face[[48, 54], Y].mean() - eyes == pytest.approx(-0.766, abs=0.051)
    assert face[[19, 24], Y].mean() - eyes == pytest.approx(0.253, abs=0.037)
    assert face[57, Y] - face[8, Y] == pytest.approx(0.365, abs=0.036)
    assert (face[51] - face[62])[Y] + (face[66] - face[57])[Y] == pytest.approx(0.220, abs=0.030)
    openness = [np.linalg.norm(face[a] - face[b]) for a, b in ((37, 41), (38, 40))]
    assert np.mean(openness) / np.linalg.norm(face[36] - face[39]) == pytest.approx(0.301, abs=0.05)


def test_left_mirrors_right() -> None:
    """The average face is symmetric, and 29 pairs name every landmark off the midline."""
    face = neutral_template()
    assert len(MIRRORED) == 29
    for right, left in MIRRORED.items():
        assert face[left] == pytest.approx(face[right] * [-1, 1, 1])


def test_the_chin_is_the_lowest_point_of_everyone(session: SimulatedSession) -> None:
    """Landmark 8 lies lowest in every person's neutral face, and in nearly every frame."""
    for person in (s.person for s in simulate_cohort(20, SimulationConfig(), n_trials=1)):
        assert np.argmin(person.neutral[:, Y]) == 8
    heights = session.face.rows[:, :204].reshape(-1, 68, 3)[:, :, Y]
    seen = heights[np.isfinite(heights[:, 0])]
    assert np.mean(np.argmin(seen, axis=1) == 8) > 0.99


@pytest.mark.parametrize(
    ("au", "landmarks", "axis", "least"),
    [
        ("AU01", (21, 22), Y, 0.08),
        ("AU02", (18, 25), Y, 0.08),
        ("AU05", (37, 38, 43, 44), Y, 0.03),
        ("AU10", (50, 51, 52), Y, 0.05),
        ("AU12", (48, 54), Y, 0.07),
        ("AU09", (31, 35), Y, 0.04),
    ],
)
def test_raisers_raise(au: str, landmarks: tuple[int, ...], axis: int, least: float) -> None:
    """Each lifts its own landmarks by about the full scale of the extractor's table."""
    assert moved(5.0, au)[list(landmarks), axis].min() >= least


@pytest.mark.parametrize(
    ("au", "landmarks", "least"),
    [("AU04", (21, 22), 0.04), ("AU15", (48, 54), 0.06), ("AU26", (8,), 0.2), ("AU45", (37, 38, 43, 44), 0.07)],
)
def test_depressors_lower(au: str, landmarks: tuple[int, ...], least: float) -> None:
    """Each lowers its own landmarks by about the full scale of the extractor's table."""
    assert moved(5.0, au)[list(landmarks), Y].max() <= -least


def test_a_smile_widens_the_mouth_and_lip_parting_opens_it() -> None:
    """AU12 draws the corners apart; AU25 parts the inner lips by its full scale of 0.22."""
    smile, parted = moved(5.0, "AU12"), moved(5.0, "AU25")
    assert smile[54, X] > 0.05
    assert smile[48, X] < -0.05
    assert parted[62, Y] - parted[66, Y] == pytest.approx(0.22, abs=0.02)


def test_shifts_grow_with_intensity() -> None:
    """Half the intensity is half the way."""
    assert moved(2.5, "AU12", "AU06") == pytest.approx(0.5 * moved(5.0, "AU12", "AU06"))


def test_the_camera_sees_smiles_in_the_landmarks() -> None:
    """Over a session the height of the mouth's corners follows AU12."""
    session = simulate(SimulationConfig(preset="easy", seconds=240.0))
    rows = session.face.rows.astype(np.float64)
    corners = rows[:, :204].reshape(-1, 68, 3)[:, [48, 54], Y].mean(axis=1)
    assert np.corrcoef(corners, rows[:, FACE_CH_NAMES.index("AU12_r")])[0, 1] > 0.6


def test_the_stream_is_a_face_stream_of_this_projects_extractor(session: SimulatedSession) -> None:
    """249 channels at 30 Hz, the extractor named, the calibration running."""
    assert (session.face_info.name, session.face_info.ch_names) == ("CLMER-Face", FACE_CH_NAMES)
    assert session.face_info.extractor == EXTRACTOR_ID
    assert np.diff(session.face.t).mean() == pytest.approx(1 / 30, rel=1e-3)
    assert {sample.calibration for sample in session.face_samples()} == {"running"}


def test_samples_are_float32_numbers(session: SimulatedSession) -> None:
    """A sample written as a row and read again is the same, bit for bit."""
    for sample, row in zip(session.face_samples(), session.face.rows, strict=True):
        assert np.array_equal(face_to_row(sample), row, equal_nan=True)


def test_intensities_stay_within_0_and_5(session: SimulatedSession) -> None:
    """Action units have the range of the FACS scale; presence is 0 or 1."""
    rows = session.face.rows[np.isfinite(session.face.rows[:, 0])]
    assert rows[:, 204:221].min() >= 0
    assert rows[:, 204:221].max() <= 5
    assert set(np.unique(rows[:, 221:238])) == {0.0, 1.0}


def test_presence_begins_at_two_high_frames_and_ends_below() -> None:
    """One frame at 1.0 is not enough; once on, a unit stays on down to 0.7."""
    intensities = np.array([[0.0, 1.2, 0.9, 1.0, 1.1, 0.8, 0.7, 0.6, 0.9, 1.0]])
    assert presence(intensities).astype(int).tolist() == [[0, 0, 0, 0, 1, 1, 1, 0, 0, 0]]


def test_gaze_jumps_and_rests(session: SimulatedSession) -> None:
    """Between saccades the gaze moves by the tracker's noise only."""
    gaze = session.face.rows[:, FACE_CH_NAMES.index("GAZE_X")].astype(np.float64)
    steps = np.abs(np.diff(gaze[np.isfinite(gaze)]))
    assert np.median(steps) < 0.02
    assert 30 < np.count_nonzero(steps > 0.08) < 180


def test_the_head_moves_slowly(session: SimulatedSession) -> None:
    """Pose drifts: within a tenth of a second a head turns by less than a degree or so."""
    yaw = session.face.rows[:, FACE_CH_NAMES.index("POSE_YAW")].astype(np.float64)
    assert np.nanmax(np.abs(np.rad2deg(yaw[3:] - yaw[:-3]))) < 3
    assert np.nanstd(np.rad2deg(yaw)) > 1


def test_some_people_have_poker_faces() -> None:
    """About a quarter of the realistic people hardly smile; nobody does so under the easy preset."""
    people = list(simulate_cohort(60, SimulationConfig(), n_trials=1))
    poker = [s for s in people if s.person.poker_faced]
    assert 0.2 <= len(poker) / len(people) <= 0.35
    au12 = AU_NAMES.index("AU12")
    smiles = [(s.person.poker_faced, s.truth.intensities[au12].mean()) for s in people]
    shown = {poker: np.mean([smile for is_poker, smile in smiles if is_poker == poker]) for poker in (True, False)}
    assert shown[True] < 0.15 * shown[False]
    assert not any(s.person.poker_faced for s in simulate_cohort(20, SimulationConfig(preset="easy"), n_trials=1))


def people(n: int) -> list[Participant]:
    return [draw_participant(SimulationConfig(participant=k)) for k in range(n)]


def reading(session: SimulatedSession, au: str) -> FloatArray:
    """What the stream says of a unit in each frame, (n,), NaN where the face was lost."""
    values: FloatArray = session.face.rows[:, 204 + AU_NAMES.index(au)].astype(np.float64)
    return values


@pytest.mark.parametrize("drive", DRIVES)
def test_habits_are_shares_whose_mean_the_repertoire_names(drive: str) -> None:
    """For each drive a person's habits sum to 1; over people they differ around the shares of the repertoire."""
    members = [k for k, expression in enumerate(REPERTOIRE) if expression.drive == drive]
    habits = np.stack([person.habits[members] for person in people(300)])
    assert habits.sum(axis=1) == pytest.approx(1.0)
    assert habits.mean(axis=0) == pytest.approx([REPERTOIRE[k].share for k in members], abs=0.05)
    assert len(members) == 1 or habits.std(axis=0).min() > 0.1


def test_who_only_weeps_never_frowns() -> None:
    """Expressions are taken by habit: one whose share is 1 is the only one."""
    names = [expression.name for expression in REPERTOIRE]
    habits = np.zeros(len(REPERTOIRE))
    habits[names.index("weeping")] = 1.0
    gains = draw_expressions(np.random.default_rng(0), habits, "unpleasant", 50)
    assert np.all(gains[AU_NAMES.index("AU45")] == REPERTOIRE[names.index("weeping")].gains["AU45"])
    assert np.all(gains[AU_NAMES.index("AU01")] == 0.0)


def test_every_expression_names_known_units_and_drives() -> None:
    """The data fit the layout, and the shares of each drive sum to 1."""
    for expression in REPERTOIRE:
        assert set(expression.gains) <= set(AU_NAMES)
    for drive in DRIVES:
        assert sum(e.share for e in REPERTOIRE if e.drive == drive) == pytest.approx(1.0)


def test_people_speak_now_and_then_but_not_under_easy() -> None:
    """Over people the mean share of speech is half of the greatest; the smoke tests' people are silent."""
    assert np.mean([person.talkativeness for person in people(200)]) == pytest.approx(0.1, abs=0.02)
    assert draw_participant(SimulationConfig(preset="easy")).talkativeness == 0


def test_easy_readings_are_the_truth_but_for_noise() -> None:
    """Without the extractor's errors the stream says what the face does, to some tenths of a point."""
    session = simulate(SimulationConfig(preset="easy"))
    for au in ("AU09", "AU10", "AU12"):
        assert np.abs(reading(session, au) - session.truth.intensities[AU_NAMES.index(au)]).max() < 0.6


def test_a_smile_is_also_read_as_other_units() -> None:
    """A point more of AU12 raises the readings of cheek, nostril, lip and lids in everyone, by .26 on average."""
    read_along = [AU_NAMES.index(au) for au in ("AU06", "AU09", "AU10", "AU45")]
    raised = np.stack([person.cross_talk[read_along, AU_NAMES.index("AU12")] for person in people(50)])
    assert raised.min() > 0.0
    assert raised.mean() == pytest.approx(0.26, abs=0.06)


def test_a_neutral_face_is_misread_by_the_share_that_running_calibration_leaves() -> None:
    """Offsets have mean 0 over people; AU09's SD is .35 of the 3.6 points without calibration."""
    offsets = np.stack([person.neutral_offset for person in people(300)])
    assert np.abs(offsets.mean(axis=0)).max() < 0.25
    assert offsets[:, AU_NAMES.index("AU09")].std() == pytest.approx(0.35 * 3.6, rel=0.15)
