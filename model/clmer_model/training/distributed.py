"""Data-parallel training in the processes that ``torchrun`` starts: each takes its share of every batch.

All ranks hold the same weights: they draw the same batches, average their gradients, and take what has no gradient
from rank 0. Augmentations and dropout differ between ranks. The contrastive losses take negatives from their own rank
only. Without ``torchrun`` every function here is that of a single rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

RANK_TIMEOUT = timedelta(hours=3)  # the others wait while rank 0 simulates people
_SEED_STEP = 7919  # between the seeds of two ranks; larger than any number of ranks


@contextmanager
def process_group() -> Iterator[bool]:
    """Join the process group if ``torchrun`` started this process; yield whether it is rank 0 or the only one."""
    if not distributed.is_torchelastic_launched():
        yield True
        return
    distributed.init_process_group("gloo", timeout=RANK_TIMEOUT)
    try:
        yield rank() == 0
        distributed.barrier()  # a rank that leaves while another still communicates with it ends both
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the rank of this process, 0 for the first or only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_ranks() -> None:
    """Block until every rank has called this."""
    if world_size() > 1:
        distributed.barrier()


def rank_generator(seed: int, shared: torch.Generator) -> torch.Generator:
    """Return the generator of this rank's augmentations, ``shared`` if alone, and seed dropout likewise."""
    if world_size() == 1:
        return shared
    torch.manual_seed(seed + _SEED_STEP * (rank() + 1))
    return torch.Generator().manual_seed(seed + _SEED_STEP * (rank() + 1))


def rank_rows(batches: Iterable[Tensor]) -> list[Tensor]:
    """Return this rank's rows of each batch; batches of fewer than two rows for each rank are left out."""
    n = world_size()
    return [rows[rank() :: n] for rows in batches if len(rows) >= 2 * n]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the ranks."""
    if world_size() > 1:
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            distributed.all_reduce(gradient)
            parameter.grad = gradient / world_size()


def synchronize(module: nn.Module) -> None:
    """Set on every rank the mean of the batch normalization statistics, and the other values of rank 0."""
    if world_size() > 1:
        for name, value in module.state_dict().items():
            if ".running_" in name:
                distributed.all_reduce(value)
                value.div_(world_size())
            distributed.broadcast(value, src=0)
