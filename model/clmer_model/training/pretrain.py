"""Contrastive pre-training of one modality's encoder, without labels (paper, section III-C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clmer_model.contrastive import (
    STEPS_AHEAD,
    TEMPERATURE,
    ContextSummary,
    Negatives,
    ProjectionHead,
    nt_xent,
    past_of,
    past_tokens,
    temporal_loss,
    unit_tokens,
    usual_negatives,
)
from clmer_model.encoder import ModalityEncoder, masked_mean
from clmer_model.training.views import ViewConfig, view_of
from clmer_streaming.errors import SettingsError

Report = Callable[[dict[str, Any]], None]
"""Takes one line of the training log."""


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the contrastive stage.

    What the stage is worth was asked of forty simulated people (``realistic``, 29 others to train on, one run each; a
    standard error of 0.012 over people): accuracy 0.366 with it, 0.367 without. Nor did the people who choose tell
    ``lambda_temporal`` 0.3 or 1 from 0 (``benchmarks/RESULTS.md``): the default keeps the stage, which is the method,
    and the quicker loss.
    """

    epochs: int = 2
    batch: int = 128  # samples; each has its two views, and the others' views as negatives
    learning_rate: float = 1e-3
    weight_decay: float = 3e-4  # paper
    temperature: float = TEMPERATURE
    seed: int = 1  # of views, batches, projection head and summary
    views: ViewConfig = field(default_factory=ViewConfig)
    lambda_sample: float = 1.0  # weight of the sample loss (Eq. 4)
    lambda_temporal: float = 0.0  # weight of the temporal loss, both directions together; 0 leaves it out
    steps_ahead: int = STEPS_AHEAD  # tokens that a summary predicts; fewer where a modality has fewer
    negatives: Negatives | None = None  # of the temporal loss; None: slots of a face over time, all else by batch
    sample_of: Literal["tokens", "context"] = "tokens"  # what the sample loss compares: mean token, or s_t
    mixed_precision: bool = False  # bfloat16 where it is safe; on CUDA alone

    def __post_init__(self) -> None:
        if min(self.lambda_sample, self.lambda_temporal) < 0 or self.lambda_sample + self.lambda_temporal == 0:
            raise SettingsError(
                "lambda_sample and lambda_temporal of 0 or more, not both 0",
                f"{self.lambda_sample:g} and {self.lambda_temporal:g}",
                "leave the contrastive stage out with --pretrain-epochs 0",
            )
        if self.sample_of == "context" and self.lambda_temporal == 0:
            raise SettingsError(
                "a temporal loss, whose summary the sample loss compares",
                "lambda_temporal 0",
                "raise --lambda-temporal, or choose the default preset",
            )


def batches(n: int, size: int, rng: torch.Generator) -> list[Tensor]:
    """Return the rows 0 to n - 1 in random order, in batches; a last batch of one row is left out.

    Batch normalisation and negatives need two rows.
    """
    order = torch.randperm(n, generator=rng)
    parts = [order[first : first + size] for first in range(0, n, size)]
    return [rows for rows in parts if len(rows) > 1]


class Contrast(nn.Module):
    """What the contrastive losses need beside the encoder; thrown away after pre-training.

    What the temporal loss predicts from is a view of its own, of a window that is cut first: whatever a view or a door
    takes from the whole of its window (noise by its SD, the size of a face) is then of the past. And no view moves
    samples in time where there is a temporal loss. A shift of its own would show one view what the other is to
    predict, and one shift for both would only move the cut.
    """

    def __init__(self, encoder: ModalityEncoder, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.steps_ahead = min(config.steps_ahead, encoder.n_tokens - 1) if config.lambda_temporal else 0
        context = ContextSummary(encoder.out_width, self.steps_ahead) if self.steps_ahead else None
        of_context = config.sample_of == "context" and context is not None
        self.head = ProjectionHead(context.out_width if context is not None and of_context else encoder.out_width)
        self.context = context
        self.of_context = of_context
        self.negatives = config.negatives or usual_negatives(encoder)
        self.views = config.views if context is None else config.views.in_time()

    def losses(self, encoder: ModalityEncoder, batch: tuple[Tensor, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of Eq. 2 and 3 for a batch (series and mask), its two views drawn anew."""
        encoded = [encoder(*seen) for seen in self._two_views(encoder, batch, rng)]
        losses: dict[str, Tensor] = {}
        summaries = [masked_mean(*tokens) for tokens in encoded]
        if self.context is not None:
            last = int(torch.randint(0, encoder.n_tokens - self.steps_ahead, (1,), generator=rng))
            pasts = self._two_views(encoder, past_of(encoder, *batch, last + 1), rng)
            with kept_statistics(encoder):
                told = [self.context(*past_tokens(encoder, *seen, last + 1)) for seen in pasts]
            summaries = [s for s, _ in told] if self.of_context else summaries
            losses["temporal"] = self._ahead(told[0][1], encoded[1], last) + self._ahead(told[1][1], encoded[0], last)
        if self.config.lambda_sample:
            first, second = (self.head(summary) for summary in summaries)
            losses["sample"] = nt_xent(first, second, self.config.temperature)
        return losses

    def weigh(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of Eq. 4."""
        weights = {"sample": self.config.lambda_sample, "temporal": self.config.lambda_temporal}
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def _two_views(
        self, encoder: ModalityEncoder, batch: tuple[Tensor, Tensor], rng: torch.Generator
    ) -> list[tuple[Tensor, Tensor]]:
        device, view = next(encoder.parameters()).device, view_of(encoder.name, encoder.is_signal)
        views = [view(*batch, self.views, rng) for _ in range(2)]
        return [(x.to(device), mask.to(device)) for x, mask in views]

    def _ahead(self, predicted: Tensor, encoded: tuple[Tensor, Tensor], last: int) -> Tensor:
        tokens, valid = encoded
        return temporal_loss(predicted, unit_tokens(tokens, valid), valid, last, self.negatives)


@contextmanager
def kept_statistics(encoder: ModalityEncoder) -> Iterator[None]:
    """Keep the running statistics of batch normalisation, which whole windows make, while parts of them pass."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm1d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
