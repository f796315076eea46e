"""The contrastive losses over two views of each sample (paper, equations 1 to 4), and what they alone need.

``L = lambda_sample * L_sample + lambda_temporal * L_temporal`` (Eq. 4). The sample loss brings two views of a window
together. The temporal loss asks a summary of the past to tell the tokens that follow from others. Strengths, tau and
the summary are not in the paper; the values here are those that its authors published, after TS-TCC (Eldele 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clmer_model.network.clmer import Clmer
from clmer_model.network.encoder import ModalityEncoder, masked_mean
from clmer_model.training.augment import view_of
from clmer_model.training.config import TEMPERATURE, Negatives, PretrainConfig, Report
from clmer_model.training.distributed import agree, average_gradients, n_ranks, own_generator, shares
from clmer_model.training.optimizer import (
    Keeper,
    ResumeState,
    optimiser_state,
    random_state,
    restore_optimiser,
    set_random_state,
)


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


def pretrain(
    model: Clmer,
    examples: tuple[dict[str, Tensor], dict[str, Tensor]],
    config: PretrainConfig,
    report: Report,
    keeper: Keeper,
) -> None:
    """Train the model's encoders in place, one after the other, each as ``Pretraining`` does.

    Args:
        model: Its doors already have the constants of the training data.
        examples: Series and masks of the training side, by modality.
        config: Settings.
        report: Is told the mean losses of each epoch.
        keeper: From where to go on; is given what each epoch has reached.
    """
    x, mask = examples
    first = 0
    if keeper.start is not None:
        model.load_state_dict(keeper.start.part("model."))
        first = keeper.start.values["encoder"]
    for i, encoder in list(enumerate(model.modality_encoders()))[first:]:
        stage = Pretraining(encoder, x[encoder.name], mask[encoder.name], config)
        if keeper.start is not None and i == first:
            stage.restore(keeper.start)
        while not stage.finished:
            report(stage.run_epoch())
            tensors, values = stage.state()
            whole = {f"model.{name}": value for name, value in model.state_dict().items()}
            keeper.keep(ResumeState("pretrain", {**whole, **tensors}, {**values, "encoder": i}))


class Pretraining:
    """Trains an encoder so that two views of a window are closer than views of other windows.

    With a temporal loss, also so that the tokens of a view tell those that follow in the other view.

    Args:
        encoder: The modality's encoder; its door already has the constants of the training data.
        x: Windows of the training side, (n, ...).
        mask: Their masks (n, ...); windows without this modality are left out.
        config: Settings.
    """

    def __init__(self, encoder: ModalityEncoder, x: Tensor, mask: Tensor, config: PretrainConfig) -> None:
        present = mask.any(1)
        self._x, self._mask = x[present], mask[present]
        torch.manual_seed(config.seed)
        self._rng = torch.Generator().manual_seed(config.seed)
        self._device = next(encoder.parameters()).device
        self._encoder, self._config = encoder, config
        self._contrast = Contrast(encoder, config).to(self._device)
        self._parameters = [*encoder.parameters(), *self._contrast.parameters()]
        self._optimiser = torch.optim.Adam(self._parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._view_rng = own_generator(config.seed, self._rng)
        self._epoch = 0

    @property
    def finished(self) -> bool:
        """Whether no further epoch is due; none ever is where a process would have one window, without a negative."""
        return self._epoch >= self._config.epochs or len(self._x) < 2 * n_ranks()

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch, and return its line of the log: the mean of each loss."""
        self._encoder.train()
        lines = [self._step(rows) for rows in shares(batches(len(self._x), self._config.batch, self._rng))]
        agree(self._encoder)
        means = {name: sum(line[name] for line in lines) / len(lines) for name in lines[0]}
        line = {"stage": f"pretrain {self._encoder.name}", "epoch": self._epoch, **means}
        self._epoch += 1
        return line

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that decides how the training goes on, but the encoder: tensors, and plain JSON values."""
        optimiser, groups = optimiser_state(self._optimiser)
        contrast = {f"contrast.{name}": value for name, value in self._contrast.state_dict().items()}
        random = random_state(self._rng, self._device)
        return {**contrast, **optimiser, **random}, {"epoch": self._epoch, "groups": groups}

    def restore(self, snapshot: ResumeState) -> None:
        """Take up what ``state`` returned; the encoder has its weights of then already."""
        self._contrast.load_state_dict(snapshot.part("contrast."))
        restore_optimiser(self._optimiser, snapshot.part("optimiser."), snapshot.values["groups"])
        set_random_state(self._rng, self._device, snapshot.part("random."))
        self._epoch = snapshot.values["epoch"]

    def _step(self, rows: Tensor) -> dict[str, float]:
        batch = self._x[rows], self._mask[rows]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.mixed_precision):
            losses = self._contrast.losses(self._encoder, batch, self._view_rng)
        loss = self._contrast.weigh(losses)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        average_gradients(self._parameters)
        self._optimiser.step()
        return {"loss": loss.item(), **{name: term.item() for name, term in losses.items()}}
