"""Training in several processes, as ``torchrun`` starts them: each takes its share of every batch.

All processes hold the same weights: they draw the same batches, average their gradients, and take what belongs to no
gradient from the first one. Views and dropout differ between them. The contrastive losses tell a sample from those of
its own process alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

LONGEST_WAIT = timedelta(hours=3)  # of the others, while the first process simulates people
_APART = 7919  # between the seeds of two processes; larger than any number of them


@contextmanager
def joined() -> Iterator[bool]:
    """Join the other processes if ``torchrun`` started this one; tell whether it is the first, or the only one."""
    if not distributed.is_torchelastic_launched():
        yield True
        return
    distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        yield rank() == 0
        distributed.barrier()  # who leaves while another still talks to it takes both down
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process, 0 for the first or only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def n_ranks() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if n_ranks() > 1:
        distributed.barrier()


def own_generator(seed: int, shared: torch.Generator) -> torch.Generator:
    """Return the source of this process's views: the shared one if alone, else one of its own; dropout likewise."""
    if n_ranks() == 1:
        return shared
    torch.manual_seed(seed + _APART * (rank() + 1))
    return torch.Generator().manual_seed(seed + _APART * (rank() + 1))


def shares(batches: Iterable[Tensor]) -> list[Tensor]:
    """Return this process's rows of each batch; a batch of fewer than two rows for each process is left out."""
    n = n_ranks()
    return [rows[rank() :: n] for rows in batches if len(rows) >= 2 * n]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if n_ranks() > 1:
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            distributed.all_reduce(gradient)
            parameter.grad = gradient / n_ranks()


def agree(module: nn.Module) -> None:
    """Give every process the mean of the statistics of batch normalisation, and the first one's weights."""
    if n_ranks() > 1:
        for name, value in module.state_dict().items():
            if ".running_" in name:
                distributed.all_reduce(value)
                value.div_(n_ranks())
            distributed.broadcast(value, src=0)
