"""The contrastive stage, encoder by encoder and epoch by epoch; it can be broken off and taken up again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clmer_model.clmer import Clmer
from clmer_model.encoder import ModalityEncoder
from clmer_model.training.optimise import optimiser_state, restore_optimiser
from clmer_model.training.pretrain import Contrast, PretrainConfig, Report, batches
from clmer_model.training.ranks import agree, average_gradients, n_ranks, own_generator, shares
from clmer_model.training.snapshot import Keeper, Snapshot, random_state, set_random_state


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
            keeper.keep(Snapshot("pretrain", {**whole, **tensors}, {**values, "encoder": i}))


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

    def restore(self, snapshot: Snapshot) -> None:
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
