"""The contrastive loss over two views of each sample (paper, equations 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 0.2  # tau; not given in the paper, the value of the public TS-TCC (Eldele et al. 2021)


def nt_xent(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy, the mean of Eq. 1 over all 2N views (Eq. 2).

    ``l(a, b) = -log( exp(sim(a, b) / tau) / sum over c != a of exp(sim(a, c) / tau) )``, with cosine similarity.

    Args:
        first: (N, d) projections of one view of each sample.
        second: (N, d) projections of the other view, in the same order.
        temperature: tau.
    """
    n = first.size(0)
    z = F.normalize(torch.cat([first, second]), dim=1)
    similarity = z @ z.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    similarity = similarity.masked_fill(itself, float("-inf"))
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(similarity, partner)


class ProjectionHead(nn.Module):
    """Maps a summary of tokens to the space of the contrastive loss; thrown away after pre-training."""

    def __init__(self, width: int, hidden: int = 64, out: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))

    def forward(self, summary: Tensor) -> Tensor:
        """Return (B, out) from (B, width)."""
        z: Tensor = self.layers(summary)
        return z
