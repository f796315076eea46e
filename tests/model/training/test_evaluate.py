"""Scores against values worked out by hand, intervals over people, and the permutation test."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_model.training.evaluate import (
    PLAIN_SCORES,
    SCORES_OF_COUNTS,
    accuracy,
    bootstrap_intervals,
    by_trial,
    calibration_bins,
    calibration_error,
    calibration_error_of_bins,
    class_scores,
    compute_scores,
    confusion,
    eq8_as_printed,
    eq8_over_all,
    macro_f1,
    permutation_p,
    resampled_units,
)

MATRIX = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0]])
"""Ten windows: 3 of class 0, 4 of class 1, 3 of class 2; seven right."""


def test_scores_equal_those_worked_out_by_hand() -> None:
    """Three of five right: recalls 2/3 and 1/2, F1 2/3 and 1/2; sure of 0.8 and right in 0.6 of all."""
    truth, answer = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
    scores = compute_scores(truth, np.where(np.arange(2) == answer[:, None], 0.8, 0.2))
    assert scores["accuracy"] == pytest.approx(0.6)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["calibration_error"] == pytest.approx(0.2)
    assert set(scores) == {*PLAIN_SCORES, "eq8_as_printed", "eq8_over_all"}


def test_scores_of_windows_equal_those_of_their_counts_worked_out_by_hand() -> None:
    """Recalls 2/3, 3/4, 2/3; precisions 2/3, 3/4, 2/3; chance agreement (9 + 16 + 9) / 100.

    Resamples are scored from counts, all else from windows; both must be the same.
    """
    by_hand = {
        "accuracy": 0.7,
        "balanced_accuracy": (2 / 3 + 3 / 4 + 2 / 3) / 3,
        "weighted_f1": (3 * 2 / 3 + 4 * 3 / 4 + 3 * 2 / 3) / 10,
        "macro_f1": (2 / 3 + 3 / 4 + 2 / 3) / 3,
        "kappa": (0.7 - 0.34) / (1 - 0.34),
    }
    assert {name: float(score(MATRIX)) for name, score in SCORES_OF_COUNTS.items()} == pytest.approx(by_hand)
    truth, answer = (np.repeat(part, MATRIX.astype(int).ravel()) for part in np.indices((3, 3)).reshape(2, -1))
    scores = compute_scores(truth, np.eye(3)[answer])
    assert {name: scores[name] for name in by_hand} == pytest.approx(by_hand)
    assert np.array_equal(confusion(truth, answer, 3), MATRIX)
    assert scores["eq8_as_printed"] == pytest.approx(((2 + 6) / 3 + (3 + 5) / 4 + (2 + 6) / 3) / 3)
    assert scores["eq8_over_all"] == pytest.approx((8 + 8 + 8) / 10 / 3)


def test_many_matrices_are_scored_at_once() -> None:
    """A stack of counts has the scores of its parts."""
    stack = np.stack([MATRIX, MATRIX.T + np.eye(3), np.ones((3, 3))])
    for score in SCORES_OF_COUNTS.values():
        assert score(stack) == pytest.approx([float(score(matrix)) for matrix in stack])


def test_f1_follows_precision_and_recall() -> None:
    """Class 1 was named four times, twice rightly, and occurs twice: P 1/2, R 1, F1 2/3; class 2 is never right."""
    truth, answer = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 1])
    precision, recall = 2 / 4, 2 / 2
    scores = class_scores(truth, answer, 3)
    assert scores["precision"] == pytest.approx([1, precision, 0])
    assert scores["recall"] == pytest.approx([1 / 2, recall, 0])
    assert scores["f1"] == pytest.approx([2 / 3, 2 * precision * recall / (precision + recall), 0.0])
    whole = compute_scores(truth, np.eye(3)[answer])
    assert whole["weighted_f1"] == pytest.approx((2 * 2 / 3 + 2 * 2 / 3 + 0) / 5)
    assert whole["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 3)


def test_a_class_that_never_occurs_does_not_count() -> None:
    """It is neither a recall of 0 nor an F1 of 0, though it was answered; and nothing warns."""
    truth, probs = np.array([0, 0, 1, 1]), np.eye(3)[[0, 0, 1, 2]]
    scores = compute_scores(truth, probs)
    assert scores["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert float(macro_f1(confusion(truth, probs.argmax(1), 3))) == pytest.approx((1 + 2 / 3) / 2)


def test_a_trial_is_answered_by_all_its_windows() -> None:
    """Two windows of 0.6 and one of 0.1 for class 0: their mean log-odds are for class 1; each trial counts once."""
    trial, truth = np.array([7, 7, 7, 9]), np.array([1, 1, 1, 0])
    probs = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.8, 0.2]])
    label, of_trials, first = by_trial(truth, probs, trial)
    assert (label.tolist(), first.tolist()) == ([1, 0], [0, 3])
    odds = np.log(of_trials[:, 1] / of_trials[:, 0])
    assert odds == pytest.approx([np.mean(np.log([4 / 6, 4 / 6, 9])), np.log(2 / 8)])


def test_intervals_are_over_people_where_there_are_several() -> None:
    """With fewer than five people they are over trials, which says nothing of other people."""
    trial = np.arange(10)
    over, unit = resampled_units(np.repeat(np.arange(5), 2), trial)
    assert (over, len(np.unique(unit))) == ("people", 5)
    over, unit = resampled_units(np.repeat(np.arange(2), 5), trial)
    assert (over, len(np.unique(unit))) == ("trials", 10)


def test_the_accuracy_of_the_paper_as_printed_rises_above_one() -> None:
    """Two classes, all right: each class has TP + TN = 4 over its own 2 samples. Over all samples it is 1."""
    right = np.diag([2.0, 2.0])
    assert eq8_as_printed(right) == pytest.approx(2.0)
    assert eq8_over_all(right) == pytest.approx(1.0)
    chance = np.full((4, 4), 5.0)
    assert accuracy(chance) == pytest.approx(0.25)
    assert eq8_over_all(chance) == pytest.approx(1 - 2 * 3 / 16)


def test_kappa_of_one_class_alone_is_nothing() -> None:
    """Who always answers the only class there is knows nothing, by counts and by windows."""
    kappa = SCORES_OF_COUNTS["kappa"]
    assert kappa(np.array([[5.0, 0.0], [0.0, 0.0]])) == 0.0
    assert kappa(np.array([[5.0, 0.0], [5.0, 0.0]])) == pytest.approx(0.0)
    assert compute_scores(np.zeros(5, dtype=np.int64), np.eye(2)[[0] * 5])["kappa"] == 0.0
    assert compute_scores(np.repeat([0, 1], 5), np.eye(2)[[0] * 10])["kappa"] == pytest.approx(0.0)


def test_the_interval_knows_that_windows_of_a_person_go_together() -> None:
    """Ten people who are all right or all wrong give a far wider interval than a thousand windows would."""
    person, truth = np.repeat(np.arange(10), 100), np.zeros(1000, dtype=np.int64)
    low, high = bootstrap_intervals(truth, np.eye(2)[person % 2], person)["accuracy"]
    assert high - low > 0.4
    low, high = bootstrap_intervals(truth, np.eye(2)[np.arange(1000) % 2], person)["accuracy"]
    assert high - low < 0.01


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    """Always 90 % sure and right half the time is an error of 0.4."""
    assert calibration_error(np.arange(10) % 2, np.tile([0.9, 0.1], (10, 1))) == pytest.approx(0.4)


def test_calibration_errors_of_people_add_up_by_their_bins() -> None:
    """One person is sure of 0.9 and always right, another never: apart the errors are 0.1 and 0.9, together 0.4."""
    sure, right = np.full(10, 0.9), np.arange(10) < 5
    parts = [calibration_bins(sure[mine], right[mine]) for mine in (right, ~right)]
    assert [calibration_error_of_bins(bins) for bins in parts] == pytest.approx([0.1, 0.9])
    assert calibration_error_of_bins(parts[0] + parts[1]) == pytest.approx(0.4)


def test_every_score_has_an_interval_by_the_same_draws() -> None:
    """People who answer alike leave no doubt; where one of ten differs, every score has its value inside an interval.

    With 0.9 for every answer the calibration error is the gap to the accuracy, in every draw: 0.9 - accuracy.
    """
    truth, person = np.tile([0, 0, 1, 1, 1, 1], 10), np.repeat(np.arange(10), 6)
    answer = np.tile([0, 1, 1, 1, 1, 0], 10)
    probs = np.where(np.arange(2) == answer[:, None], 0.9, 0.1)
    scores = compute_scores(truth, probs)
    for name, edges in bootstrap_intervals(truth, probs, person).items():
        assert edges == pytest.approx((scores[name], scores[name]), abs=1e-6)  # torchmetrics counts in float32
    answer[:6] = 1 - truth[:6]
    probs = np.where(np.arange(2) == answer[:, None], 0.9, 0.1)
    scores, intervals = compute_scores(truth, probs), bootstrap_intervals(truth, probs, person)
    assert set(intervals) == set(PLAIN_SCORES)
    assert all(low < scores[name] < high for name, (low, high) in intervals.items())
    low, high = intervals["accuracy"]
    assert intervals["calibration_error"] == pytest.approx((0.9 - high, 0.9 - low))


def test_the_permutation_test_deals_whole_trials() -> None:
    """Six trials of 50 windows, all answered alike: that two trials are right is no news, that six are is."""
    trial = np.repeat(np.arange(6), 50)
    truth, block = trial % 2, np.zeros(300, dtype=np.int64)
    all_right = permutation_p([(truth, truth, trial, block)])
    assert all_right == pytest.approx(1 / 20, abs=0.01)  # 6! / (3! 3!) deals, of which one is as good
    assert permutation_p([(truth, np.zeros_like(truth), trial, block)]) == 1.0


def test_labels_change_places_within_a_block_only() -> None:
    """Each block has one label: every deal is the same, and nothing is unlikely."""
    trial = np.repeat(np.arange(8), 5)
    truth = trial // 4
    assert permutation_p([(truth, truth, trial, truth)]) == 1.0
    assert permutation_p([(truth, truth, trial, np.zeros_like(truth))]) < 0.05
