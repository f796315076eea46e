"""Each action unit reads the movement of its muscle, and its presence never contradicts its intensity."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.face.action_units import (
    ACTION_UNITS,
    LOW_OBSERVABILITY,
    MIRROR_VERTICES,
    OBSERVABILITY,
    Change,
    Presence,
    intensities,
)
from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.types import FloatArray
from tests.support.face_acting import ACTS, Move, acted, features_of, still_face

GROUPS = (
    ("AU01", "AU02", "AU04"),
    ("AU05", "AU06", "AU07", "AU45"),
    ("AU09", "AU10"),
    ("AU12", "AU14", "AU15", "AU20"),
    ("AU17", "AU23", "AU25", "AU26"),
)
"""Units of one part of the face: brows, eyes, nose and upper lip, corners of the mouth, lips and chin."""


def read(face: FloatArray) -> dict[str, float]:
    """Return the intensities of a face against the still face."""
    values = intensities(features_of(face), features_of(still_face()))
    return dict(zip(AU_NAMES, values.tolist(), strict=True))


def test_the_table_has_every_action_unit_in_order() -> None:
    """17 rows in the order of the stream; each says its number, source and trust in its docstring."""
    assert tuple(unit.name for unit in ACTION_UNITS) == AU_NAMES
    for unit in ACTION_UNITS:
        words = (unit.change.__doc__ or "").split()
        assert words[0] == f"{unit.name},"
        assert f"{unit.observability.capitalize()}" in (unit.change.__doc__ or "")
        scale = float(words[words.index("scale") + 1].rstrip("."))
        assert scale == unit.full_scale


def test_low_observability_is_published() -> None:
    """The units that geometry hardly shows are named, and only those."""
    assert LOW_OBSERVABILITY == ("AU04", "AU07", "AU09", "AU14", "AU17", "AU20", "AU23")
    assert set(OBSERVABILITY) == set(AU_NAMES)


def test_a_still_face_shows_nothing() -> None:
    """Against itself every unit of a face is exactly 0, without a sign."""
    values = intensities(features_of(still_face()), features_of(still_face()))
    assert values.tobytes() == np.zeros(17).tobytes()


@pytest.mark.parametrize("au", AU_NAMES)
def test_each_movement_raises_its_unit_most_in_its_group(au: str) -> None:
    """The vertices that a muscle pulls raise that muscle's unit to between 2.5 and 5."""
    values = read(acted(still_face(), ACTS[au]))
    group = next(group for group in GROUPS if au in group)
    assert values[au] > 2.5
    assert max(group, key=values.__getitem__) == au


@pytest.mark.parametrize("au", AU_NAMES)
def test_more_movement_never_lowers_the_unit(au: str) -> None:
    """From nothing to the full act the unit rises or stays."""
    values = [read(acted(still_face(), ACTS[au], share))[au] for share in np.linspace(0, 1, 9)]
    assert np.all(np.diff(values) >= 0)


def test_intensities_end_at_five() -> None:
    """An impossible smile is a 5."""
    assert read(acted(still_face(), ACTS["AU12"], 4.0))["AU12"] == 5.0


def test_a_whole_mouth_that_rises_is_no_smile() -> None:
    """Weeping pushes chin, lips and corners up together; the corners stay in line with the lips."""
    lips = (0, 37, 39, 40, 185, 61, 146, 91, 181, 84, 17, 13, 82, 81, 80, 191, 78, 95, 88, 178, 87, 14, 152, 148, 175)
    assert read(acted(still_face(), (Move(lips, (0, 1.0, 0)),)))["AU12"] < 0.5


def test_a_dropped_jaw_is_no_smile() -> None:
    """The corners then lie above the line of the lips, but have not risen."""
    wide_open = (Move((14, 87, 17, 84, 178, 181), (0, -2.5, 0)), Move((61, 78), (0.1, -0.4, 0)))
    values = read(acted(still_face(), wide_open))
    assert values["AU25"] == 5.0
    assert values["AU12"] < 0.5


def test_folds_between_the_brows_are_a_frown_without_a_movement() -> None:
    """Deep ones on a still mesh read 4 in AU04 and nothing else; skin smoother than at rest reads nothing."""
    neutral = features_of(still_face())
    for depth, expected in ((0.02, 4.0), (-0.004, 0.0)):
        values = intensities(features_of(still_face(), neutral.brow_furrow + depth), neutral)
        assert values[AU_NAMES.index("AU04")] == pytest.approx(expected)
        assert np.count_nonzero(values) == (expected > 0)


def test_a_blink_is_no_squint() -> None:
    """While the eyes close, lower lids that move with them raise neither AU06 nor AU07."""
    closing = (*ACTS["AU45"], *ACTS["AU07"])
    values = read(acted(still_face(), closing))
    assert values["AU45"] > 4
    assert values["AU07"] == 0
    assert values["AU06"] == 0


def test_partners_mirror_each_other() -> None:
    """Each vertex of the right side has its partner at the mirrored place, within a tenth of a millimetre."""
    face = still_face()
    for right, left in MIRROR_VERTICES.items():
        assert face[right, 0] < 0
        assert np.linalg.norm(face[right] * [-1, 1, 1] - face[left]) < 0.01


def test_features_are_measured_in_the_faces_own_unit() -> None:
    """A face of twice the size has the same features."""
    assert features_of(2 * still_face()) == pytest.approx(features_of(still_face()))


def test_the_smaller_side_counts_half() -> None:
    """A brow that rises on one side alone gives half of what both give: sides are averaged."""
    both = acted(still_face(), ACTS["AU02"])
    one = np.where(still_face()[:, :1] < 0, both, still_face())
    assert read(one)["AU02"] == pytest.approx(read(both)["AU02"] / 2)


def test_the_change_from_a_neutral_face_is_a_difference() -> None:
    """Lengths are subtracted; the closing of the eyes is a share."""
    neutral = features_of(still_face())
    now = neutral._replace(eye_open=neutral.eye_open / 2, chin=neutral.chin - 0.1)
    change = Change.of(now, neutral)
    assert change.closing == pytest.approx(0.5)
    assert change.by.chin == pytest.approx(-0.1)
    assert change.by.brow_inner == 0


def presence_of(values: list[float]) -> list[float]:
    presence = Presence()
    return [presence.push(np.full(17, value))[0] for value in values]


def test_presence_begins_with_the_second_high_frame() -> None:
    """One high frame is a flicker; two are an action."""
    assert presence_of([0, 1.0, 0.5, 1.0, 1.0]) == [0, 0, 0, 0, 1]


def test_presence_lasts_until_the_intensity_has_truly_fallen() -> None:
    """Between 0.7 and 1 it stays what it was."""
    assert presence_of([1.2, 1.2, 0.8, 0.7, 0.69, 0.8, 0.9]) == [0, 1, 1, 1, 0, 0, 0]


def test_presence_is_decided_for_each_unit() -> None:
    """Units do not influence each other."""
    presence = Presence()
    values = np.zeros(17)
    values[8] = 3.0
    presence.push(values)
    assert presence.push(values).tolist() == [float(k == 8) for k in range(17)]
