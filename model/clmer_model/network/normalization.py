"""Normalizers, one per kind of modality: masked values become zero, the others are brought to a common scale.

Masked values are replaced, not multiplied, so that neither NaN nor infinity behind a mask can pass. Each module turns
one modality into channels over time, (B, channels, time), and appends the mask as further channels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clmer_model.config import ModalitySpec

EEG_CLIP = 8.0  # robust SDs; beyond it is an artifact, not EEG
LOG_SCALE_CLIP = 2.0  # training SDs; keeps an unknown amplifier from leaving the range seen in training
FEATURE_CLIP = 6.0  # training SDs of a landmark coordinate, or of a number of a further series on slots
AU_MAX = 5.0  # upper end of the intensity scale (FACS A-E as 1-5)
MEAN_ABS_TO_SD = 1.2533  # sqrt(pi / 2): SD of a normal variable over its mean absolute value
TINY = 1e-6  # keeps a division finite; far below one microvolt


class SignalNormalizer(nn.Module):
    """Scales a signal by its own window, so that amplifier gain and unit do not matter.

    The scale is the median over the good channels of each channel's robust SD. Its logarithm, standardized by the
    training data, is appended as a channel, and so is the channel mask: (B, C, T) becomes (B, 2C + 1, T).
    """

    log_scale_mean: Tensor
    log_scale_sd: Tensor

    def __init__(self, spec: ModalitySpec) -> None:
        super().__init__()
        self.out_channels = 2 * spec.n_channels + 1
        self.clip, self.level_clip = EEG_CLIP, LOG_SCALE_CLIP
        self.register_buffer("log_scale_mean", torch.tensor(2.0))
        self.register_buffer("log_scale_sd", torch.tensor(1.0))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, 2C + 1, T) from x (B, C, T) in microvolts and mask (B, C)."""
        good = mask.unsqueeze(2)
        x = torch.where(good, x, torch.zeros_like(x))
        scale = signal_scale(x, mask)
        shape = (x.size(0), 1, 1)
        scaled = (x / scale.view(shape)).clamp(-self.clip, self.clip)
        level = ((scale.log() - self.log_scale_mean) / self.log_scale_sd).clamp(-self.level_clip, self.level_clip)
        level = torch.where(mask.any(1), level, torch.zeros_like(level))
        known = good.to(x.dtype).expand_as(x)
        return torch.cat([scaled, known, level.view(shape).expand(-1, 1, x.size(2))], dim=1)


