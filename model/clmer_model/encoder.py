"""The extractor: one design of convolutional encoder for every modality (paper, section III-C).

A series of the face has the same form as a physiological signal, channels over time, and so the same extractor
and the same contrastive training serve both: three blocks of convolution, batch normalisation, ReLU and pooling.
The first block of a signal may give log power instead, which is what emotion changes in EEG.
"""

import math

import torch
from torch import Tensor, nn

from clmer_model.dims import ClmerDims
from clmer_model.door import make_door
from clmer_model.modalities import ModalitySpec
from clmer_streaming.errors import ArtefactError

MIN_POWER = 0.01  # of a normalised channel, whose mean power is 1; keeps the logarithm finite


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, pooling by ``pool``, dropout."""

    def __init__(self, n_in: int, n_out: int, kernel: int, pool: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self.pool = nn.MaxPool1d(pool) if pool > 1 else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, time / pool) from (B, n_in, time)."""
        y: Tensor = self.dropout(self.pool(torch.relu(self.norm(self.conv(x)))))
        return y


class PowerBlock(nn.Module):
    """Convolution, batch normalisation, then the logarithm of the mean power over ``pool`` steps, dropout.

    The filters find rhythms, and the logarithm makes their power a value that linear maps can compare, as in the
    shallow network of Schirrmeister et al. (2017).
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, pool: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self.pool = nn.AvgPool1d(pool)
        self.floor = MIN_POWER
        self.norm_power = nn.BatchNorm1d(n_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, time / pool) from (B, n_in, time)."""
        power = self.pool(self.norm(self.conv(x)).square())
        y: Tensor = self.dropout(self.norm_power(torch.log(power + self.floor)))
        return y


class ModalityEncoder(nn.Module):
    """Turns one modality of a window into tokens over time, (B, L, out_width).

    A signal's blocks shorten its time axis; a face series keeps its slots, one token each.
    """

    def __init__(self, spec: ModalitySpec, dims: ClmerDims) -> None:
        super().__init__()
        signal = spec.kind == "signal"
        kernels = dims.signal_kernels if signal else (dims.slot_kernel,) * 3
        pools = dims.signal_pools if signal else (1, 1, 1)
        first_block = PowerBlock if signal and dims.signal_power else ConvBlock
        first, second, third = dims.conv_widths
        self.name = spec.name
        self.is_signal = signal
        self.out_width = third
        self.n_tokens = spec.shape[1] // math.prod(pools) if signal else spec.shape[0]
        if self.n_tokens < 1:
            raise ArtefactError(
                expected=f"a series of at least {math.prod(pools)} samples in a window, for one token",
                found=f"{spec.name} of shape {spec.shape}",
                mend="give the series a higher rate in the signal settings, or pool less (signal_pools)",
            )
        self.door = make_door(spec)
        self.blocks = nn.Sequential(
            first_block(self.door.out_channels, first, kernels[0], pools[0], dims.conv_dropout),
            ConvBlock(first, second, kernels[1], pools[1], 0.0),
            ConvBlock(second, third, kernels[2], pools[2], 0.0),
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, L, out_width) and which of them are valid (B, L).

        Args:
            x: (B, C, T) or (B, F, ...) float32, as the modality's specification says.
            mask: (B, C) or (B, F) bool.
        """
        tokens: Tensor = self.blocks(self.door(x, mask)).transpose(1, 2)
        tokens = tokens[:, : self.n_tokens]
        valid = mask.any(1, keepdim=True).expand(-1, self.n_tokens) if self.is_signal else mask
        return tokens, valid


def masked_mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid tokens, (B, width), from (B, L, width) and (B, L); zero where none is valid."""
    weight = valid.to(tokens.dtype).unsqueeze(2)
    kept = torch.where(valid.unsqueeze(2), tokens, torch.zeros_like(tokens))
    return kept.sum(1) / weight.sum(1).clamp_min(1.0)
