"""A process of ``tests/model/training/test_distributed.py``: trains a small model with the others, and reports."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from clmer_model.training.config import FitConfig, PretrainConfig
from clmer_model.training.distributed import average_gradients, process_group, rank, rank_rows
from clmer_model.training.fit import fit
from clmer_server.cli import end_with
from tests.support.model_windows import small_model
from tests.support.tiny_training import pretrain_encoder, small_examples

N_ROWS = 42  # of batches of 16 each process gets 8 and 8, then 5


def trained() -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of the weights after both stages, and the lines of the log."""
    examples = small_examples(N_ROWS)
    x, mask = examples.tensors()
    model, lines = small_model(), list[dict[str, Any]]()
    encoder = model.modality_encoders()[2]
    contrast = PretrainConfig(epochs=1, batch=16, lambda_temporal=1.0)
    pretrain_encoder(encoder, x["aus"], mask["aus"], contrast, lines.append)
    fit(model, examples, examples, FitConfig(epochs=2, batch=16), lines.append)
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values()))
    return digest.hexdigest(), lines


def mean_gradient() -> list[float]:
    """Return the gradient of a linear model's mean loss, each process on its share of eight ramps."""
    ramps = torch.arange(24.0).view(8, 3)
    layer = torch.nn.Linear(3, 1, bias=False)
    (rows,) = rank_rows([torch.arange(8)])
    layer(ramps[rows]).mean().backward()
    average_gradients(layer.parameters())
    assert layer.weight.grad is not None
    gradient: list[float] = layer.weight.grad[0].tolist()
    return gradient


def main() -> int:
    """Train with the others, and write the result into the folder."""
    torch.set_num_threads(1)
    with process_group():
        weights, log = trained()
        report = {"weights": weights, "log": log, "gradient": mean_gradient()}
        (Path(sys.argv[1]) / f"{rank()}.json").write_text(json.dumps(report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    end_with(main)  # as ``clmer`` does there
