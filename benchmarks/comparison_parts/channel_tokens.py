"""A trial: preset ``default`` with channels as its tokens, as the fast variant of Husformer has them.

Time tokens tell what all channels did at a moment; channel tokens tell what one channel did throughout the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clmer_model.config import ClmerDims, ModalitySpec
from clmer_model.network.clmer import Clmer, Unifier
from clmer_model.network.encoder import ModalityEncoder, PowerBlock


class LinearChannels(ModalityEncoder):
    """Each channel's course through the window, by one linear map, as a token.

    The channels of a face are the coordinates of its landmarks, or intensity and presence of its action units.
    """

    def __init__(self, spec: ModalitySpec, dims: ClmerDims) -> None:
        super().__init__(spec, dims)
        self.n_tokens = spec.shape[0] if self.is_signal else spec.shape[-1]
        self.n_values = spec.n_channels
        self.blocks = nn.Sequential(nn.Linear(math.prod(spec.shape) // self.n_tokens, self.out_width))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, channels, out_width) and which are valid (B, channels)."""
        values = self.door(x, mask)[:, : self.n_values]
        if not self.is_signal:
            values = values.reshape(values.size(0), -1, self.n_tokens, values.size(2)).transpose(1, 2).flatten(2)
        valid = mask if self.is_signal else mask.any(1, keepdim=True).expand(-1, self.n_tokens)
        tokens: Tensor = self.blocks(values)
        return tokens, valid


class PowerChannels(ModalityEncoder):
    """Each channel's log power over the window, as one filter bank for all channels finds it, as a token."""

    kernel = 32  # samples of a filter; a quarter of a second finds theta in one channel

    def __init__(self, spec: ModalitySpec, dims: ClmerDims) -> None:
        super().__init__(spec, dims)
        self.n_tokens, n_times = spec.shape
        bank, pool = dims.conv_widths[0], dims.signal_pools[0]
        self.bank = PowerBlock(1, bank, self.kernel, pool, dims.conv_dropout)
        steps = (n_times + 1 - self.kernel % 2) // pool
        self.blocks = nn.Sequential(
            nn.Linear(bank * steps + 1, self.out_width), nn.ReLU(), nn.Linear(self.out_width, self.out_width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, channels, out_width) and which are valid (B, channels)."""
        seen = self.door(x, mask)
        power = self.bank(seen[:, : self.n_tokens].reshape(-1, 1, x.size(2))).flatten(1)
        level = seen[:, -1, 0].unsqueeze(1).expand(-1, self.n_tokens).unsqueeze(2)
        tokens: Tensor = self.blocks(torch.cat([power.view(x.size(0), self.n_tokens, -1), level], dim=2))
        return tokens, mask


class ChannelTokenClmer(Clmer):
    """Preset ``default`` with channels as tokens.

    Args:
        specs: The modalities.
        n_classes: Number of classes, K.
        dims: Sizes.
        power: Log power of EEG channels, and slots of the face as they are; else every modality by a linear map.
    """

    def __init__(self, specs: Sequence[ModalitySpec], n_classes: int, dims: ClmerDims, power: bool) -> None:
        super().__init__(specs, n_classes, dims)
        self.encoders = nn.ModuleList(_encoder(spec, dims, power) for spec in specs)
        self.unifiers = nn.ModuleList(Unifier(e.out_width, e.n_tokens, dims) for e in self.modality_encoders())


def _encoder(spec: ModalitySpec, dims: ClmerDims, power: bool) -> ModalityEncoder:
    if not power:
        return LinearChannels(spec, dims)
    return PowerChannels(spec, dims) if spec.kind == "signal" else ModalityEncoder(spec, dims)
