"""The contrastive stage: losses over two views of each window (paper, Eq. 1 to 4) and the training of the encoders.

``L = lambda_sample * L_sample + lambda_temporal * L_temporal`` (Eq. 4). The sample loss brings two views of a window
together. The temporal loss lets a summary of the past tell the tokens that follow from others. Strengths, tau and the
summary are not in the paper; the values here are those of the code that its authors published, after TS-TCC (Eldele et
al. 2021). Read the losses first, then ``ContrastiveLosses``, which draws the views, then ``ContrastiveStage``.
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
from clmer_model.training.augment import augmentation_of
from clmer_model.training.config import TEMPERATURE, LogCallback, Negatives, PretrainConfig
from clmer_model.training.distributed import average_gradients, rank_generator, rank_rows, synchronize, world_size
from clmer_model.training.optimizer import (
    ResumePoint,
    ResumeState,
    optimizer_state,
    random_state,
    restore_optimizer,
    set_random_state,
)


def nt_xent(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the normalized temperature-scaled cross-entropy: Eq. 1 averaged over all 2N views (Eq. 2).

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
        last: t, the last step that the summary reads; t + M < L.
        negatives: The set that j runs over.
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


def default_negatives(encoder: ModalityEncoder) -> Negatives:
    """Return the kind of negatives for a modality, unless a setting says otherwise.

    The tokens of a face series in layout ``slots`` are its slots: their negatives are each other, as in Eq. 3. Those of
    all other modalities are of other samples, as in the code that the authors published.
    """
    return "batch" if encoder.is_signal or encoder.by_points else "time"


def unit_length(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return tokens (B, L, width) scaled to length one, zero where not valid (B, L)."""
    return F.normalize(torch.where(valid.unsqueeze(2), tokens, torch.zeros_like(tokens)), dim=2)


