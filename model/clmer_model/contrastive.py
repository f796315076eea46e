"""The contrastive losses over two views of each sample (paper, equations 1 to 4), and what they alone need.

``L = lambda_sample * L_sample + lambda_temporal * L_temporal`` (Eq. 4). The sample loss brings two views of a window
together. The temporal loss asks a summary of the past to tell the tokens that follow from others. Strengths, tau and
the summary are not in the paper; the values here are those that its authors published, after TS-TCC (Eldele 2021).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clmer_model.encoder import ModalityEncoder

TEMPERATURE = 0.2  # tau
STEPS_AHEAD = 2  # M, the tokens that a summary predicts

Negatives = Literal["batch", "time"]
"""What a token to come is told from: the same step of other samples, or other steps of the same sample."""


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


def temporal_loss(predicted: Tensor, tokens: Tensor, valid: Tensor, last: int, negatives: Negatives) -> Tensor:
    """Return the mean of Eq. 3 over the steps ahead and the samples, 0 where there is nothing to tell apart.

    ``-log( exp(F(s_t) . z_t+i) / sum over j of exp(F(s_t) . z_j) )``. With negatives from ``time``, j runs over all
    steps of the sample but t, as the paper prints it; from ``batch``, over step t + i of all samples.

    Args:
        predicted: (N, M, d), F(s_t) for i = 1 to M.
        tokens: (N, L, d), z.
        valid: (N, L) bool; tokens that are not valid are neither predicted nor negatives.
        last: t, the last step that the summary has seen; t + M < L.
        negatives: Where j runs.
    """
    terms = []
    for i in range(predicted.size(1)):
        step = last + 1 + i
        known = valid[:, step]
        rows = known.nonzero().squeeze(1)
        if negatives == "batch":
            scores, truth = predicted[rows, i] @ tokens[rows, step].T, torch.arange(len(rows), device=tokens.device)
        else:
            scores = (tokens[rows] @ predicted[rows, i].unsqueeze(2)).squeeze(2)
            others = valid[rows] & (torch.arange(tokens.size(1), device=tokens.device) != last)
            scores, truth = scores.masked_fill(~others, float("-inf")), torch.full_like(rows, step)
        if len(rows) > (negatives == "batch"):
            terms.append(F.cross_entropy(scores, truth))
    return torch.stack(terms).mean() if terms else predicted.sum() * 0.0


def usual_negatives(encoder: ModalityEncoder) -> Negatives:
    """Return where the negatives of a modality are from, if nobody says so.

    The tokens of a face series in layout ``slots`` are its slots: they are told from each other, as Eq. 3 has it. All
    others are told from other samples, as in the code that the authors published.
    """
    return "batch" if encoder.is_signal or encoder.by_points else "time"


def past_of(encoder: ModalityEncoder, x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the window and its mask, cut after the samples or slots of its first n tokens.

    In layout ``points`` the cut comes after the slot that holds the last point: points of one slot are not in time.

    Args:
        encoder: The modality's encoder.
        x: (B, C, T) or (B, F, ...), as the encoder takes it.
        mask: (B, C) or (B, F); that of a signal says which channels the whole window has, and stays.
        n: Number of tokens of the past, each of ``encoder.stride`` steps.
    """
    n_steps = n * encoder.stride
    if encoder.is_signal:
        return x[..., :n_steps], mask
    n_slots = math.ceil(n_steps / math.prod(x.shape[2:-1])) if encoder.by_points else n_steps
    return x[:, :n_slots], mask[:, :n_slots]


def past_tokens(encoder: ModalityEncoder, x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the first n tokens (B, n, width) as if the window ended with them, and which are valid (B, n).

    The encoder's filters reach past their token, and its door scales by the whole window. So the window is cut, not
    its tokens: what comes later has no part in the result. Of later points of the same slot, which are not later in
    time, the door of landmarks takes centre and size of the face; the convolutions do not reach them.

    Args:
        encoder: The modality's encoder.
        x: As the encoder takes it.
        mask: As the encoder takes it.
        n: Number of tokens of the past, each of ``encoder.stride`` steps.
    """
    x, mask = past_of(encoder, x, mask, n)
    steps = encoder.steps(x, mask)[..., : n * encoder.stride]
    tokens: Tensor = encoder.blocks(steps).transpose(1, 2)[:, :n]
    whole = encoder.is_signal or encoder.by_points
    return tokens, mask.any(1, keepdim=True).expand(-1, n) if whole else mask


class ProjectionHead(nn.Module):
    """Maps a summary of tokens to the space of the contrastive loss; thrown away after pre-training."""

    def __init__(self, width: int, hidden: int = 64, out: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))

    def forward(self, summary: Tensor) -> Tensor:
        """Return (B, out) from (B, width)."""
        z: Tensor = self.layers(summary)
        return z


class ContextSummary(nn.Module):
    """A transformer over the tokens of the past, with a learnt summary token, and a linear map for each step ahead.

    Thrown away after pre-training.
    """

    def __init__(self, width: int, steps_ahead: int, hidden: int = 100) -> None:
        super().__init__()
        self.out_width = hidden
        self.project = nn.Linear(width, hidden)
        self.summary = nn.Parameter(torch.randn(1, 1, hidden) * 0.02)
        layer = nn.TransformerEncoderLayer(
            hidden, nhead=4, dim_feedforward=64, dropout=0.1, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
        self.ahead = nn.ModuleList(nn.Linear(hidden, width) for _ in range(steps_ahead))

    def forward(self, tokens: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summary s_t (B, hidden) of tokens (B, n, width) and what it predicts, F(s_t), (B, M, width).

        Tokens that are not ``valid`` (B, n) are not read.
        """
        n = tokens.size(0)
        sequence = torch.cat([self.summary.expand(n, -1, -1), self.project(unit_tokens(tokens, valid))], dim=1)
        unread = torch.cat([torch.zeros(n, 1, dtype=torch.bool, device=valid.device), ~valid], dim=1)
        s = self.layers(sequence, src_key_padding_mask=unread)[:, 0]
        return s, torch.stack([ahead(s) for ahead in self.ahead], dim=1)


def unit_tokens(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return tokens (B, L, width) of length one, zero where not valid (B, L)."""
    return F.normalize(torch.where(valid.unsqueeze(2), tokens, torch.zeros_like(tokens)), dim=2)
