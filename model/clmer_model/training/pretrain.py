"""Contrastive pre-training of one modality's encoder, without labels (paper, section III-C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clmer_model.contrastive import TEMPERATURE, ProjectionHead, nt_xent
from clmer_model.encoder import ModalityEncoder, masked_mean
from clmer_model.training.views import ViewConfig, view_of

Report = Callable[[dict[str, Any]], None]
"""Takes one line of the training log."""


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of the contrastive stage."""

    epochs: int = 2
    batch: int = 128  # samples; each has its two views, and the others' views as negatives
    learning_rate: float = 1e-3
    weight_decay: float = 3e-4  # paper
    temperature: float = TEMPERATURE
    seed: int = 1  # of views, batches and the projection head
    views: ViewConfig = field(default_factory=ViewConfig)


def pretrain_encoder(encoder: ModalityEncoder, x: Tensor, mask: Tensor, config: PretrainConfig, report: Report) -> None:
    """Train the encoder in place, so that two views of a window are closer than views of other windows.

    Args:
        encoder: The modality's encoder; its door already has the constants of the training data.
        x: Windows of the training people, (n, ...).
        mask: Their masks (n, ...); windows without this modality are left out.
        config: Settings.
        report: Is told the mean loss of each epoch.
    """
    present = mask.any(1)
    x, mask = x[present], mask[present]
    if len(x) < 2:
        return
    torch.manual_seed(config.seed)
    rng = torch.Generator().manual_seed(config.seed)
    head = ProjectionHead(encoder.out_width)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    encoder.train()
    for epoch in range(config.epochs):
        losses = []
        for rows in batches(len(x), config.batch, rng):
            loss = sample_loss(encoder, head, (x[rows], mask[rows]), config, rng)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()
            losses.append(loss.item())
        report({"stage": f"pretrain {encoder.name}", "epoch": epoch, "loss": sum(losses) / len(losses)})


def batches(n: int, size: int, rng: torch.Generator) -> list[Tensor]:
    """Return the rows 0 to n - 1 in random order, in batches; a last batch of one row is left out.

    Batch normalisation and negatives need two rows.
    """
    order = torch.randperm(n, generator=rng)
    parts = [order[first : first + size] for first in range(0, n, size)]
    return [rows for rows in parts if len(rows) > 1]


def sample_loss(
    encoder: ModalityEncoder,
    head: ProjectionHead,
    batch: tuple[Tensor, Tensor],
    config: PretrainConfig,
    rng: torch.Generator,
) -> Tensor:
    """Return the loss of Eq. 2 for a batch (series and mask), its two views drawn anew."""
    view = view_of(encoder.name)
    first, second = (head(masked_mean(*encoder(*view(*batch, config.views, rng)))) for _ in range(2))
    return nt_xent(first, second, config.temperature)
