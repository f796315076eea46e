"""Windows into tensors: the one place where float64 becomes float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clmer_model.modalities import ModalitySpec
from clmer_streaming.types import Window


def stack_windows(
    windows: Sequence[Window], specs: Sequence[ModalitySpec], device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the model's input: series (B, ...) float32 and masks (B, n) bool, by modality.

    Raises:
        ValueError: A window's series is not of the modality's shape.
    """
    x: dict[str, Tensor] = {}
    mask: dict[str, Tensor] = {}
    for spec in specs:
        for window in windows:
            shape = window.series[spec.name].shape
            if shape != spec.shape:
                raise ValueError(f"expected {spec.name} of shape {spec.shape}, got {shape}")
        series = np.stack([window.series[spec.name] for window in windows])
        with np.errstate(over="ignore"):
            x[spec.name] = torch.from_numpy(series.astype(np.float32)).to(device)
        mask[spec.name] = torch.from_numpy(np.stack([window.mask[spec.name] for window in windows])).to(device)
    return x, mask


def used_modalities(window: Window, specs: Sequence[ModalitySpec]) -> tuple[str, ...]:
    """Return the modalities of which the window holds any measured value."""
    return tuple(spec.name for spec in specs if bool(window.mask[spec.name].any()))
