"""Augmented views of windows, legal for each modality and drawn anew at every call.

Views act on the units of the window (microvolts, centimetres, intensity points), before the model's door. None
moves values between channels, turns the sign of an action unit or leaves its scale, or touches what is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clmer_model.door import AU_MAX


@dataclass(frozen=True)
class ViewConfig:
    """Strengths of the views; those of EEG follow SeqCLR (Mohsenvand et al. 2020)."""

    eeg_gain: tuple[float, float] = (0.5, 2.0)  # of each channel, log-uniform
    eeg_jitter: float = 0.2  # most noise added, in the channel's SD
    eeg_shift: int = 32  # samples, most by which a window is shifted either way; what enters is zero
    eeg_blank: int = 64  # samples, longest stretch set to zero in all channels
    channel_dropout: float = 0.15  # probability that a channel is masked
    slot_dropout: float = 0.1  # probability that a slot of a face series is masked
    landmark_scale: tuple[float, float] = (0.97, 1.03)  # of the whole face
    landmark_jitter: float = 0.01  # SD of noise, in the face's RMS radius
    au_scale: tuple[float, float] = (0.8, 1.25)  # of all intensities of a window
    au_jitter: float = 0.15  # SD of noise on an intensity that is not zero, points


View = Callable[[Tensor, Tensor, ViewConfig, torch.Generator], tuple[Tensor, Tensor]]
"""Takes x, mask, strengths and a generator; gives the view's x and mask, new tensors."""


def eeg_view(x: Tensor, mask: Tensor, config: ViewConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return EEG (B, C, T) with channel gains, noise, a shift, a blank stretch and dropped channels (B, C)."""
    n, channels, times = x.shape
    low, high = (torch.tensor(bound).log() for bound in config.eeg_gain)
    gain = torch.exp(low + (high - low) * torch.rand(n, channels, 1, generator=rng))
    level = config.eeg_jitter * torch.rand(n, 1, 1, generator=rng) * x.std(2, keepdim=True)
    x = (x + level * torch.randn(x.shape, generator=rng)) * gain
    shift = torch.randint(-config.eeg_shift, config.eeg_shift + 1, (n, 1), generator=rng)
    place = torch.arange(times) - shift
    start = torch.randint(0, times, (n, 1), generator=rng)
    length = torch.randint(0, config.eeg_blank + 1, (n, 1), generator=rng)
    blank = (torch.arange(times) >= start) & (torch.arange(times) < start + length)
    shown = (place >= 0) & (place < times) & ~blank
    moved = x.gather(2, place.clamp(0, times - 1).unsqueeze(1).expand(-1, channels, -1))
    return moved * shown.unsqueeze(1), drop(mask, config.channel_dropout, rng)


def landmark_view(x: Tensor, mask: Tensor, config: ViewConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return landmarks (B, F, 68, 3) with a global scale and noise, and dropped slots (B, F)."""
    low, high = config.landmark_scale
    scale = low + (high - low) * torch.rand(x.size(0), 1, 1, 1, generator=rng)
    radius = (x - x.mean(2, keepdim=True)).pow(2).sum(3).mean(2).sqrt().view(x.size(0), -1, 1, 1)
    noise = config.landmark_jitter * radius * torch.randn(x.shape, generator=rng)
    return x * scale + noise, drop(mask, config.slot_dropout, rng)


def au_view(x: Tensor, mask: Tensor, config: ViewConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return action units (B, F, 17, 2) with scaled and jittered intensities in 0-5, and dropped slots (B, F)."""
    low, high = config.au_scale
    scale = low + (high - low) * torch.rand(x.size(0), 1, 1, generator=rng)
    intensity = x[..., 0]
    noise = config.au_jitter * torch.randn(intensity.shape, generator=rng) * (intensity > 0)
    moved = (intensity * scale + noise).clamp(0.0, AU_MAX)
    return torch.stack([moved, x[..., 1]], dim=3), drop(mask, config.slot_dropout, rng)


def plain_view(x: Tensor, mask: Tensor, config: ViewConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the series as it is, with dropped slots."""
    return x.clone(), drop(mask, config.slot_dropout, rng)


VIEWS: Mapping[str, View] = {"eeg": eeg_view, "landmarks": landmark_view, "aus": au_view, "gaze": plain_view}
"""The views of each modality."""


def drop(mask: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Return the mask (B, n) with entries taken away at random; a row that had any keeps at least one."""
    kept = mask & (torch.rand(mask.shape, generator=rng) >= probability)
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def drop_modalities(mask: Mapping[str, Tensor], probability: float, rng: torch.Generator) -> dict[str, Tensor]:
    """Return the masks with whole modalities taken away from some samples.

    With ``probability`` a sample keeps a random number of modalities, at least one and not all, chosen at random.
    """
    names = list(mask)
    n, m = next(iter(mask.values())).size(0), len(names)
    n_kept = torch.randint(1, m, (n, 1), generator=rng)
    rank = torch.rand(n, m, generator=rng).argsort(1).argsort(1)
    hit = torch.rand(n, 1, generator=rng) < probability
    kept = (rank < n_kept) | ~hit
    return {name: mask[name] & kept[:, i : i + 1] for i, name in enumerate(names)}
