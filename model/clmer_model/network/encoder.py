"""The encoder: one convolutional design for every modality (paper, section III-C).

A series of the face has the same form as a physiological signal, channels over time; the same encoder and the same
contrastive training serve both: three blocks of convolution, batch normalization, ReLU and pooling. The first block of
a signal may compute log power instead, which is what emotion changes in EEG. ``ModalityEncoder`` comes first, then its
blocks.

The convolutions run over the time of a signal. Over a face series they run according to the layout:

- ``slots``: over its slots, all numbers of a slot being channels. The mask is appended as a channel.
- ``points``: over its points, slot after slot, with the values of a point as channels: 3 of a landmark, 2 of an action
  unit. This is the paper's own layout, whose windows hold one frame. Masked values are zero, and no channel marks them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clmer_model.config import ClmerDims, ModalitySpec
from clmer_model.electrodes import Position, electrode_positions
from clmer_model.network.normalization import make_normalizer
from clmer_streaming.errors import ArtifactError

BANDS = ((4, 6), (6, 8), (8, 10.5), (10.5, 13), (13, 20), (20, 30), (30, 45))
"""Hz: theta and alpha in halves, lower and upper beta, lower gamma; together the range of 4 to 45 Hz."""


SFREQ = 128.0  # Hz, for which the filters are initialized to the bands; at another rate they start off them
KERNEL = 65  # samples, half a second
STRIDE = 2  # samples; enough points for the power of these bands
POOL = 32  # samples, a quarter of a second, over which power is a mean
MIN_BAND_POWER = 1e-3  # of a normalized channel, whose mean power is 1; keeps the logarithm finite
MIN_POWER = 0.01  # the same, in PowerBlock
N_POLYNOMIALS = 9  # of an electrode's position, up to degree two
EMBEDDING_SD = 0.02  # of the embedding of a channel without a position, before training
LOWEST_SCORE = -1e9  # of a channel that was not measured; all alike where none was


class ModalityEncoder(nn.Module):
    """Encodes one modality of a window as tokens over its steps, (B, L, out_width).

    The blocks of a signal shorten its time axis; in layout ``slots`` a face series keeps its slots, one token each.

    Args:
        spec: The modality.
        dims: Sizes of the network.

    Raises:
        ArtifactError: A window of the series is too short for one token.
    """

    def __init__(self, spec: ModalitySpec, dims: ClmerDims) -> None:
        super().__init__()
        signal, points = spec.kind == "signal", dims.layout == "points"
        kernels = dims.signal_kernels if signal or points else (dims.slot_kernel,) * 3
        pools = dims.signal_pools if signal or points else (1, 1, 1)
        self.by_channels = dims.channel_tokens and spec.name == "eeg"
        pools = (POOL, *pools[1:]) if self.by_channels else pools
        first, second, third = dims.conv_widths
        self.name = spec.name
        self.is_signal = signal
        self.by_points = points
        self.positions = electrode_positions(spec.channels) if self.by_channels else ()
        self.out_width = third
        self.stride = math.prod(pools)  # steps that a token stands for
        self.n_values = spec.n_channels if signal else spec.shape[-1]  # channels of a step in layout points
        self.n_tokens = _padded_tokens(spec, dims) if points else spec.shape[1 if signal else 0] // self.stride
        if self.n_tokens < 1:
            raise ArtifactError(
                expected=f"a series of at least {self.stride} samples in a window, for one token",
                found=f"{spec.name} of shape {spec.shape}",
                mend="give the series a higher rate in the signal settings, or pool less (signal_pools)",
            )
        self.door = make_normalizer(spec)  # the attribute is part of the keys of checkpoints
        self.blocks = nn.Sequential(
            self._first_block(signal, dims, kernels[0], pools[0]),
            ConvBlock(first, second, kernels[1], self._pool(pools[1]), 0.0),
            ConvBlock(second, third, kernels[2], self._pool(pools[2]), 0.0),
        )

    def _first_block(self, signal: bool, dims: ClmerDims, kernel: int, pool: int) -> nn.Module:
        if self.by_channels:
            return ChannelTokenBlock(self.positions, dims.conv_widths[0], dims.heads, dims.conv_dropout)
        n_in = self.n_values if self.by_points else self.door.out_channels
        if signal and dims.signal_power:
            return PowerBlock(n_in, dims.conv_widths[0], kernel, pool, dims.conv_dropout)
        return ConvBlock(n_in, dims.conv_widths[0], kernel, self._pool(pool), dims.conv_dropout)

    def _pool(self, size: int) -> nn.Module:
        """Return the pooling over ``size`` steps; in layout points it is padded by one on either side."""
        return nn.MaxPool1d(size, padding=int(self.by_points)) if size > 1 else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, L, out_width) and which of them are valid (B, L) bool.

        Args:
            x: (B, C, T) or (B, F, ...) float32, as the modality's specification states.
            mask: (B, C) or (B, F) bool.
        """
        tokens: Tensor = self.blocks(self.steps(x, mask)).transpose(1, 2)
        tokens = tokens[:, : self.n_tokens]
        whole = self.is_signal or self.by_points
        valid = mask.any(1, keepdim=True).expand(-1, self.n_tokens) if whole else mask
        return tokens, valid

    def steps(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the input of the convolutions, (B, channels, steps), from series and mask as in ``forward``."""
        channels: Tensor = self.door(x, mask)
        if not self.by_points:
            return channels
        if self.is_signal:
            return channels[:, : self.n_values]
        slots = channels.size(2)
        points = channels[:, :-1].reshape(x.size(0), -1, self.n_values, slots)
        return points.permute(0, 2, 3, 1).flatten(2)


def _padded_tokens(spec: ModalitySpec, dims: ClmerDims) -> int:
    """Return the number of tokens in layout ``points``, where padding adds tokens at the ends."""
    n = spec.shape[1] if spec.kind == "signal" else math.prod(spec.shape[:-1])
    for kernel, pool in zip(dims.signal_kernels, dims.signal_pools, strict=True):
        n += 1 - kernel % 2
        if pool > 1:
            n = (n + 2 - pool) // pool + 1
    return n


def masked_mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid tokens, (B, width), from (B, L, width) and (B, L); zero where none is valid."""
    weight = valid.to(tokens.dtype).unsqueeze(2)
    kept = torch.where(valid.unsqueeze(2), tokens, torch.zeros_like(tokens))
    return kept.sum(1) / weight.sum(1).clamp_min(1.0)


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU, pooling, dropout."""

    def __init__(self, n_in: int, n_out: int, kernel: int, pool: nn.Module, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self.pool = pool
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, pooled steps) from (B, n_in, steps)."""
        y: Tensor = self.dropout(self.pool(torch.relu(self.norm(self.conv(x)))))
        return y


class PowerBlock(nn.Module):
    """Convolution, batch normalization, logarithm of the mean power over ``pool`` steps, dropout.

    The filters find rhythms, and the logarithm turns their power into a value that linear maps can compare, as in the
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


class ChannelTokenBlock(nn.Module):
    """Computes log powers of frequency bands channel by channel, and pools the channels: (B, 2C + 1, T) to tokens.

    One bank of filters, started as band-passes, serves all channels. The powers of a channel and the level of the
    window are multiplied by polynomials of the electrode's position, up to degree two, so that what is learnt of one
    place holds for others near it. Attention pools the channels that were measured, however many they are. Channels
    without a known position have a learnt embedding of their own instead.

    Args:
        positions: C unit vectors x (right), y (front), z (up), or None where unknown.
        n_out: Width of the result.
        heads: Of the attention; divides ``n_out``.
        dropout: Probability, on the result.
    """

    band_mean: Tensor
    band_sd: Tensor
    polynomial: Tensor
    unknown: Tensor

    def __init__(self, positions: Sequence[Position | None], n_out: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.n_channels, self.n_bands, self.n_out, self.heads = len(positions), len(BANDS), n_out, heads
        self.floor, self.lowest = MIN_BAND_POWER, LOWEST_SCORE
        self.bank = nn.Conv1d(1, self.n_bands, KERNEL, stride=STRIDE, padding=KERNEL // 2, bias=False)
        self.bank.weight.data.copy_(filter_bank())
        self.pool = nn.AvgPool1d(POOL // STRIDE)
        self.pool_level = nn.AvgPool1d(POOL)
        self.register_buffer("band_mean", torch.zeros(self.n_bands))
        self.register_buffer("band_sd", torch.ones(self.n_bands))
        self.register_buffer("polynomial", position_polynomials(positions))
        self.register_buffer("unknown", torch.tensor([[1.0 if place is None else 0.0] for place in positions]))
        self.own = nn.Parameter(torch.randn(self.n_channels, n_out) * EMBEDDING_SD)
        self.mix = nn.Linear(N_POLYNOMIALS * (self.n_bands + 1), n_out)
        self.inner = nn.Linear(n_out, n_out)
        self.query = nn.Parameter(torch.randn(heads, n_out // heads) * 0.1)
        self.key_value = nn.Linear(n_out, 2 * n_out)
        self.norm = nn.BatchNorm1d(n_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, T / POOL) from (B, 2C + 1, T)."""
        n, c = x.size(0), self.n_channels
        power = (self.powers(x) - self.band_mean.view(1, 1, -1, 1)) / self.band_sd.view(1, 1, -1, 1)
        level = self.pool_level(x[:, 2 * c :]).unsqueeze(1).expand(-1, c, -1, -1)
        features = torch.cat([power, level], dim=2).permute(1, 0, 3, 2).flatten(1, 2)  # (C, B * L, bands + 1)
        weight = self.mix.weight.view(self.n_out, self.n_bands + 1, -1)
        by_channel = torch.einsum("ofp,cp->cfo", weight, self.polynomial)  # (C, bands + 1, n_out)
        place = (self.unknown * self.own + self.mix.bias).unsqueeze(1)
        token = torch.relu(torch.bmm(features, by_channel) + place)
        token = token + torch.relu(self.inner(token))
        kv = self.key_value(token).view(c, n, -1, 2, self.heads, self.n_out // self.heads)
        score = (kv[:, :, :, 0] * self.query).sum(4) / math.sqrt(self.n_out // self.heads)
        hidden = (x[:, c : 2 * c, 0] < 0.5).t().reshape(c, n, 1, 1)
        share = score.masked_fill(hidden, self.lowest).softmax(0)
        pooled = (share.unsqueeze(4) * kv[:, :, :, 1]).sum(0).flatten(2).transpose(1, 2)
        y: Tensor = self.dropout(self.norm(pooled))
        return y

    def powers(self, x: Tensor) -> Tensor:
        """Return log powers (B, C, bands, T / POOL) of the normalized channels in (B, 2C + 1, T)."""
        n, c = x.size(0), self.n_channels
        rhythms = self.bank(x[:, :c].reshape(n * c, 1, x.size(2)))
        return torch.log(self.pool(rhythms.square()) + self.floor).reshape(n, c, self.n_bands, -1)


def position_polynomials(positions: Sequence[Position | None]) -> Tensor:
    """Return 1, x, y, z, xy, yz, zx, x^2 - y^2 and 3z^2 - 1 of each position, (C, 9) float32; 1 alone where unknown.

    They are the real spherical harmonics up to degree two, but for their factors.
    """
    rows = []
    for place in positions:
        x, y, z = place or (0.0, 0.0, 0.0)
        degrees = [x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1 if place else 0.0]
        rows.append([1.0, *degrees])
    return torch.tensor(rows, dtype=torch.float32)


def filter_bank() -> Tensor:
    """Return band-passes (bands, 1, KERNEL): cosines under a Hamming window, of gain 2 at the centre of each band."""
    t = (torch.arange(KERNEL, dtype=torch.float64) - KERNEL // 2) / SFREQ
    window = torch.hamming_window(KERNEL, periodic=False, dtype=torch.float64)
    centres = torch.tensor([math.fsum(band) / 2 for band in BANDS], dtype=torch.float64)
    cosines = torch.cos(2 * math.pi * centres.unsqueeze(1) * t) * window
    gain = (cosines * torch.cos(2 * math.pi * centres.unsqueeze(1) * t)).sum(1, keepdim=True)
    return (2.0 * cosines / gain).unsqueeze(1).float()
