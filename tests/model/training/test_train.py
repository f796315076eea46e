"""Offline training: examples, split, scores, and the whole recipe in small."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.config import LABELS_VA4
from clmer_model.data.examples import Examples, LabelledTrial, concatenate, labelled_trials, make_examples
from clmer_model.data.simulated import PersonRecipe, examples_of_person
from clmer_model.export import export
from clmer_model.predictor import Predictor
from clmer_model.training.calibrate import calibrate, held_out_logits
from clmer_model.training.config import FitConfig, PretrainConfig, TrainConfig
from clmer_model.training.evaluate import trained_subsets
from clmer_model.training.splits import SplitExamples, split_people
from clmer_model.training.train import SPLIT_NAME, Run, train, train_model
from clmer_streaming.errors import ArtifactError, SettingsError
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate
from clmer_streaming.types import Marker
from tests.support.model_windows import CONFIG, SMALL, SPECS
from tests.support.tiny_training import config_of_command, small_examples

TWO_TRIALS = SimulationConfig(seconds=30.0, seed=5, preset="easy", participant=3)


@pytest.fixture(scope="module")
def examples() -> Examples:
    """The examples of a short simulated session of two trials."""
    return make_examples(simulate(TWO_TRIALS).items(64), CONFIG, LABELS_VA4, person=3)


def test_every_window_of_a_trial_has_its_label(examples: Examples) -> None:
    """A trial of 12 s holds 20 or 21 whole windows of 2 s, half a second apart, all with the trial's label."""
    trials = simulate(TWO_TRIALS).truth.trials
    for trial in trials:
        rows = examples.trial == trial.id
        assert rows.sum() in (20, 21)
        assert set(examples.label[rows]) == {LABELS_VA4.index(trial.label)}
    assert len(examples) == sum((examples.trial == trial.id).sum() for trial in trials)
    assert set(examples.person) == {3}


def test_examples_have_the_shapes_of_the_model(examples: Examples) -> None:
    """Series are float32 and masks bool, of the modality's shape."""
    for spec in SPECS:
        assert examples.series[spec.name].shape[1:] == spec.shape
        assert examples.series[spec.name].dtype == np.float32
        assert examples.mask[spec.name].shape[1:] == (spec.n_masked,)
        assert examples.mask[spec.name].dtype == np.bool_


def test_thinning_keeps_every_second_window(examples: Examples) -> None:
    """With every=2 the windows are each second one of a trial."""
    thin = make_examples(simulate(TWO_TRIALS).items(64), CONFIG, LABELS_VA4, person=3, every=2)
    assert np.array_equal(thin.series["eeg"][0], examples.series["eeg"][0])
    assert np.array_equal(thin.series["eeg"][1], examples.series["eeg"][2])


def test_trials_are_read_from_markers() -> None:
    """A start and an end of one number enclose a trial; other markers and open trials are passed over."""
    markers = [
        Marker(1.0, "1", "trial_start/1/HVLA/HVLA-2"),
        Marker(2.0, "2", "button"),
        Marker(5.0, "3", "trial_end/1/HVLA/HVLA-2"),
        Marker(6.0, "4", "trial_start/2/LVLA/LVLA-1"),
    ]
    assert labelled_trials(markers) == [LabelledTrial(1, "HVLA", 1.0, 5.0)]


