"""EEG's front end: the power of each channel in each band, as a logarithm, before channels are mixed.

Most of what is known of emotion in EEG is known of band power at an electrode (asymmetry, for one). A filter bank that
all channels share begins at the usual bands and may learn better ones; the logarithm makes power a value that linear
maps can compare, as in the filter bank networks that followed Schirrmeister et al. (2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BANDS = ((4, 6), (6, 8), (8, 10.5), (10.5, 13), (13, 20), (20, 30), (30, 45))
"""Hz: theta and alpha in halves, lower and upper beta, lower gamma; what 4 to 45 Hz hold."""

SFREQ = 128.0  # Hz, at which the filters begin as bands of that frequency; at another rate they learn from elsewhere
KERNEL = 65  # samples, half a second
STRIDE = 2  # samples; the power of a rhythm needs no more points
POOL = 32  # samples, a quarter of a second, over which power is a mean
MIN_BAND_POWER = 1e-3  # of a normalised channel, whose mean power is 1; keeps the logarithm finite


class BandPowerBlock(nn.Module):
    """Turns the door's channels over time (B, 2C + 1, T) into log powers, mixed over channels, (B, n_out, T / POOL).

    Args:
        n_channels: C, of the signal; the door appends their masks and the level.
        n_out: Width of the result.
        dropout: Of the result.
    """

    def __init__(self, n_channels: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.n_bands = len(BANDS)
        self.floor = MIN_BAND_POWER
        self.bank = nn.Conv1d(1, self.n_bands, KERNEL, stride=STRIDE, padding=KERNEL // 2, bias=False)
        self.bank.weight.data.copy_(filter_bank())
        self.pool = nn.AvgPool1d(POOL // STRIDE)
        self.pool_told = nn.AvgPool1d(POOL)
        self.norm_power = nn.BatchNorm1d(n_channels * self.n_bands)
        self.mix = nn.Conv1d(n_channels * (self.n_bands + 1) + 1, n_out, 1, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, T / POOL) from (B, 2C + 1, T)."""
        n, c = x.size(0), self.n_channels
        rhythms = self.bank(x[:, :c].reshape(n * c, 1, x.size(2)))
        power = torch.log(self.pool(rhythms.square()) + self.floor).reshape(n, c * self.n_bands, -1)
        told = self.pool_told(x[:, c:])
        known = told[:, :c].repeat_interleave(self.n_bands, dim=1)
        y: Tensor = self.dropout(self.norm(self.mix(torch.cat([self.norm_power(power) * known, told], dim=1))))
        return y


def filter_bank() -> Tensor:
    """Return band-passes (bands, 1, KERNEL): cosines under a Hamming window, of gain 2 at their middle."""
    t = (torch.arange(KERNEL, dtype=torch.float64) - KERNEL // 2) / SFREQ
    window = torch.hamming_window(KERNEL, periodic=False, dtype=torch.float64)
    centres = torch.tensor([math.fsum(band) / 2 for band in BANDS], dtype=torch.float64)
    cosines = torch.cos(2 * math.pi * centres.unsqueeze(1) * t) * window
    gain = (cosines * torch.cos(2 * math.pi * centres.unsqueeze(1) * t)).sum(1, keepdim=True)
    return (2.0 * cosines / gain).unsqueeze(1).float()
