"""Constants of the model's door, taken from the training people alone."""

from __future__ import annotations

import torch
from torch import Tensor

from clmer_model.clmer import Clmer
from clmer_model.door import FeatureDoor, LandmarkDoor, SignalDoor, signal_scale, unit_shape
from clmer_model.training.views import ViewConfig, landmark_view

MIN_LANDMARK_SD = 0.005  # of a coordinate, in the face's RMS radius (about half a millimetre)
MIN_FEATURE_SHARE = 1e-6  # of a number's mean: an SD below it is the rounding of float32


def fit_doors(model: Clmer, x: dict[str, Tensor], mask: dict[str, Tensor], views: ViewConfig | None, seed: int) -> None:
    """Set the normalisation constants of every door from windows of the training people.

    Landmarks are taken as the views show them: a face of a shape that no simulated person has then stays within
    the range that the door lets through. Without views, they are taken as they are.
    """
    rng = torch.Generator().manual_seed(seed)
    for encoder in model.modality_encoders():
        door, name = encoder.door, encoder.name
        if isinstance(door, SignalDoor):
            _fit_signal(door, x[name], mask[name])
        elif isinstance(door, FeatureDoor):
            _fit_features(door, x[name], mask[name])
        elif isinstance(door, LandmarkDoor):
            seen = x[name] if views is None else landmark_view(x[name], mask[name], views, rng)[0]
            _fit_landmarks(door, seen, mask[name])


def _fit_features(door: FeatureDoor, x: Tensor, mask: Tensor) -> None:
    """Set mean and SD of each number; one that never changes keeps an SD of 1, whatever its size."""
    seen = x[mask].double()
    if len(seen) < 2:
        return
    mean, sd = seen.mean(0), seen.std(0)
    still = sd <= MIN_FEATURE_SHARE * mean.abs()
    door.mean.copy_(mean)
    door.sd.copy_(torch.where(still | (sd == 0), torch.ones_like(sd), sd))


def _fit_signal(door: SignalDoor, x: Tensor, mask: Tensor) -> None:
    present = mask.any(1)
    if int(present.sum()) < 2:
        return
    x = torch.where(mask.unsqueeze(2), x, torch.zeros_like(x))
    level = signal_scale(x, mask)[present].log()
    door.log_scale_mean.copy_(level.mean())
    door.log_scale_sd.copy_(level.std().clamp_min(0.1))


def _fit_landmarks(door: LandmarkDoor, x: Tensor, mask: Tensor) -> None:
    shapes = unit_shape(x, mask)[mask]
    if len(shapes) < 2:
        return
    door.template.copy_(shapes.mean(0))
    door.scale.copy_(shapes.std(0).clamp_min(MIN_LANDMARK_SD))
