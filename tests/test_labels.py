"""Labels and what their probabilities say."""

from __future__ import annotations

import pytest

from clmer_model.labels import LABELS_VA4, affect


def test_quadrant_index_is_two_v_plus_a() -> None:
    """The index of a quadrant is 2V + A."""
    assert [LABELS_VA4.index(label) for label in ("LVLA", "LVHA", "HVLA", "HVHA")] == [0, 1, 2, 3]


def test_quadrants_give_the_probability_of_high() -> None:
    """With four classes valence and arousal are the summed probability of the high classes."""
    feeling = affect(LABELS_VA4, [0.1, 0.2, 0.3, 0.4])
    assert feeling.valence == pytest.approx(0.7)
    assert feeling.arousal == pytest.approx(0.6)


def test_two_classes_speak_of_one_dimension() -> None:
    """Labels of valence alone give no arousal."""
    feeling = affect(("LV", "HV"), [0.25, 0.75])
    assert feeling.valence == pytest.approx(0.75)
    assert feeling.arousal is None


def test_nine_classes_give_the_expected_bin_centre() -> None:
    """With three levels the value is a rating: all mass on high valence, medium arousal is (7.5, 4.5)."""
    labels = tuple(f"{v}V{a}A" for v in "LMH" for a in "LMH")
    probs = [1.0 if label == "HVMA" else 0.0 for label in labels]
    assert affect(labels, probs).valence == pytest.approx(7.5)
    assert affect(labels, probs).arousal == pytest.approx(4.5)
    even = affect(labels, [1 / 9] * 9)
    assert even.valence == pytest.approx((2.0 + 4.5 + 7.5) / 3)


@pytest.mark.parametrize("labels", [("moved", "angry", "nervous", "reproachful"), ("HV", "other"), ()])
def test_other_labels_have_no_valence(labels: tuple[str, ...]) -> None:
    """Labels that do not spell levels carry neither valence nor arousal."""
    feeling = affect(labels, [1 / max(len(labels), 1)] * len(labels))
    assert feeling.valence is None
    assert feeling.arousal is None
