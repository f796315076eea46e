"""The comparison of networks treats all alike, keeps people apart, and goes on where it was."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import comparison
from benchmarks.comparison import (
    CONTENDERS,
    MARGIN,
    OURS,
    Cohort,
    Run,
    difference_table,
    end_of_windows,
    result_of,
    train,
    verdict,
)
from benchmarks.support.intervals import Figure, figure, paired
from clmer_model.config import DEFAULT, PAPER, modality_specs
from clmer_model.training.evaluate import accuracy
from clmer_model.training.splits import SplitExamples
from tests.support.model_windows import random_input

TINY = Cohort(n_train=2, n_validation=1, n_test=2, n_trials=4)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitExamples]:
    """Five simulated people with four trials each, in a folder of results, and their windows by side."""
    out = tmp_path_factory.mktemp("comparison")
    return out, TINY.data(out / "windows", lambda people, n: people)


def run(name: str = OURS) -> Run:
    return Run(name, seed=1, rate=1e-3, epochs=1, contrast_epochs=1, cohort=TINY)


def test_nobody_is_on_two_sides(windows: tuple[Path, SplitExamples]) -> None:
    """Each side has windows of its own people alone, as many people as asked for."""
    data = windows[1]
    people = [set(np.unique(part.person).tolist()) for part in (data.train, data.validation, data.test)]
    assert people == [set(data.split.train), set(data.split.validation), set(data.split.test)]
    assert [len(side) for side in people] == [2, 1, 2]
    assert len(set.union(*people)) == 5


def test_the_usual_cohort_has_32_people_to_learn_from_and_16_to_be_asked() -> None:
    """Of the 32, some choose; nobody is on two sides."""
    split = Cohort().split()
    assert len(split.train) + len(split.validation) == 32
    assert len(split.test) == 16
    assert len({*split.train, *split.validation, *split.test}) == 48


def test_the_contenders_differ_in_nothing_but_themselves() -> None:
    """Windows, epochs, batches, views, optimiser and seeds are those of the run, whoever is trained."""
    settings = []
    for name in CONTENDERS:
        plain = run(name).plain()
        assert plain.pop("contender") == name
        settings.append((plain, run(name).fit_config()))
    assert all(one == settings[0] for one in settings)


def test_a_shorter_window_is_the_end_of_the_longer_one(windows: tuple[Path, SplitExamples]) -> None:
    """Same rows, labels and people; the last second of EEG; one face, the mean of the valid slots of that second."""
    data = windows[1]
    short = end_of_windows(data, DEFAULT.preprocess, PAPER.preprocess)
    whole, part = data.test, short.test
    for name in ("label", "person", "trial"):
        assert np.array_equal(getattr(whole, name), getattr(part, name))
    assert np.array_equal(part.series["eeg"], whole.series["eeg"][:, :, 128:])
    for spec in modality_specs(PAPER.preprocess):
        assert part.series[spec.name].shape[1:] == spec.shape
    for row, valid in enumerate(whole.mask["landmarks"][:, 4:]):
        expected = whole.series["landmarks"][row, 4:][valid].mean(0) if valid.any() else np.zeros((68, 3))
        assert part.series["landmarks"][row, 0] == pytest.approx(expected, abs=1e-5)
        assert part.mask["landmarks"][row, 0] == valid.any()


@pytest.mark.parametrize("name", list(CONTENDERS))
def test_no_contender_reads_what_is_masked_and_every_parameter_learns(name: str) -> None:
    """Whatever stands behind a mask, the logits are the same bits; a gradient comes everywhere."""
    specs = modality_specs(CONTENDERS[name].preprocess)
    torch.manual_seed(0)
    model = CONTENDERS[name].make(specs, 4).eval()
    x, mask = random_input(4, specs=specs)
    mask["eeg"][0, 2:7] = mask["landmarks"][1] = mask["aus"][2] = False
    for known in mask.values():
        known[3] = False
    logits = model(x, mask)
    x["eeg"][0, 2:7] = x["landmarks"][1] = x["aus"][2] = math.nan
    with torch.no_grad():
        assert torch.equal(model(x, mask), logits)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize("name", ["like Husformer", "default, channel tokens of log power"])
def test_a_contender_is_trained_and_asked_by_person(name: str, windows: tuple[Path, SplitExamples]) -> None:
    """A confusion matrix for each person of the side, over all windows of that person."""
    data = windows[1]
    result = train(run(name), data)
    for side, examples in (("validation", data.validation), ("test", data.test)):
        answer = result[side]["all"]
        assert answer["people"] == sorted(getattr(data.split, side))
        asked = [int((examples.person == person).sum()) for person in answer["people"]]
        assert np.array(answer["matrices"]).sum((1, 2)).tolist() == asked
    assert result["best_epoch"] == 1
    assert len(result["curve"]) == 1


def test_what_was_trained_is_not_trained_again(windows: tuple[Path, SplitExamples]) -> None:
    """The result comes from its file; without windows nothing is trained; another setting is another file."""
    out, data = windows
    path = run().path(out)
    assert result_of(run(), None, out) is None
    first = result_of(run(), data, out)
    assert first == json.loads(path.read_text(encoding="utf-8"))
    written = path.stat().st_mtime_ns
    assert result_of(run(), data, out) == first
    assert result_of(run(), None, out) == first
    assert path.stat().st_mtime_ns == written
    others = {
        dataclasses.replace(run(), seed=7).path(out),
        dataclasses.replace(run(), rate=7.0).path(out),
        dataclasses.replace(run(), epochs=7).path(out),
        dataclasses.replace(run(), cohort=Cohort()).path(out),
        run("paper").path(out),
    }
    assert len(others | {path}) == 6


def test_the_program_trains_resumes_and_prints_tables(
    windows: tuple[Path, SplitExamples], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first call has nothing to show; the second trains; the third shows the same without training."""
    words = ["comparison.py", "--out", str(windows[0]), "--networks", OURS, "default on the paper's windows"]
    sizes = ["--seeds", "1", "--rates", "3e-4", "4e-4", "--epochs", "1", "--people", "2", "1", "2", "--trials", "4"]
    monkeypatch.setattr(sys, "argv", [*words, *sizes])
    assert comparison.main() == 2
    assert "--train" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words, *sizes, "--train"])
    assert comparison.main() == 0
    trained = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, *sizes])
    assert comparison.main() == 0
    assert capsys.readouterr().out == trained
    assert re.search(r"\| default on the paper's windows \| [\d,]+ \| [\d.]+ \[", trained)