def test_cached_examples_are_the_ones_that_were_made(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, written and read again, the examples are equal; another recipe or simulator has another key."""
    recipe = PersonRecipe(TWO_TRIALS, CONFIG, LABELS_VA4, every=1)
    made, cached = examples_of_person(recipe, tmp_path), examples_of_person(recipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{recipe.key}.npz"]
    for name in CONFIG.modalities:
        assert np.array_equal(made.series[name], examples.series[name])
        assert np.array_equal(cached.series[name], examples.series[name])
        assert np.array_equal(cached.mask[name], examples.mask[name])
    assert np.array_equal(cached.label, examples.label)
    assert dataclasses.replace(recipe, every=2).key != recipe.key
    key = recipe.key
    monkeypatch.setattr("clmer_model.data.simulated.SIMULATOR_ID", "another")
    assert recipe.key != key


def test_nobody_is_on_two_sides() -> None:
    """The sides of a split are disjoint, none is empty, and together they are everybody."""
    for n in (5, 8, 96):
        split = split_people(range(100, 100 + n), seed=1)
        data = [split.train, split.validation, split.test]
        assert all(data)
        assert sorted(person for side in data for person in side) == list(range(100, 100 + n))


def test_no_examples_are_an_error() -> None:
    """Concatenating nothing says why there is nothing."""
    with pytest.raises(ValueError, match="no window lies wholly inside"):
        concatenate([])


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """Export of something else says what was expected."""
    with pytest.raises(ArtifactError, match="clmer train"):
        load_checkpoint(tmp_path)


def test_the_whole_recipe_in_small(tmp_path: Path) -> None:
    """Few people with strong effects: training lowers the loss, and the exported file answers as the checkpoint."""
    config = TrainConfig(
        n_people=6,
        n_trials=4,
        sim_preset="easy",
        dims=SMALL,
        pretrain=PretrainConfig(epochs=1, batch=32),
        fit=FitConfig(epochs=10, batch=16, learning_rate=3e-3, encoder_learning_rate=3e-3),
    )
    lines: list[dict[str, object]] = []
    trained = train(config, Run(tmp_path / "out", tmp_path / "cache", lines.append, lambda made, _: made))
    losses = [float(str(line["loss"])) for line in lines if line["stage"] == "fit"]
    assert losses[-1] < losses[0]
    written = (tmp_path / "out" / "curves.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["stage"] for line in written][:1] == ["examples"]
    assert set(trained.scores[SPLIT_NAME]) == {"all", "eeg", "face"}
    assert trained.training["people"] == {"train": 3, "validation": 1, "test": 2}

    read = load_checkpoint(tmp_path / "out")
    assert read.scores == trained.scores
    digest = export(read, tmp_path / "tiny.ts")
    artifact = find_artifact(str(tmp_path / "tiny.ts"))
    assert artifact.sha256 == digest
    predictor = Predictor(artifact, "cpu")
    assert predictor.meta.scores[SPLIT_NAME]["all"]["n_people"] == 2
    assert torch.allclose(read.model.temperature, trained.model.temperature)


SPLIT = split_people(range(5), seed=1)


@dataclass(frozen=True, eq=False)
class Watched(Examples):
    """Examples that note whose windows were asked for, in ``looked``."""

    looked: list[set[int]]

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the model's input, and note the people."""
        self.looked.append(set(self.person.tolist()))
        return super().tensors()


def config_of(weights: int = 1, contrast: int = 1, labels: int = 1) -> TrainConfig:
    """Return a short recipe with these seeds: of the first weights, of the contrastive stage, of that with labels."""
    pretrain = PretrainConfig(epochs=1, batch=16, seed=contrast)
    fit = FitConfig(epochs=2, batch=16, seed=labels, views=None)  # whose views the first seed would draw, for the doors
    return TrainConfig(dims=SMALL, seed=weights, pretrain=pretrain, fit=fit)


def sides_of(looked: list[set[int]]) -> SplitExamples:
    """Return noise of five people, by side; three train, one validates, one tests."""
    everybody = dataclasses.replace(small_examples(20), person=np.arange(20) % 5)
    parts = [everybody.of_people(people) for people in (SPLIT.train, SPLIT.validation, SPLIT.test)]
    train, validation, test = (Watched(**vars(part), looked=looked) for part in parts)
    return SplitExamples(SPLIT, train, validation, test)


def trained(*seeds: int) -> dict[str, torch.Tensor]:
    return train_model(config_of(*seeds), sides_of([]), lambda line: None)[0].state_dict()


def test_the_temperature_is_fitted_on_the_validation_people_and_on_nobody_else() -> None:
    """Between the last epoch and the calibrated model only their windows are looked at; the test's never are."""
    looked, at_epoch = list[set[int]](), list[int]()
    data = sides_of(looked)

    def report(line: dict[str, Any]) -> None:
        if line["stage"] == "fit":
            at_epoch.append(len(looked))

    model, _ = train_model(config_of(), data, report)
    calibration = looked[at_epoch[-1] :]
    assert calibration
    assert all(people == set(SPLIT.validation) for people in calibration)
    assert not any(people & set(SPLIT.test) for people in looked)
    found = model.temperature.item()
    subsets = trained_subsets(model, 0.5)
    held_out = {name: held_out_logits(model, data.validation, names) for name, names in subsets.items()}
    assert calibrate(model, held_out)[0]["temperature"] == pytest.approx(found)


def test_one_seed_gives_one_network_and_another_seed_another() -> None:
    """The same seeds: the same bits. Another one of any stage: other weights in every part that learns."""
    first, same = trained(1, 1, 1), trained(1, 1, 1)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    for seeds in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        other = trained(*seeds)
        parts = {name.split(".")[0] for name, value in first.items() if not torch.equal(value, other[name])}
        assert parts >= {"encoders", "unifiers", "targets", "classifier"}, seeds


def test_the_option_seeds_every_stage() -> None:
    """``--seed 7`` is the seed of people, split and weights, of the contrastive stage and of the one with labels."""
    config = config_of_command(["train", "--out", "run", "--seed", "7"])
    assert (config.seed, config.pretrain.seed, config.fit.seed) == (7, 7, 7)
    assert {recipe.simulation.seed for recipe in config.recipes()} == {7}


@pytest.mark.parametrize(("epochs", "stop_after"), [(0, None), (5, 0)])
def test_a_training_without_an_epoch_is_refused(epochs: int, stop_after: int | None) -> None:
    """It would leave the network as chance made it, and say nothing."""
    with pytest.raises(SettingsError, match="an epoch or more"):
        FitConfig(epochs=epochs, stop_after=stop_after)