class ContrastiveLosses(nn.Module):
    """The losses of one encoder with the layers that they need beside it; discarded after pre-training.

    The past from which the temporal loss predicts is a view of its own, of a window that is cut first: whatever an
    augmentation or a normalizer takes from its whole window (noise by its SD, the size of a face) is then of the past.
    Where there is a temporal loss, no augmentation moves samples in time. A shift of its own would show one view what
    the other is to predict, and one shift for both would only move the cut.
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
        self.negatives = config.negatives or default_negatives(encoder)
        self.views = config.views if context is None else config.views.without_time_changes()

    def losses(self, encoder: ModalityEncoder, batch: tuple[Tensor, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of Eq. 2 and 3 for a batch (series and mask), by name; its two views are drawn anew."""
        encoded = [encoder(*view) for view in self._two_views(encoder, batch, rng)]
        losses: dict[str, Tensor] = {}
        summaries = [masked_mean(*tokens) for tokens in encoded]
        if self.context is not None:
            last = int(torch.randint(0, encoder.n_tokens - self.steps_ahead, (1,), generator=rng))
            pasts = self._two_views(encoder, cut_to_past(encoder, *batch, last + 1), rng)
            with batch_norm_frozen(encoder):
                contexts = [self.context(*past_tokens(encoder, *view, last + 1)) for view in pasts]
            summaries = [s for s, _ in contexts] if self.of_context else summaries
            losses["temporal"] = self._ahead(contexts[0][1], encoded[1], last) + self._ahead(
                contexts[1][1], encoded[0], last
            )
        if self.config.lambda_sample:
            first, second = (self.head(summary) for summary in summaries)
            losses["sample"] = nt_xent(first, second, self.config.temperature)
        return losses

    def weighted_sum(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of Eq. 4."""
        weights = {"sample": self.config.lambda_sample, "temporal": self.config.lambda_temporal}
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def _two_views(
        self, encoder: ModalityEncoder, batch: tuple[Tensor, Tensor], rng: torch.Generator
    ) -> list[tuple[Tensor, Tensor]]:
        device, augment = next(encoder.parameters()).device, augmentation_of(encoder.name, encoder.is_signal)
        views = [augment(*batch, self.views, rng) for _ in range(2)]
        return [(x.to(device), mask.to(device)) for x, mask in views]

    def _ahead(self, predicted: Tensor, encoded: tuple[Tensor, Tensor], last: int) -> Tensor:
        tokens, valid = encoded
        return temporal_loss(predicted, unit_length(tokens, valid), valid, last, self.negatives)


class ProjectionHead(nn.Module):
    """Maps a summary of tokens to the space of the sample loss; discarded after pre-training."""

    def __init__(self, width: int, hidden: int = 64, out: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))

    def forward(self, summary: Tensor) -> Tensor:
        """Return (B, out) from (B, width)."""
        z: Tensor = self.layers(summary)
        return z


class ContextSummary(nn.Module):
    """A transformer over the tokens of the past, with a learnt summary token, and a linear map for each step ahead.

    Discarded after pre-training.
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
        """Return the summary s_t (B, hidden) and the predictions F(s_t) (B, M, width).

        Args:
            tokens: (B, n, width), those of the past.
            valid: (B, n) bool; other tokens are not read.
        """
        n = tokens.size(0)
        sequence = torch.cat([self.summary.expand(n, -1, -1), self.project(unit_length(tokens, valid))], dim=1)
        padding = torch.cat([torch.zeros(n, 1, dtype=torch.bool, device=valid.device), ~valid], dim=1)
        s = self.layers(sequence, src_key_padding_mask=padding)[:, 0]
        return s, torch.stack([ahead(s) for ahead in self.ahead], dim=1)


def cut_to_past(encoder: ModalityEncoder, x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the window and its mask, cut after the samples or slots of its first n tokens.

    In layout ``points`` the cut comes after the slot that holds the last point: points of one slot are not in time.

    Args:
        encoder: The modality's encoder.
        x: (B, C, T) or (B, F, ...), as the encoder takes it.
        mask: (B, C) or (B, F); that of a signal holds for the whole window and is returned as it is.
        n: Number of tokens of the past, each of ``encoder.stride`` steps.
    """
    n_steps = n * encoder.stride
    if encoder.is_signal:
        return x[..., :n_steps], mask
    n_slots = math.ceil(n_steps / math.prod(x.shape[2:-1])) if encoder.by_points else n_steps
    return x[:, :n_slots], mask[:, :n_slots]


def past_tokens(encoder: ModalityEncoder, x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the first n tokens (B, n, width) as if the window ended with them, and which are valid (B, n).

    The encoder's filters reach past their token, and its normalizer scales by the whole window. So the window is cut,
    not its tokens: what comes later has no part in the result. From later points of the same slot, which are not later
    in time, the normalizer of landmarks takes centre and size of the face; the convolutions do not reach them.

    Args:
        encoder: The modality's encoder.
        x: As the encoder takes it.
        mask: As the encoder takes it.
        n: Number of tokens of the past, each of ``encoder.stride`` steps.
    """
    x, mask = cut_to_past(encoder, x, mask, n)
    steps = encoder.steps(x, mask)[..., : n * encoder.stride]
    tokens: Tensor = encoder.blocks(steps).transpose(1, 2)[:, :n]
    whole = encoder.is_signal or encoder.by_points
    return tokens, mask.any(1, keepdim=True).expand(-1, n) if whole else mask


@contextmanager
def batch_norm_frozen(encoder: ModalityEncoder) -> Iterator[None]:
    """Keep the running statistics of batch normalization, which are those of whole windows, while cut windows pass."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def pretrain(
    model: Clmer,
    examples: tuple[dict[str, Tensor], dict[str, Tensor]],
    config: PretrainConfig,
    report: LogCallback,
    resume_point: ResumePoint,
) -> None:
    """Train the model's encoders in place, one after the other, each in a ``ContrastiveStage``.

    Args:
        model: Its normalizers already have the constants of the training data.
        examples: Series and masks of the training set, by modality.
        config: Settings.
        report: Called with the mean losses of each epoch.
        resume_point: The state to resume from, and the callback that saves the state of each epoch.
    """
    x, mask = examples
    first = 0
    if resume_point.start is not None:
        model.load_state_dict(resume_point.start.part("model."))
        first = resume_point.start.values["encoder"]
    for i, encoder in list(enumerate(model.modality_encoders()))[first:]:
        stage = ContrastiveStage(encoder, x[encoder.name], mask[encoder.name], config)
        if resume_point.start is not None and i == first:
            stage.restore(resume_point.start)
        while not stage.finished:
            report(stage.run_epoch())
            tensors, values = stage.state()
            whole = {f"model.{name}": value for name, value in model.state_dict().items()}
            resume_point.save(ResumeState("pretrain", {**whole, **tensors}, {**values, "encoder": i}))


class ContrastiveStage:
    """Trains an encoder so that two views of a window are closer than views of other windows.

    With a temporal loss, also so that the past of one view predicts the tokens that follow in the other.

    Args:
        encoder: The modality's encoder; its normalizer already has the constants of the training data.
        x: Windows of the training set, (n, ...).
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
        self._contrast = ContrastiveLosses(encoder, config).to(self._device)
        self._parameters = [*encoder.parameters(), *self._contrast.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._augmentation_rng = rank_generator(config.seed, self._rng)
        self._epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or each rank has fewer than two windows, so that none has a negative."""
        return self._epoch >= self._config.epochs or len(self._x) < 2 * world_size()

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch and return its line of the log: the mean of each loss."""
        self._encoder.train()
        lines = [self._step(rows) for rows in rank_rows(batches(len(self._x), self._config.batch, self._rng))]
        synchronize(self._encoder)
        means = {name: sum(line[name] for line in lines) / len(lines) for name in lines[0]}
        line = {"stage": f"pretrain {self._encoder.name}", "epoch": self._epoch, **means}
        self._epoch += 1
        return line

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything but the encoder that decides how the training continues: tensors, and plain JSON values."""
        optimizer, groups = optimizer_state(self._optimizer)
        contrast = {f"contrast.{name}": value for name, value in self._contrast.state_dict().items()}
        random = random_state(self._rng, self._device)
        return {**contrast, **optimizer, **random}, {"epoch": self._epoch, "groups": groups}

    def restore(self, state: ResumeState) -> None:
        """Restore the state that ``state`` returned; the encoder has its weights already."""
        self._contrast.load_state_dict(state.part("contrast."))
        restore_optimizer(self._optimizer, state.part("optimiser."), state.values["groups"])
        set_random_state(self._rng, self._device, state.part("random."))
        self._epoch = state.values["epoch"]

    def _step(self, rows: Tensor) -> dict[str, float]:
        batch = self._x[rows], self._mask[rows]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.mixed_precision):
            losses = self._contrast.losses(self._encoder, batch, self._augmentation_rng)
        loss = self._contrast.weighted_sum(losses)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        average_gradients(self._parameters)
        self._optimizer.step()
        return {"loss": loss.item(), **{name: term.item() for name, term in losses.items()}}


def batches(n: int, size: int, rng: torch.Generator) -> list[Tensor]:
    """Return the rows 0 to n - 1 in random order, in batches; a last batch of one row is left out.

    Batch normalization and negatives need two rows.
    """
    order = torch.randperm(n, generator=rng)
    parts = [order[first : first + size] for first in range(0, n, size)]
    return [rows for rows in parts if len(rows) > 1]
