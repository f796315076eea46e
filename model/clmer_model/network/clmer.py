"""CLMER: contrastively trained encoders, cross-modal attention over ordered pairs of modalities, classifier.

``Clmer`` is the whole model; below it stand its parts in the order in which data passes them: ``Unifier``,
``TargetFusion`` with its attention layers, ``Classifier``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clmer_model.config import ClmerDims, ModalitySpec
from clmer_model.network.encoder import ModalityEncoder, masked_mean
from clmer_model.network.linear_path import LinearPath

EEG = "eeg"  # the modality that has a linear path
POSITION_SPAN = 32.0  # positions run from 0 to this over a window, whatever the number of tokens
POSITION_BASE = 10000.0  # of the sinusoidal code (Vaswani et al. 2017)


class Clmer(nn.Module):
    """The whole model: windows in, class logits out.

    Any subset of modalities, channels and slots may be masked; masked values never change the output. With everything
    masked the logits are still finite. Logits are divided by ``temperature``, which is fitted after training (Guo et
    al. 2017), so that their softmax is calibrated.

    Args:
        specs: The modalities, one or more. One alone has no pairs: its tokens go straight to self-attention.
        n_classes: Number of classes, K.
        dims: Sizes.

    Raises:
        ValueError: There is no modality.

    Example::

        preset = find_preset("default")
        specs = modality_specs(preset.preprocess)
        model = Clmer(specs, n_classes=4, dims=preset.dims).eval()
        x = {spec.name: torch.zeros(1, *spec.shape) for spec in specs}
        mask = {spec.name: torch.ones(1, spec.n_masked, dtype=torch.bool) for spec in specs}
        probs = model(x, mask).softmax(1)  # (1, 4)
    """

    temperature: Tensor

    def __init__(self, specs: Sequence[ModalitySpec], n_classes: int, dims: ClmerDims) -> None:
        super().__init__()
        if not specs:
            raise ValueError("a model needs a modality")
        n = len(specs)
        self.names = [spec.name for spec in specs]
        self.encoders = nn.ModuleList(ModalityEncoder(spec, dims) for spec in specs)
        self.unifiers = nn.ModuleList(
            Unifier(encoder.out_width, encoder.n_tokens, dims) for encoder in self.modality_encoders()
        )
        targets = [TargetFusion(i, n, dims) for i in range(n)]
        self.targets = nn.ModuleList(targets)
        self.classifier = Classifier(sum(target.out_width for target in targets), n_classes, dims)
        linear = [spec for spec in specs if dims.linear_path and spec.name == EEG]
        self.linear_names = [spec.name for spec in linear]
        self.linear = nn.ModuleList(LinearPath(spec, n_classes) for spec in linear)
        if linear:  # the network begins at the linear path
            nn.init.zeros_(self.classifier.out.weight)
            nn.init.zeros_(self.classifier.out.bias)
        self.register_buffer("temperature", torch.tensor(1.0))

    def modality_encoders(self) -> list[ModalityEncoder]:
        """Return the encoders, in the order of the modalities."""
        return [encoder for encoder in self.encoders if isinstance(encoder, ModalityEncoder)]

    def linear_paths(self) -> list[LinearPath]:
        """Return the linear paths, in the order of ``linear_names``."""
        return [path for path in self.linear if isinstance(path, LinearPath)]

    def forward(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) float32.

        Args:
            x: Series by modality, float32: eeg (B, C, T) in microvolts; landmarks (B, F, 68, 3) in cm; aus (B, F, 17,
                2); others as their ``ModalitySpec`` states.
            mask: Masks by modality, bool, True where measured: eeg (B, C); landmarks, aus (B, F).
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
        logits: Tensor = self.classifier(torch.cat(summaries, dim=1))
        for i, path in enumerate(self.linear):
            name = self.linear_names[i]
            logits = logits + path(x[name], mask[name])
        return logits / self.temperature


class Unifier(nn.Module):
    """Projects a modality's tokens to the common width, adds their position, and replaces an absent modality.

    Where no token is valid, all become a learnt "absent" token and count as valid: no masked value passes, and
    attention always has something to read.
    """

    position: Tensor

    def __init__(self, in_width: int, n_tokens: int, dims: ClmerDims) -> None:
        super().__init__()
        self.project = nn.Conv1d(in_width, dims.width, kernel_size=1, bias=False)
        self.absent = nn.Parameter(torch.randn(dims.width) * 0.02)
        by_index = dims.positions == "index"
        self.gain = math.sqrt(dims.width) if by_index else 1.0  # of tokens over the code, as MulT has it
        self.register_buffer("position", sinusoid(n_tokens, dims.width, by_index))

    def forward(self, tokens: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, L, width) and validity (B, L) from tokens (B, L, in_width) and validity (B, L)."""
        unified = self.project(tokens.transpose(1, 2)).transpose(1, 2)
        if self.gain != 1.0:
            unified = unified * self.gain
        present = valid.any(1, keepdim=True)
        unified = torch.where(present.unsqueeze(2), unified, self.absent)
        return unified + self.position, valid | ~present