class LandmarkNormalizer(nn.Module):
    """Centres each slot's face, divides by the size of the face in the window, and standardizes each coordinate.

    Size is the root mean square distance of the points from their centre over the window's valid slots, so that neither
    unit nor head size matters. (B, F, 68, 3) becomes (B, 205, F); the last channel is the mask.
    """

    template: Tensor
    scale: Tensor

    def __init__(self, spec: ModalitySpec) -> None:
        super().__init__()
        self.out_channels = spec.n_channels + 1
        self.clip = FEATURE_CLIP
        self.register_buffer("template", torch.zeros(spec.n_channels))
        self.register_buffer("scale", torch.ones(spec.n_channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, 205, F) from x (B, F, 68, 3) and mask (B, F)."""
        shape = unit_shape(x, mask)
        standard = ((shape - self.template) / self.scale).clamp(-self.clip, self.clip)
        return _with_mask(standard, mask)


class ActionUnitNormalizer(nn.Module):
    """Scales intensities from 0-5 to 0-1; presences are 0-1 already. (B, F, 17, 2) becomes (B, 35, F)."""

    unit: Tensor

    def __init__(self, spec: ModalitySpec) -> None:
        super().__init__()
        self.out_channels = spec.n_channels + 1
        self.register_buffer("unit", torch.tensor([AU_MAX, 1.0]))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, 35, F) from x (B, F, 17, 2) and mask (B, F)."""
        return _with_mask((x / self.unit).clamp(0.0, 1.0).flatten(2), mask)


class FeatureNormalizer(nn.Module):
    """Standardizes each number of a further series on slots by the training data. (B, F, n) becomes (B, n + 1, F)."""

    mean: Tensor
    sd: Tensor

    def __init__(self, spec: ModalitySpec) -> None:
        super().__init__()
        self.out_channels = spec.n_channels + 1
        self.clip = FEATURE_CLIP
        self.register_buffer("mean", torch.zeros(spec.n_channels))
        self.register_buffer("sd", torch.ones(spec.n_channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, n + 1, F) from x (B, F, n) and mask (B, F)."""
        return _with_mask(((x - self.mean) / self.sd).clamp(-self.clip, self.clip), mask)


class PlainNormalizer(nn.Module):
    """Passes a small series through unscaled, such as gaze in rad. (B, F, n) becomes (B, n + 1, F)."""

    def __init__(self, spec: ModalitySpec) -> None:
        super().__init__()
        self.out_channels = spec.n_channels + 1

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, n + 1, F) from x (B, F, n) and mask (B, F)."""
        return _with_mask(x.flatten(2), mask)


Normalizer = SignalNormalizer | LandmarkNormalizer | ActionUnitNormalizer | FeatureNormalizer | PlainNormalizer
"""Any of the normalizers."""

_FACE_NORMALIZERS: Mapping[str, type[Normalizer]] = {
    "landmarks": LandmarkNormalizer,
    "aus": ActionUnitNormalizer,
    "gaze": PlainNormalizer,
}


def make_normalizer(spec: ModalitySpec) -> Normalizer:
    """Return the normalizer for the modality."""
    return (
        SignalNormalizer(spec) if spec.kind == "signal" else _FACE_NORMALIZERS.get(spec.name, FeatureNormalizer)(spec)
    )


def signal_scale(x: Tensor, mask: Tensor, to_sd: float = MEAN_ABS_TO_SD, floor: float = TINY) -> Tensor:
    """Return the robust scale (B,) of each window in the unit of x (B, C, T), over the channels in mask (B, C).

    It is the median of the channels' mean absolute values, times ``to_sd``; 1 where no channel is good. The constants
    are arguments because a scripted function cannot read those of its module.
    """
    sd = x.abs().mean(2) * to_sd
    blank = torch.full_like(sd, float("inf"))
    ranked = torch.where(mask, sd, blank).sort(1)[0]  # ONNX has no median
    middle = ((mask.sum(1, keepdim=True) - 1) // 2).clamp_min(0)
    median = ranked.gather(1, middle).squeeze(1)
    return torch.where(mask.any(1), median, torch.ones_like(median)).clamp_min(floor)


def unit_shape(x: Tensor, mask: Tensor, floor: float = TINY) -> Tensor:
    """Return centred landmarks of unit size, (B, F, 3 * 68), zero where masked.

    Args:
        x: (B, F, 68, 3), in any unit.
        mask: (B, F) bool.
        floor: Least size, which keeps the division finite.
    """
    valid = mask.unsqueeze(2).unsqueeze(3)
    x = torch.where(valid, x, torch.zeros_like(x))
    x = x - x.mean(2, keepdim=True)
    n_valid = mask.sum(1).clamp_min(1).to(x.dtype)
    power = x.pow(2).sum(3).mean(2).sum(1) / n_valid
    size = power.sqrt().clamp_min(floor)
    return (x / size.view(-1, 1, 1, 1)).flatten(2)


def _with_mask(x: Tensor, mask: Tensor) -> Tensor:
    """Return (B, n + 1, F) from x (B, F, n): zero where masked, with the mask as the last channel."""
    valid = mask.unsqueeze(2)
    clean = torch.where(valid, x, torch.zeros_like(x))
    return torch.cat([clean, valid.to(x.dtype)], dim=2).transpose(1, 2)
