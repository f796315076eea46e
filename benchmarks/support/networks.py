"""Networks that CLMER is compared with: one after Husformer, and CLMER with channels as tokens.

Normalizers and attention are CLMER's own, so that what differs is the architecture. TorchScript compiles these modules:
no annotations from ``__future__``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clmer_model.config import ClmerDims, ModalitySpec
from clmer_model.network.clmer import AttentionBlock, Classifier, Clmer, CrossStack, Unifier, sinusoid
from clmer_model.network.encoder import ModalityEncoder, PowerBlock, masked_mean
from clmer_model.network.normalization import make_normalizer

HUSFORMER_DIMS = ClmerDims(width=30, heads=3, cross_layers=5, self_layers=5, feedforward=4, head_width=30, dropout=0.1)
"""Width, heads and layers of its published settings."""


class Tokens(nn.Module):
    """One modality as tokens: the moments of a signal and the points of a face, or the channels of either.

    The channels of a face are the coordinates of its landmarks, or intensity and presence of its action units.
    """

    position: Tensor

    def __init__(self, spec: ModalitySpec, by_channel: bool, width: int) -> None:
        super().__init__()
        self.name = spec.name
        self.is_signal = spec.kind == "signal"
        self.by_channel = by_channel
        self.n_values = spec.n_channels
        self.n_kinds = spec.shape[-1]
        self.door = make_normalizer(spec)
        n_channels, n_steps = spec.shape if self.is_signal else (spec.shape[2], spec.shape[1])
        self.n_tokens = n_channels if by_channel else n_steps
        self.project = nn.Linear(math.prod(spec.shape) // self.n_tokens, width, bias=False)
        self.register_buffer("position", sinusoid(self.n_tokens, width))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, n_tokens, width) and which are valid (B, n_tokens)."""
        values = self.door(x, mask)[:, : self.n_values]
        if not self.is_signal:
            values = values.reshape(values.size(0), -1, self.n_kinds, values.size(2))
        if self.is_signal != self.by_channel:
            values = values.transpose(1, 2)
        valid = mask if self.is_signal and self.by_channel else mask.any(1, keepdim=True).expand(-1, self.n_tokens)
        tokens: Tensor = self.project(values.flatten(2)) + self.position
        return tokens, valid


class HusformerLike(nn.Module):
    """A model after Husformer (Wang et al., IEEE TCDS 2024), written from its description.

    Each modality's tokens attend to all modalities together, not to one other at a time; the results are concatenated,
    pass self-attention, and are classified. It has everything of ``Clmer`` that training, evaluation and export use.

    Args:
        specs: The modalities.
        n_classes: Number of classes, K.
        by_channel: Tokens are channels, which are few; else moments and points.
        dims: Sizes.
    """

    temperature: Tensor

    def __init__(
        self, specs: Sequence[ModalitySpec], n_classes: int, by_channel: bool = True, dims: ClmerDims = HUSFORMER_DIMS
    ) -> None:
        super().__init__()
        self.names = [spec.name for spec in specs]
        self.encoders = nn.ModuleList(Tokens(spec, by_channel, dims.width) for spec in specs)
        self.cross = nn.ModuleList(CrossStack(dims) for _ in specs)
        self.own = nn.ModuleList(AttentionBlock(dims.width, dims) for _ in range(dims.self_layers))
        self.norm = nn.LayerNorm(dims.width)
        self.classifier = Classifier(dims.width, n_classes, dims)
        self.register_buffer("temperature", torch.tensor(1.0))

    def modality_encoders(self) -> list[Tokens]:
        """Return the tokens of each modality, in the order of the modalities."""
        return [encoder for encoder in self.encoders if isinstance(encoder, Tokens)]

    def forward(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) from series and masks by modality."""
        own: list[Tensor] = []
        valid: list[Tensor] = []
        for i, tokens in enumerate(self.encoders):
            made, known = tokens(x[self.names[i]], mask[self.names[i]])
            own.append(made)
            valid.append(known)
        everything, readable = torch.cat(own, dim=1), torch.cat(valid, dim=1)
        readable = readable | ~readable.any(1, keepdim=True)
        parts: list[Tensor] = []
        for i, stack in enumerate(self.cross):
            parts.append(stack(own[i], everything, readable))
        joined = torch.cat(parts, dim=1)
        for block in self.own:
            joined = block(joined, joined, readable)
        logits: Tensor = self.classifier(masked_mean(self.norm(joined), readable)) / self.temperature
        return logits


class LinearChannels(ModalityEncoder):
    """Each channel over the window as a token, by one linear map.

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
    """Each channel's log power over the window as a token, from one filter bank for all channels."""

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
        normalized = self.door(x, mask)
        power = self.bank(normalized[:, : self.n_tokens].reshape(-1, 1, x.size(2))).flatten(1)
        level = normalized[:, -1, 0].unsqueeze(1).expand(-1, self.n_tokens).unsqueeze(2)
        tokens: Tensor = self.blocks(torch.cat([power.view(x.size(0), self.n_tokens, -1), level], dim=2))
        return tokens, mask


class ChannelTokenClmer(Clmer):
    """CLMER with channels as tokens, as in the fast variant of Husformer.

    Time tokens describe what all channels did at a moment; channel tokens what one channel did throughout the window.

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