def sinusoid(n_tokens: int, width: int, by_index: bool = False) -> Tensor:
    """Return the sinusoidal position code (n_tokens, width) of Vaswani et al. (2017).

    The position of a token is the centre of its share of the window, scaled to ``POSITION_SPAN``, so that tokens of
    different modalities at the same time have the same code; with ``by_index`` it is the index of the token.
    """
    index = torch.arange(n_tokens)
    place = index.float() if by_index else (index + 0.5) / n_tokens * POSITION_SPAN
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(POSITION_BASE) / width))
    angle = place.unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]


class TargetFusion(nn.Module):
    """Fuses each other modality into one target modality: a summary of width ``width * (number of others)``.

    Where there is no other one, the summary is that of the target's own tokens, of width ``width``.
    """

    def __init__(self, target: int, n_modalities: int, dims: ClmerDims) -> None:
        super().__init__()
        self.target = target
        self.sources = [i for i in range(n_modalities) if i != target]
        self.out_width = dims.width * max(1, len(self.sources))
        self.cross = nn.ModuleList(CrossStack(dims) for _ in self.sources)
        self.own = nn.ModuleList(AttentionBlock(self.out_width, dims) for _ in range(dims.self_layers))
        self.norm = nn.LayerNorm(self.out_width)
        self.last = dims.pooling == "last"

    def forward(self, tokens: list[Tensor], valid: list[Tensor]) -> Tensor:
        """Return (B, out_width) from every modality's tokens (B, L_i, width) and validity (B, L_i)."""
        mine = tokens[self.target]
        parts: list[Tensor] = []
        for i, stack in enumerate(self.cross):
            source = self.sources[i]
            parts.append(stack(mine, tokens[source], valid[source]))
        joined: Tensor = torch.cat(parts, dim=2) if len(parts) > 0 else mine
        for block in self.own:
            joined = block(joined, joined, valid[self.target])
        joined = self.norm(joined)
        return joined[:, -1] if self.last else masked_mean(joined, valid[self.target])


class CrossStack(nn.Module):
    """The cross-modal layers of one ordered pair; each layer reads the source's original tokens."""

    def __init__(self, dims: ClmerDims) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionBlock(dims.width, dims) for _ in range(dims.cross_layers))

    def forward(self, target: Tensor, source: Tensor, source_valid: Tensor) -> Tensor:
        """Return the target's tokens (B, L, width) after all layers."""
        for layer in self.layers:
            target = layer(target, source, source_valid)
        return target


class AttentionBlock(nn.Module):
    """A pre-norm transformer layer whose keys and values may come from another sequence."""

    def __init__(self, width: int, dims: ClmerDims) -> None:
        super().__init__()
        hidden = dims.feedforward * width
        self.norm_target = nn.LayerNorm(width)
        self.norm_source = nn.LayerNorm(width)
        self.attention = Attention(width, dims.heads, dims.causal)
        self.norm_inner = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dims.dropout)

    def forward(self, target: Tensor, source: Tensor, source_valid: Tensor) -> Tensor:
        """Return the target's tokens after attention to the source's; shapes as in ``Attention``."""
        attended = self.attention(self.norm_target(target), self.norm_source(source), source_valid)
        target = target + self.dropout(attended)
        y: Tensor = target + self.dropout(self.inner(self.norm_inner(target)))
        return y


class Attention(nn.Module):
    """Multi-head attention, ``softmax(Q K^T / sqrt(d_k)) V`` for each head, concatenated (paper, Eq. 5-7).

    With ``causal``, token i of L reads the tokens up to i + abs(M - L) of M, as in MulT (Tsai et al. 2019).
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, target: Tensor, source: Tensor, source_valid: Tensor) -> Tensor:
        """Return the result of attention from the target's tokens to the source's, (B, L, width).

        Args:
            target: (B, L, width), queries.
            source: (B, M, width), keys and values.
            source_valid: (B, M) bool; at least one token of each sample is valid.
        """
        n, length, width = target.shape
        q = self.query(target).view(n, length, self.heads, -1).transpose(1, 2)
        kv = self.key_value(source).view(n, source.size(1), 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        readable = source_valid.unsqueeze(1).unsqueeze(1)
        if self.causal:
            readable = readable & causal_mask(length, source.size(1), target.device)
        attended = F.scaled_dot_product_attention(q, kv[0], kv[1], attn_mask=readable)
        y: Tensor = self.out(attended.transpose(1, 2).reshape(n, length, width))
        return y


def causal_mask(length: int, n_sources: int, device: torch.device) -> Tensor:
    """Return which of the sources each token may read without looking ahead, (length, n_sources) bool."""
    return torch.ones(length, n_sources, dtype=torch.bool, device=device).tril(abs(n_sources - length))


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
