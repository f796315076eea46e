"""Training on a GPU. CUDA adds in no fixed order: what is the same bits on a CPU is only close there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.export import export
from clmer_model.predictor import Predictor
from clmer_model.training.config import FitConfig, PretrainConfig, TrainConfig
from clmer_model.training.estimators import NetworkEstimator
from clmer_model.training.fit import SupervisedStage
from clmer_model.training.optimizer import ResumeFile
from clmer_model.training.train import SPLIT_NAME, Run, train
from tests.support.model_windows import SMALL, make_window, small_model
from tests.support.tiny_training import small_examples

pytestmark = [
    pytest.mark.gpu,
    # Torch says so when its thread of gradients is the first to use cuBLAS; it then makes the context itself.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA context:UserWarning"),
]

DEVICE = "cuda"
CLOSE = 1e-2  # of a loss, relative; rounding that differs grows from step to step


def tiny(mixed_precision: bool = False) -> TrainConfig:
    """Return a recipe for a few people with strong effects."""
    return TrainConfig(
        n_people=6,
        n_trials=4,
        sim_preset="easy",
        dims=SMALL,
        pretrain=PretrainConfig(epochs=1, batch=32, lambda_temporal=1.0, mixed_precision=mixed_precision),
        fit=FitConfig(
            epochs=10, batch=16, learning_rate=3e-3, encoder_learning_rate=3e-3, mixed_precision=mixed_precision
        ),
        device=DEVICE,
    )


def numbers(line: dict[str, Any]) -> dict[str, float]:
    """Return the losses of a line of the log."""
    return {name: value for name, value in line.items() if isinstance(value, float)}


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_a_model_trained_on_cuda_serves_on_a_cpu(mixed_precision: bool, tmp_path: Path, people_cache: Path) -> None:
    """In float32 and in mixed precision the loss falls, and the exported file answers windows on the CPU."""
    lines: list[dict[str, Any]] = []
    trained = train(tiny(mixed_precision), Run(tmp_path / "run", people_cache, lines.append, lambda made, _: made))
    losses = [line["loss"] for line in lines if "loss" in line and line["stage"] == "fit"]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert losses[-1] < 0.9 * losses[0]
    assert set(trained.scores[SPLIT_NAME]) == {"all", "eeg", "face"}
    checkpoint = load_checkpoint(tmp_path / "run")
    assert {value.dtype for value in checkpoint.model.parameters()} == {torch.float32}
    export(checkpoint, tmp_path / "tiny.ts")
    (answer,) = Predictor(find_artifact(str(tmp_path / "tiny.ts")), "cpu").predict([make_window()])
    assert answer.probs is not None
    assert sum(answer.probs.values()) == pytest.approx(1.0, abs=1e-5)


def test_a_resume_state_taken_on_cuda_is_restored_there(tmp_path: Path) -> None:
    """Weights, optimiser and both random states come back bit for bit; the epochs that follow are close."""
    config = FitConfig(epochs=4, batch=16)
    examples, file = small_examples(64), ResumeFile(tmp_path, {"batch": 16}, "these")
    fitting = SupervisedStage(small_model().to(DEVICE), examples, examples, config)
    for _ in range(2):
        fitting.run_epoch()
    file.write(fitting.resume_state(), n_lines=2)
    expected = [fitting.run_epoch() for _ in range(2)]

    resumed = SupervisedStage(small_model(seed=9).to(DEVICE), examples, examples, config)
    kept, _ = file.read()
    resumed.restore(kept)
    again = resumed.resume_state()
    assert again.values == kept.values
    assert again.tensors.keys() == kept.tensors.keys()
    assert ("random.cuda" in kept.tensors) is (DEVICE == "cuda")
    for name, value in again.tensors.items():
        assert torch.equal(value.cpu(), kept.tensors[name]), name
    for line in expected:
        assert numbers(resumed.run_epoch()) == pytest.approx(numbers(line), rel=CLOSE)


def test_the_same_seed_gives_close_losses() -> None:
    """Two trainings that begin alike draw the same batches, views and dropout; only the last digits differ."""
    examples, config = small_examples(64), FitConfig(epochs=3, batch=16)
    runs = []
    for _ in range(2):
        fitting = SupervisedStage(small_model().to(DEVICE), examples, examples, config)
        runs.append([fitting.run_epoch() for _ in range(3)])
    for line, other in zip(*runs, strict=True):
        assert numbers(other) == pytest.approx(numbers(line), rel=CLOSE)


def test_a_learner_on_cuda_answers_in_the_host_s_memory() -> None:
    """What ``clmer evaluate --device cuda`` scores are probabilities as NumPy arrays, for whole windows and EEG."""
    examples = small_examples(24)
    config = TrainConfig(
        dims=SMALL, pretrain=PretrainConfig(epochs=1, batch=8), fit=FitConfig(epochs=1, batch=8), device=DEVICE
    )
    subsets = {"all": tuple(examples.series), "eeg": ("eeg",)}
    estimator = NetworkEstimator(config, report=lambda line: None)
    answers = estimator.fit_predict(examples, examples, examples, subsets, lambda share: None)
    for probs in answers.values():
        assert probs.shape == (24, 4)
        assert probs.sum(1) == pytest.approx(np.ones(24))
