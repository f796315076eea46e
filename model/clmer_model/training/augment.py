"""Augmentations of windows, legal for each modality and drawn anew at every call.

They act on values in the units of the window (microvolts, centimetres, intensity points, rad), before the model's
normalizers. This table lists all that is legal:

=========  ==========================================================  =============================================
modality   legal                                                       not legal, and why
=========  ==========================================================  =============================================
eeg        fewer channels, referenced to the mean of the rest; gain    one channel copied over others: montages differ;
           of each channel; noise relative to the channel's SD;
           one band stopped, one time shift and one blank stretch,     a shift or a band of each channel: phases and
           the same in all channels; channels dropped                  rhythms across the head are lost; parts of a
                                                                       window in another order: no such signal
further    as EEG, but no band stopped: amplifiers and electrodes     band-stop: breath and skin conductance fill one
signals    differ in gain and noise there, too                         narrow band, and a beat is all of its bands
landmarks  scale of the face; noise; one change of shape for all       mirroring or turning: left and right, and pose,
           slots; slots dropped                                        are removed or described elsewhere; band-stop:
                                                                       eight slots have no spectrum
aus        scale of all intensities and an offset of each unit, the    a change of sign, values outside 0-5, band-stop,
           same in all slots; noise where not zero; slots dropped;     presences altered without their cause: no face
           intensities stay in 0-5, presences as they are              looks so
gaze       one small offset for all slots, as of an eye tracker that   scale, mirroring, noise that hides a look
           was never calibrated; a little noise; slots dropped         elsewhere: where one looked, and when that
                                                                       changed, is the meaning; band-stop, as above
further    as gaze, relative to each value's SD over the batch         scale, a change of sign, band-stop: the meaning
slots                                                                  of a value is not known
=========  ==========================================================  =============================================

No augmentation moves a value to another channel or makes anything masked measured. Before a temporal loss, nothing may
move in time: no shift, and no band stopped, whose filter spreads every sample over the window. The others read SD and
size from the window they are given, so the past is cut off first and augmented on its own.

``augmentation_of`` returns the function of a modality; ``drop_modalities`` masks whole modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from clmer_model.network.normalization import AU_MAX
from clmer_model.training.config import AugmentationConfig
from clmer_streaming.face.layout import N_LANDMARKS

Augmentation = Callable[[Tensor, Tensor, AugmentationConfig, torch.Generator], tuple[Tensor, Tensor]]
"""Takes series, mask, strengths and a generator; returns a new series and a new mask."""


def augment_signal(x: Tensor, mask: Tensor, config: AugmentationConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a signal with channel gains, noise, a shift, a blank stretch and dropped channels.

    Args:
        x: (B, C, T) float32.
        mask: (B, C) bool.
        config: Strengths; those named ``eeg_`` hold for every signal.
        rng: Source of randomness.
    """
    n, channels, times = x.shape
    low, high = (torch.tensor(bound).log() for bound in config.eeg_gain)
    gain = torch.exp(low + (high - low) * torch.rand(n, channels, 1, generator=rng))
    sd = x.std(2, correction=min(1, times - 1), keepdim=True)
    level = config.eeg_jitter * torch.rand(n, 1, 1, generator=rng) * sd
    x = (x + level * torch.randn(x.shape, generator=rng)) * gain
    most, longest = min(config.eeg_shift, times // 8), min(config.eeg_blank, times // 4)
    shift = torch.randint(-most, most + 1, (n, 1), generator=rng)
    source = torch.arange(times) - shift
    start = torch.randint(0, times, (n, 1), generator=rng)
    length = torch.randint(0, longest + 1, (n, 1), generator=rng)
    blank = (torch.arange(times) >= start) & (torch.arange(times) < start + length)
    shown = (source >= 0) & (source < times) & ~blank
    moved = x.gather(2, source.clamp(0, times - 1).unsqueeze(1).expand(-1, channels, -1))
    return moved * shown.unsqueeze(1), drop(mask, config.channel_dropout, rng)


def augment_eeg(x: Tensor, mask: Tensor, config: AugmentationConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return EEG (B, C, T) as of fewer electrodes, without one band, and augmented by ``augment_signal``."""
    if config.fewer_channels:
        x, mask = keep_some_channels(x, mask, config.fewer_channels, config.least_channels, rng)
    return augment_signal(stop_band(x, config.eeg_band_stop, rng), mask, config, rng)


def keep_some_channels(
    x: Tensor, mask: Tensor, share: float, least: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return EEG as caps with fewer electrodes would have measured it, referenced to the mean of those.

    Args:
        x: (B, C, T), referenced to the mean of the channels in ``mask``.
        mask: (B, C) bool.
        share: Of the samples that lose channels.
        least: Fewest channels that stay; any number from there up to all is equally likely.
        rng: Source of randomness.
    """
    n, channels = mask.shape
    measured = mask.sum(1, keepdim=True)
    n_kept = least + ((measured - least + 1).clamp_min(0) * torch.rand(n, 1, generator=rng)).floor()
    n_kept = torch.where(torch.rand(n, 1, generator=rng) < share, n_kept, torch.full_like(n_kept, channels))
    order = torch.rand(n, channels, generator=rng).masked_fill(~mask, 2.0).argsort(1).argsort(1)
    kept = mask & (order < n_kept)
    return channels_alone(x, mask, kept), kept


def channels_alone(x: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
    """Return EEG (B, C, T) as a cap of some of its electrodes would have measured it; the others are 0.

    Args:
        x: (B, C, T), referenced to the mean of the channels in ``mask``.
        mask: (B, C) bool.
        kept: (B, C) bool, part of ``mask``: the electrodes of that cap, to whose mean it is referenced.
    """
    shown = torch.where(kept.unsqueeze(2), x, torch.zeros_like(x))
    mean = shown.sum(1, keepdim=True) / kept.sum(1).clamp_min(1).view(-1, 1, 1)
    fewer = (kept.sum(1) < mask.sum(1)).view(-1, 1, 1)
    return torch.where(fewer, torch.where(kept.unsqueeze(2), x - mean, torch.zeros_like(x)), x)


def stop_band(x: Tensor, widest: float, rng: torch.Generator) -> Tensor:
    """Return signals (B, C, T) of which each sample lacks one band, at a random place and of a random width.

    Args:
        x: The signals.
        widest: Greatest width, as a share of the range from 0 to half the rate; 0 returns ``x`` itself.
        rng: Source of randomness.
    """
    if widest == 0:
        return x
    place, width = torch.rand(x.size(0), 1, 1, generator=rng), widest * torch.rand(x.size(0), 1, 1, generator=rng)
    spectrum = torch.fft.rfft(x)
    distance = (torch.linspace(0.0, 1.0, spectrum.size(2)) - place).abs()
    kept: Tensor = torch.fft.irfft(spectrum * (distance > width / 2), n=x.size(2))
    return kept


IDENTITY_SPAN = 5  # landmarks that share most of their identity shift; contours are numbered along themselves


def augment_landmarks(
    x: Tensor, mask: Tensor, config: AugmentationConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return landmarks (B, F, 68, 3) of another scale and identity, with noise and dropped slots (B, F)."""
    low, high = config.landmark_scale
    scale = low + (high - low) * torch.rand(x.size(0), 1, 1, 1, generator=rng)
    radius = (x - x.mean(2, keepdim=True)).pow(2).sum(3).mean(2).sqrt().view(x.size(0), -1, 1, 1)
    noise = config.landmark_jitter * radius * torch.randn(x.shape, generator=rng)
    size = torch.where(mask.view(radius.shape), radius, torch.zeros_like(radius)).amax(1, keepdim=True)
    identity = _identity(x.size(0), config, rng) * size
    return x * scale + noise + identity, drop(mask, config.slot_dropout, rng)


def _identity(n: int, config: AugmentationConfig, rng: torch.Generator) -> Tensor:
    """Return shifts (n, 1, 68, 3) in RMS radii, smooth along contours, with the SD that ``config`` gives each axis."""
    white = torch.randn(n, 3, N_LANDMARKS, generator=rng)
    reach = IDENTITY_SPAN // 2
    wrapped = torch.cat([white[..., -reach:], white, white[..., :reach]], dim=2)
    smooth = wrapped.unfold(2, IDENTITY_SPAN, 1).sum(3) / IDENTITY_SPAN**0.5
    shift: Tensor = smooth.transpose(1, 2) * torch.tensor(config.landmark_identity)
    return shift.unsqueeze(1)


def augment_aus(x: Tensor, mask: Tensor, config: AugmentationConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return action units (B, F, 17, 2) with scaled, shifted, noisy intensities in 0-5 and dropped slots (B, F)."""
    low, high = config.au_scale
    scale = low + (high - low) * torch.rand(x.size(0), 1, 1, generator=rng)
    intensity = x[..., 0]
    noise = config.au_jitter * torch.randn(intensity.shape, generator=rng) * (intensity > 0)
    offset = config.au_offset * torch.randn(x.size(0), 1, x.size(2), generator=rng)
    moved = (intensity * scale + noise + offset).clamp(0.0, AU_MAX)
    return torch.stack([moved, x[..., 1]], dim=3), drop(mask, config.slot_dropout, rng)


def augment_gaze(x: Tensor, mask: Tensor, config: AugmentationConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return gaze (B, F, 2) in rad with an offset for all slots, noise and dropped slots (B, F)."""
    offset = config.gaze_offset * torch.randn(x[:, :1].shape, generator=rng)
    noise = config.gaze_jitter * torch.randn(x.shape, generator=rng)
    return x + offset + noise, drop(mask, config.slot_dropout, rng)


def augment_slots(x: Tensor, mask: Tensor, config: AugmentationConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return values of any kind (B, F, ...) with an offset for all slots, noise and dropped slots (B, F)."""
    sd = _slot_sd(x, mask)
    offset = config.slot_offset * sd * torch.randn(x[:, :1].shape, generator=rng)
    noise = config.slot_jitter * sd * torch.randn(x.shape, generator=rng)
    return x + offset + noise, drop(mask, config.slot_dropout, rng)


def _slot_sd(x: Tensor, mask: Tensor) -> Tensor:
    """Return the SD of each value over the measured slots of all samples, of the shape of a slot; 0 without any."""
    measured = x.detach()[mask]
    return measured.std(0, correction=0) if len(measured) else torch.zeros(x.shape[2:], dtype=x.dtype)


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "eeg": augment_eeg,
    "landmarks": augment_landmarks,
    "aus": augment_aus,
    "gaze": augment_gaze,
}
"""Augmentations of the modalities whose meaning is known."""


def augmentation_of(name: str, is_signal: bool) -> Augmentation:
    """Return the augmentation of a modality; further series have the general one of signals or of slots."""
    return AUGMENTATIONS.get(name, augment_signal if is_signal else augment_slots)


def drop(mask: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Return the mask (B, n) with entries removed at random; a row that had any keeps at least one."""
    kept = mask & (torch.rand(mask.shape, generator=rng) >= probability)
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def drop_modalities(mask: Mapping[str, Tensor], probability: float, rng: torch.Generator) -> dict[str, Tensor]:
    """Return the masks with whole modalities removed from some samples.

    With ``probability`` a sample keeps a random number of modalities, at least one and not all, chosen at random. One
    that was measured is always among them, so that no sample becomes empty.

    Args:
        mask: By modality, (B, C) or (B, F) bool. One alone is never removed.
        probability: Share of the samples that lose some.
        rng: Source of randomness.
    """
    names = list(mask)
    n, m = next(iter(mask.values())).size(0), len(names)
    if m == 1:
        return dict(mask)
    n_kept = torch.randint(1, m, (n, 1), generator=rng)
    absent = torch.stack([~known.any(1) for known in mask.values()], dim=1)
    rank = (torch.rand(n, m, generator=rng) + absent).argsort(1).argsort(1)
    hit = torch.rand(n, 1, generator=rng) < probability
    kept = (rank < n_kept) | ~hit
    return {name: mask[name] & kept[:, i : i + 1] for i, name in enumerate(names)}
