"""Whole training runs in small: each preset to a prediction, frozen extractors, curves, the command."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.config import modality_specs
from clmer_model.data.examples import Examples
from clmer_model.export import export
from clmer_model.network.clmer import Clmer
from clmer_model.predictor import Predictor
from clmer_model.training.config import AugmentationConfig, FitConfig, PretrainConfig, TrainConfig, recipe
from clmer_model.training.fit import SupervisedStage, fit
from clmer_model.training.train import draw_curves, train
from clmer_server.cli import main
from clmer_streaming.errors import DeviceError, SettingsError
from clmer_streaming.simulation.config import CAP_NAMES
from clmer_streaming.types import Window
from tests.support.model_windows import SMALL, SPECS, small_model
from tests.support.tiny_training import pretrain_encoder, run_in, small_examples, tiny


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_preset_goes_from_people_to_a_prediction(preset: str, tmp_path: Path, people_cache: Path) -> None:
    """Trained, exported and loaded, it answers a window of its own settings with a probability for each class."""
    trained = train(tiny(preset), run_in(tmp_path / "run", people_cache))
    assert trained.training["preset"] == preset
    export(load_checkpoint(tmp_path / "run"), tmp_path / "tiny.ts")
    predictor = Predictor(find_artifact(str(tmp_path / "tiny.ts")), "cpu")
    assert predictor.meta.dims == trained.dims
    specs = modality_specs(trained.preprocess)
    rng = np.random.default_rng(0)
    window = Window(
        index=0,
        t_start=0.0,
        t_end=trained.preprocess.window.window_s,
        series={spec.name: rng.standard_normal(spec.shape) for spec in specs},
        mask={spec.name: np.ones(spec.n_masked, bool) for spec in specs},
    )
    (answer,) = predictor.predict([window])
    assert answer.probs is not None
    assert set(answer.probs) == set(trained.labels)
    assert sum(answer.probs.values()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_extractors_stay_as_they_are(frozen: bool) -> None:
    """Neither weights nor the statistics of batch normalisation move, while the fusion learns."""
    model, examples = small_model(), small_examples()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, examples, examples, FitConfig(epochs=2, batch=8, freeze_encoders=frozen), lambda line: None)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {"unifiers", "targets", "classifier"}
    assert ("encoders" in moved) is not frozen


def test_frozen_features_have_no_dropout() -> None:
    """While the fusion trains, a frozen extractor gives the features of evaluation mode."""
    model, examples = small_model(), small_examples()
    config = FitConfig(epochs=1, batch=24, freeze_encoders=True, views=None, modality_dropout=0.0)
    x, mask = examples.tensors()
    encoder = model.modality_encoders()[0]
    expected = encoder(x["eeg"], mask["eeg"])[0]
    seen: list[torch.Tensor] = []
    encoder.register_forward_hook(lambda module, given, result: seen.append(result[0]))
    SupervisedStage(model, examples, examples, config).run_epoch()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(config.seed))
    assert torch.allclose(seen[0], expected[order], atol=1e-5)


def test_training_stops_when_nothing_improves() -> None:
    """With labels that the validation people contradict, it ends after the first epochs without a better loss."""
    examples = small_examples()
    wrong = dataclasses.replace(examples, label=(examples.label + 1) % 4)
    lines: list[dict[str, Any]] = []
    config = FitConfig(epochs=60, batch=8, learning_rate=1e-2, stop_after=3, warm_up=0.0)
    best = fit(small_model(), examples, wrong, config, lines.append)
    assert len(lines) < 60
    losses = [line["validation"] for line in lines]
    assert best == min(losses) == losses[-4]


def test_the_plateau_lowers_the_learning_rate() -> None:
    """When the validation loss rises for longer than the patience, the rate falls by the factor."""
    examples = small_examples()
    wrong = dataclasses.replace(examples, label=(examples.label + 1) % 4)
    config = FitConfig(epochs=12, batch=8, learning_rate=1e-2, schedule="plateau", plateau_patience=1)
    fitting = SupervisedStage(small_model(), examples, wrong, config)
    for _ in range(12):
        fitting.run_epoch()
    rate = fitting.resume_state().values["groups"][0]["lr"]
    assert rate in [pytest.approx(1e-2 * 0.6**n) for n in range(1, 7)]


def test_the_paper_recipe_is_the_papers() -> None:
    """Adam at 3e-4 with 500 epochs, then at 1e-3 with 300 and a plateau of 20; batches of 64; scaling and jittering."""
    paper = recipe("paper")
    assert (paper.pretrain.learning_rate, paper.pretrain.weight_decay) == (3e-4, 3e-4)
    assert (paper.pretrain.epochs, paper.pretrain.batch, paper.fit.epochs, paper.fit.batch) == (500, 64, 300, 64)
    assert (paper.fit.learning_rate, paper.fit.schedule, paper.fit.plateau_patience) == (1e-3, "plateau", 20)
    named = ("eeg_gain", "eeg_jitter", "landmark_scale", "landmark_jitter", "au_scale", "au_jitter")
    views, usual = dataclasses.asdict(paper.pretrain.views), dataclasses.asdict(AugmentationConfig())
    ours = ("gaze_jitter", "slot_jitter", "least_channels")  # of what the paper's tables do not have
    assert {name: views[name] for name in (*named, *ours)} == {name: usual[name] for name in (*named, *ours)}
    assert all(not np.any(value) for name, value in views.items() if name not in (*named, *ours))
    assert recipe("paper", width=60).dims.width == 60
    shipped = dataclasses.replace(TrainConfig(), preprocess=recipe().preprocess, caps=CAP_NAMES, fit=recipe().fit)
    assert recipe() == shipped


def test_curves_are_drawn(tmp_path: Path) -> None:
    """The picture is a PNG, even of a training without a contrastive stage."""
    lines = [{"stage": "fit", "epoch": i, "loss": 1.0 / (i + 1), "validation": 1.0} for i in range(3)]
    draw_curves(lines, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_models_without_a_face_are_trained_too() -> None:
    """A model of EEG and gaze has whole windows and EEG alone as its subsets."""
    rng = np.random.default_rng(0)
    specs = (SPECS[0], dataclasses.replace(SPECS[1], name="gaze", shape=(8, 2)))
    who = np.arange(16)
    examples = Examples(
        {spec.name: rng.standard_normal((16, *spec.shape)).astype(np.float32) for spec in specs},
        {spec.name: np.ones((16, spec.n_masked), bool) for spec in specs},
        who % 4,
        who,
        who,
    )
    lines: list[dict[str, Any]] = []
    fit(Clmer(specs, 4, SMALL), examples, examples, FitConfig(epochs=1, batch=8), lines.append)
    assert {"all", "eeg"} <= set(lines[0])
    assert "face" not in lines[0]


def test_mixed_precision_is_for_cuda(tmp_path: Path) -> None:
    """On a CPU it is refused before anything is made, and so is a device that is not there."""
    config = tiny("default", mixed_precision=True)
    with pytest.raises(SettingsError, match="CUDA"):
        train(config, run_in(tmp_path / "run", tmp_path))
    with pytest.raises(DeviceError):
        train(dataclasses.replace(tiny("default"), device="cuda:99"), run_in(tmp_path / "run", tmp_path))


def test_mixed_precision_reaches_every_weight_in_float32() -> None:
    """Both stages in bfloat16, which a CPU computes too, give finite losses and leave the weights in float32."""
    model, examples = small_model(), small_examples()
    lines: list[dict[str, Any]] = []
    x, mask = examples.tensors()
    contrast = PretrainConfig(epochs=1, batch=8, lambda_temporal=1.0, mixed_precision=True)
    for encoder in model.modality_encoders():
        pretrain_encoder(encoder, x[encoder.name], mask[encoder.name], contrast, lines.append)
    fit(model, examples, examples, FitConfig(epochs=1, batch=8, mixed_precision=True), lines.append)
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_the_command_trains_with_its_options(
    tmp_path: Path, people_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``clmer train`` with a preset's switches writes the checkpoint, the curves and the picture."""
    given = [
        *("train", "--out", str(tmp_path / "run"), "--cache", str(people_cache), "--people", "5", "--trials", "2"),
        *("--sim-preset", "easy", "--epochs", "1", "--pretrain-epochs", "1", "--lambda-sample", "0.7"),
        *("--lambda-temporal", "1", "--negatives", "time", "--freeze"),
    ]
    assert main(given) == 0
    training = load_checkpoint(tmp_path / "run").training
    assert training["pretrain"]["negatives"] == "time"
    assert training["pretrain"]["lambda_temporal"] == 1.0
    assert training["fit"]["freeze_encoders"] is True
    stages = [json.loads(line)["stage"] for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    assert stages == ["examples", *(f"pretrain {s.name}" for s in SPECS), "fit", "calibrate", "test"]
    assert (tmp_path / "run" / "curves.png").is_file()
    told = capsys.readouterr()
    assert "checkpoint" in told.out
    assert "fit: epoch 1 of 1, loss" in told.err


def test_the_command_stops_when_nothing_improves(
    tmp_path: Path, people_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--stop-after 1`` ends with the first epoch that is no better than the best; a terminal's bar is full then."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if in a terminal
    given = [
        *("train", "--out", str(tmp_path / "run"), "--cache", str(people_cache), "--people", "5", "--trials", "2"),
        *("--sim-preset", "easy", "--pretrain-epochs", "0", "--epochs", "60", "--stop-after", "1"),
    ]
    assert main(given) == 0
    assert load_checkpoint(tmp_path / "run").training["fit"]["stop_after"] == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    losses = [line["validation"] for line in lines if line["stage"] == "fit"]
    assert len(losses) < 60
    assert losses[:-1] == sorted(losses[:-1], reverse=True)
    assert losses[-1] >= losses[-2]
    assert f"{len(losses)}/{len(losses)}" in re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--preset", "large"], "default, paper"),
        (["--preset", "paper", "--width", "52"], "heads 5"),
        (["--lambda-sample", "0"], "lambda_temporal"),
        (["--resume"], "train without --resume"),
        (["--stop-after", "0"], "raise --epochs or --stop-after"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear error, and nothing is trained."""
    assert main(["train", "--out", str(tmp_path / "run"), *options]) == 2
    assert said in capsys.readouterr().err
