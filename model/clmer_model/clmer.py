"""CLMER: contrastively trained extractors, pairwise cross-modal attention, classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clmer_model.dims import ClmerDims
from clmer_model.encoder import ModalityEncoder
from clmer_model.fusion import TargetFusion, Unifier
from clmer_model.modalities import ModalitySpec


class Classifier(nn.Module):
    """A residual layer and a linear map to the classes."""

    def __init__(self, width: int, n_classes: int, dims: ClmerDims) -> None:
        super().__init__()
        hidden = dims.head_width or width
        self.residual = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dims.dropout), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dims.dropout)
        self.out = nn.Linear(width, n_classes)

    def forward(self, summary: Tensor) -> Tensor:
        """Return logits (B, n_classes) from (B, width)."""
        logits: Tensor = self.out(summary + self.dropout(self.residual(summary)))
        return logits


class Clmer(nn.Module):
    """The whole model: windows in, class logits out.

    Any subset of modalities, channels and slots may be masked; masked values never reach the output. With
    everything masked the logits are still finite. Logits are divided by ``temperature``, which is fitted after
    training (Guo et al. 2017), so that their softmax is calibrated.

    Args:
        specs: The modalities, two or more.
        n_classes: Number of classes, K.
        dims: Sizes.
    """

    temperature: Tensor

    def __init__(self, specs: Sequence[ModalitySpec], n_classes: int, dims: ClmerDims) -> None:
        super().__init__()
        if len(specs) < 2:
            raise ValueError(f"cross-modal attention needs two modalities or more, got {[s.name for s in specs]}")
        n = len(specs)
        self.names = [spec.name for spec in specs]
        self.encoders = nn.ModuleList(ModalityEncoder(spec, dims) for spec in specs)
        self.unifiers = nn.ModuleList(
            Unifier(encoder.out_width, encoder.n_tokens, dims) for encoder in self.modality_encoders()
        )
        self.targets = nn.ModuleList(TargetFusion(i, n, dims) for i in range(n))
        self.classifier = Classifier(n * (n - 1) * dims.width, n_classes, dims)
        self.register_buffer("temperature", torch.tensor(1.0))

    def modality_encoders(self) -> list[ModalityEncoder]:
        """Return the encoders, in the order of the modalities."""
        return [encoder for encoder in self.encoders if isinstance(encoder, ModalityEncoder)]

    def forward(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) float32.

        Args:
            x: By modality, float32: eeg (B, C, T) in microvolts; landmarks (B, F, 68, 3); aus (B, F, 17, 2).
            mask: By modality, bool, True where measured: eeg (B, C); landmarks, aus (B, F).
        """
        tokens: list[Tensor] = []
        valid: list[Tensor] = []
        for i, (encoder, unifier) in enumerate(zip(self.encoders, self.unifiers)):  # noqa: B905  TorchScript: no strict
            name = self.names[i]
            encoded, known = encoder(x[name], mask[name])
            unified, readable = unifier(encoded, known)
            tokens.append(unified)
            valid.append(readable)
        summaries: list[Tensor] = []
        for target in self.targets:
            summaries.append(target(tokens, valid))  # noqa: PERF401  TorchScript unrolls this loop over modules
        logits: Tensor = self.classifier(torch.cat(summaries, dim=1)) / self.temperature
        return logits
