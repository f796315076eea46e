"""A model after Husformer (Wang et al., IEEE TCDS 2024), written from its description, to compare with.

Each modality's tokens ask all modalities together, not one other at a time; what they learnt is joined, looked at by
self-attention and classified. The doors and the attention are CLMER's own, so that what differs is the architecture.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clmer_model.config import ClmerDims, ModalitySpec
from clmer_model.network.clmer import AttentionBlock, Classifier, CrossStack, sinusoid
from clmer_model.network.encoder import masked_mean
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
    """The whole model; it has of ``Clmer`` all that training, evaluation and export ask for.

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
        """Return what makes each modality's tokens, in the order of the modalities."""
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
