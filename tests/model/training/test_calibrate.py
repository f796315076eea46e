"""Temperature and share of the network, chosen on windows that it was not trained on; and how long it is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clmer_model.config import modality_specs
from clmer_model.data.examples import Examples
from clmer_model.data.features import MIN_POWER, band_powers
from clmer_model.network.clmer import Clmer
from clmer_model.network.encoder import BANDS
from clmer_model.network.linear_path import LinearPath
from clmer_model.training.calibrate import SHARES, HeldOut, calibrate, cross_fit, held_out_logits
from clmer_model.training.config import TrainConfig, fit_epochs, for_store, recipe
from clmer_model.training.evaluate import predict_logits, scored_subsets
from clmer_model.training.splits import PeopleSplit, SplitExamples
from clmer_model.training.train import fit_linear_paths, train_model
from clmer_streaming.config import PreprocessConfig
from tests.support.feature_store import small_store
from tests.support.model_windows import SMALL, SPECS
from tests.support.tiny_training import small_examples

WITH_PATH = dataclasses.replace(SMALL, channel_tokens=True, linear_path=True)
TRUTH = torch.arange(200) % 2


def model_with_path() -> Clmer:
    """Return a network whose two parts both say something."""
    torch.manual_seed(0)
    model = Clmer(SPECS, 4, WITH_PATH).eval()
    torch.nn.init.normal_(model.classifier.out.weight)
    return model


def says(strength: float, truth: Tensor = TRUTH, right: float = 1.0) -> Tensor:
    """Return logits of four classes that name the true one, or the other one, that strongly."""
    named = torch.where(torch.arange(len(truth)) < right * len(truth), truth, 1 - truth)
    return strength * torch.nn.functional.one_hot(named, 4).double()


def held(linear: Tensor, network: Tensor) -> dict[str, HeldOut]:
    """Return held-out logits of two hundred windows, each of its own trial, of one person."""
    n = len(TRUTH)
    numbers = (torch.zeros(n, dtype=torch.int64), torch.arange(n), torch.ones(n, dtype=torch.bool))
    return {"all": HeldOut(linear, network, TRUTH, *numbers)}


def test_a_network_that_only_disturbs_is_left_out() -> None:
    """Where the linear path is right and the network names the wrong class, its share becomes 0; the other way, 1."""
    wrong, noise = says(1.0, 1 - TRUTH), says(3.0, 1 - TRUTH)
    for held_out, share in (
        (held(says(4.0, right=0.9), noise), 0.0),
        (held(wrong, says(3.0, right=0.95)), 1.0),
    ):
        model = model_with_path()
        before = model.classifier.out.weight.clone()
        assert calibrate(model, held_out)[0]["network_share"] == share
        assert torch.equal(model.classifier.out.weight, share * before)


def test_a_network_that_is_not_shown_to_help_is_left_out() -> None:
    """It mends one window of two hundred and a little more: less than the standard error of its gain."""
    linear = says(2.0, right=0.8)
    rng = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.randn(200, 4, generator=rng).double()
    assert calibrate(model_with_path(), held(linear, noise + says(0.02)))[0]["network_share"] == 0.0


def test_the_temperature_is_the_one_of_the_least_loss() -> None:
    """A step of the grid to either side is worse."""
    network = says(4.0, right=0.9)
    model = model_with_path()
    found, _ = calibrate(model, held(network, 0 * network))
    loss = [
        float(torch.nn.functional.cross_entropy(network / t, TRUTH))
        for t in (found["temperature"] * 0.95, found["temperature"], found["temperature"] * 1.05)
    ]
    assert loss[1] <= min(loss[0], loss[2])
    assert float(model.temperature) == pytest.approx(found["temperature"])
    assert not found["at_end_of_grid"]


def test_a_temperature_at_the_end_of_its_grid_is_told() -> None:
    """Logits that shout although they know nothing are wrong at any temperature that is tried."""
    found, _ = calibrate(model_with_path(), held(says(200.0, right=0.5), 0 * says(1.0)))
    assert found["temperature"] == pytest.approx(4.0)
    assert found["at_end_of_grid"]


def test_sets_come_from_the_same_windows() -> None:
    """One in twenty is wrong: with 200 trials of one person, 90 % are covered by the right class alone."""
    _, sets = calibrate(model_with_path(), held(says(4.0, right=0.95), 0 * says(1.0)))
    assert (sets.unit, sets.n_units, set(sets.thresholds)) == ("trials", 200, {"all"})
    probs = {"a": 0.9, "b": 0.06, "c": 0.02, "d": 0.02}
    assert sets.prediction_set(probs, ("eeg",), ("eeg",)) == ("a",)


def test_the_two_parts_of_the_logits_add_up() -> None:
    """What the linear path says and what the network adds are the logits of the whole at temperature 1."""
    model, examples = model_with_path(), small_examples(8)
    model.temperature.fill_(3.0)
    subset = scored_subsets(model)["all"]
    parts = held_out_logits(model, examples, subset)
    assert torch.allclose(parts.linear + parts.network, predict_logits(model, examples, subset), atol=1e-5)
    assert bool(parts.network.any())
    (path,) = model.linear_paths()
    x, mask = examples.tensors()
    assert torch.allclose(parts.linear, path(x["eeg"], mask["eeg"]), atol=1e-5)


def test_folds_of_the_training_set_share_no_trial() -> None:
    """Every trial is held out once, by a model that saw none of its windows."""
    examples = dataclasses.replace(small_examples(24), trial=np.arange(24) // 2, label=np.arange(24) // 2 % 4)
    seen: list[set[int]] = []

    def fit(part: Examples) -> Clmer:
        seen.append(set(part.trial.tolist()))
        return model_with_path()

    held_out = cross_fit(examples, {"all": tuple(examples.series)}, fit, seed=1)["all"]
    assert len(held_out.truth) == 24
    assert sorted(held_out.trial.tolist()) == sorted(examples.trial.tolist())
    assert len(seen) == 3
    left = [set(range(12)) - trials for trials in seen]
    assert sorted(trial for trials in left for trial in trials) == list(range(12))
    one_trial = dataclasses.replace(examples, trial=np.zeros(24, dtype=np.int64))
    assert cross_fit(one_trial, {"all": ("eeg",)}, fit, seed=1) == {}


def test_a_network_without_validation_people_is_calibrated_all_the_same() -> None:
    """Two people, all of whom train: the temperature comes from folds of their trials."""
    examples = dataclasses.replace(small_examples(24), person=np.arange(24) % 2, trial=np.arange(24) // 2)
    nobody = examples.take(np.empty(0, dtype=np.int64))
    usual = TrainConfig(dims=WITH_PATH)
    config = dataclasses.replace(usual, fit=dataclasses.replace(usual.fit, epochs=1, batch=16))
    lines: list[dict[str, object]] = []
    data = SplitExamples(PeopleSplit((0, 1), (), ()), examples, nobody, nobody)
    model, sets = train_model(config, data, lines.append)
    assert sets is not None
    assert (sets.unit, sets.n_units) == ("trials", 12)
    (told,) = (line for line in lines if line["stage"] == "calibrate")
    assert told["network_share"] in SHARES
    assert float(model.temperature) == pytest.approx(float(str(told["temperature"])))


@pytest.mark.parametrize(
    ("n_windows", "epochs"),
    [(40, 800), (400, 115), (1999, 25), (2000, 7), (7000, 6), (100_000, 6)],
)
def test_few_windows_are_trained_for_a_number_of_steps(n_windows: int, epochs: int) -> None:
    """800 steps below 2000 windows, 200 from there on, and six epochs at least."""
    assert fit_epochs(n_windows, 64) == epochs


def test_the_recipe_follows_the_data() -> None:
    """A store's windows decide epochs and channels; the paper's recipe stays as it is."""
    store = dataclasses.replace(small_store(), preprocess=PreprocessConfig(modalities=("eeg",)))
    default_views = recipe("default").fit.views
    assert default_views is not None
    found = for_store(recipe("default"), Path("windows"), store)
    assert found.fit.epochs == fit_epochs(len(store.examples), 64)
    assert found.fit.views is not None
    assert found.fit.views.fewer_channels == 0.0
    assert default_views.fewer_channels > 0  # of 36 channels
    assert for_store(recipe("paper"), Path("windows"), store).fit.epochs == recipe("paper").fit.epochs


def test_the_linear_path_is_the_regularized_regression_of_band_powers() -> None:
    """On alpha that tells two classes apart it is right, and its features are those of the baselines."""
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    t = np.arange(256) / 128.0
    eeg = rng.standard_normal((80, 14, 256)) + 2.0 * label[:, None, None] * np.sin(2 * np.pi * 9.25 * t)
    x, mask = torch.from_numpy(eeg).float(), torch.ones(80, 14, dtype=torch.bool)
    mask[:, 5] = False
    model = Clmer(modality_specs(PreprocessConfig(modalities=("eeg",))), 2, WITH_PATH).eval()
    fit_linear_paths(model, {"eeg": x}, {"eeg": mask}, label, np.arange(80))
    (path,) = model.linear_paths()
    assert isinstance(path, LinearPath)
    assert (path(x, mask).argmax(1).numpy() == label).all()
    power = np.log(band_powers(eeg.astype(np.float32), 128.0, BANDS) + MIN_POWER)
    heard = np.delete(path.log_powers(x, mask).numpy(), 5, axis=1)
    assert heard == pytest.approx(np.delete(power, 5, axis=1), abs=1e-3)
    loud = x.clone()
    loud[:, 5] = 1e6
    assert torch.equal(path(x, mask), path(loud, mask))


def test_a_class_that_nobody_showed_is_the_least_likely() -> None:
    """The regression knows two of four classes; the others lie below them."""
    label = np.arange(40) % 2
    model = Clmer(modality_specs(PreprocessConfig(modalities=("eeg",))), 4, WITH_PATH).eval()
    x, mask = torch.randn(40, 14, 256, generator=torch.Generator().manual_seed(0)), torch.ones(40, 14, dtype=torch.bool)
    fit_linear_paths(model, {"eeg": x}, {"eeg": mask}, label, np.arange(40))
    (path,) = model.linear_paths()
    logits = path(x, mask)
    assert bool((logits[:, 2:].max(1).values < logits[:, :2].max(1).values).all())
