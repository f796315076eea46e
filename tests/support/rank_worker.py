"""A process of ``tests/test_ranks.py``: trains a small model with the others, and says what it ended with."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clmer_model.data.examples import Examples
from clmer_model.training.config import FitConfig, PretrainConfig
from clmer_model.training.distributed import average_gradients, joined, rank, shares
from clmer_model.training.fit import fit
from clmer_server.web.service import end_with
from tests.support.model_windows import random_input, small_model
from tests.support.tiny_training import pretrain_encoder

N_ROWS = 42  # of batches of 16 each process gets 8 and 8, then 5


def trained() -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of the weights after both stages, and the lines of the log."""
    x, mask = random_input(N_ROWS)
    who = np.arange(N_ROWS)
    series, known = ({name: t.numpy() for name, t in part.items()} for part in (x, mask))
    examples = Examples(series, known, who % 4, who, who)
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
    (rows,) = shares([torch.arange(8)])
    layer(ramps[rows]).mean().backward()
    average_gradients(layer.parameters())
    assert layer.weight.grad is not None
    gradient: list[float] = layer.weight.grad[0].tolist()
    return gradient


def main() -> int:
    """Train with the others, and leave what came of it in the folder."""
    torch.set_num_threads(1)
    with joined():
        weights, log = trained()
        said = {"weights": weights, "log": log, "gradient": mean_gradient()}
        (Path(sys.argv[1]) / f"{rank()}.json").write_text(json.dumps(said), encoding="utf-8")
    return 0


if __name__ == "__main__":
    end_with(main)  # as ``clmer`` does there
