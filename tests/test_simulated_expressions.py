"""The repertoire of simulated people, and how the extractor misreads it."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.sources.simulation.participant import Participant, draw_participant
from clmer_streaming.sources.simulation.repertoire import DRIVES, REPERTOIRE, choose
from clmer_streaming.sources.simulator import SimulatedSession, SimulationConfig, simulate
from clmer_streaming.types import FloatArray


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
    gains = choose(np.random.default_rng(0), habits, "unpleasant", 50)
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
