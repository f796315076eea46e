"""Windows and small models for the tests of the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clmer_model.checkpoint import Checkpoint
from clmer_model.config import LABELS_VA4, MODEL_MODALITIES, ClmerDims, ModalitySpec, modality_specs
from clmer_model.network.clmer import Clmer
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.types import Reason, Window

CONFIG = PreprocessConfig(modalities=MODEL_MODALITIES)
SPECS = modality_specs(CONFIG)
SMALL = ClmerDims(width=16, heads=2, conv_widths=(4, 8, 16), head_width=8)
SUBSETS = [
    ("eeg",), ("landmarks",), ("aus",),
    ("eeg", "landmarks"), ("eeg", "aus"), ("landmarks", "aus"),
    ("eeg", "landmarks", "aus"),
]  # fmt: skip
"""All seven subsets of three modalities."""


def small_model(seed: int = 0) -> Clmer:
    """Return an untrained model in evaluation mode."""
    torch.manual_seed(seed)
    return Clmer(SPECS, len(LABELS_VA4), SMALL).eval()


def small_checkpoint(seed: int = 0) -> Checkpoint:
    """Return an untrained model as a checkpoint."""
    return Checkpoint(small_model(seed), LABELS_VA4, CONFIG, SMALL, "simulated", {"people": 0}, {"none": {}})


def make_window(seed: int = 0, subset: Sequence[str] = MODEL_MODALITIES, reasons: tuple[Reason, ...] = ()) -> Window:
    """Return a window of plausible noise in which the named modalities are measured."""
    rng = np.random.default_rng(seed)
    full = {
        "eeg": 10.0 * rng.standard_normal(SPECS[0].shape),
        "landmarks": 5.0 * rng.standard_normal(SPECS[1].shape),
        "aus": rng.uniform(0.0, 1.0, SPECS[2].shape),
    }
    return Window(
        index=4,
        t_start=0.0,
        t_end=2.0,
        series={name: values if name in subset else np.zeros_like(values) for name, values in full.items()},
        mask={spec.name: np.full(spec.n_masked, spec.name in subset) for spec in SPECS},
        reasons=reasons,
    )


def random_input(
    n: int, seed: int = 0, specs: Sequence[ModalitySpec] = SPECS
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return fully measured model input of noise."""
    rng = torch.Generator().manual_seed(seed)
    x = {spec.name: 3.0 * torch.randn(n, *spec.shape, generator=rng) for spec in specs}
    return x, {spec.name: torch.ones(n, spec.n_masked, dtype=torch.bool) for spec in specs}


def subset_masks(mask: dict[str, Tensor], subset: Sequence[str]) -> dict[str, Tensor]:
    """Return the masks with every modality taken away that is not in the subset."""
    return {name: known & (name in subset) for name, known in mask.items()}