def test_people_who_choose_decide_the_learning_rate(windows: tuple[Path, SplitExamples]) -> None:
    """Of the first seed's rates the one with the least validation loss is taken, for every seed."""
    out, data = windows
    runs = [[dataclasses.replace(run(), seed=seed, rate=rate) for rate in (1e-3, 1e-5)] for seed in (1, 2)]
    losses = [train(one, data)["validation_loss"] for one in runs[0]]
    taken = comparison.best_results(runs, data, out)
    assert [result["run"]["seed"] for result in taken] == [1, 2]
    assert {result["run"]["rate"] for result in taken} == {(1e-3, 1e-5)[int(np.argmin(losses))]}
    assert len(list(out.glob("default-rate*-seed2-*.json"))) == 1


def test_an_interval_over_people_is_that_of_paired_people() -> None:
    """Ours is right once more than theirs for everybody: the difference is certain, though accuracies are not."""
    right = np.array([2, 5, 9, 4])
    ours = np.stack([np.diag([k, 0]) + np.array([[0, 10 - k], [0, 0]]) for k in right]).astype(float)
    theirs = np.stack([np.diag([k - 1, 0]) + np.array([[0, 11 - k], [0, 0]]) for k in right]).astype(float)
    difference = paired(accuracy, ours, theirs)
    assert [difference.value, difference.low, difference.high] == pytest.approx([0.1] * 3)
    alone = figure(accuracy, ours)
    assert alone.value == 0.5
    assert alone.low < 0.4
    assert alone.high > 0.6


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.001, 0.05, "better"),
        (-MARGIN / 2, 0.05, "no worse, within the margin"),
        (-2 * MARGIN, 0.05, "not decided"),
        (-2 * MARGIN, -MARGIN / 2, "worse, perhaps by less than the margin"),
        (-3 * MARGIN, -2 * MARGIN, "worse"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_margin(low: float, high: float, words: str) -> None:
    assert verdict(Figure((low + high) / 2, low, high)) == words


def test_results_of_other_people_are_not_compared() -> None:
    """Pairs are of the same people, else there is no table."""
    asked = {"matrices": [[[1, 0], [0, 1]]], "calibration_error": 0.0}
    results = {
        OURS: [{"test": {subset: {"people": [1], **asked} for subset in ("all", "eeg", "face")}}],
        "paper": [{"test": {subset: {"people": [2], **asked} for subset in ("all", "eeg", "face")}}],
    }
    with pytest.raises(ValueError, match="same people"):
        difference_table(results, OURS, "test")
