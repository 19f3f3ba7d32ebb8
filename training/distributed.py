"""Several processes that train one model, started by torch's own launcher (`torchrun`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class Processes:
    """How many there are, which one this is, and which one on its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this one writes and speaks."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Which rows of a batch are this one's; sizes differ by one at most."""
        size, more = divmod(rows, self.count)
        start = self.rank * size + min(self.rank, more)
        return slice(start, start + size + (self.rank < more))


def processes() -> Processes:
    """What the launcher's environment says; a single process without it. Raises UsageError."""
    try:
        return Processes(
            *(int(os.environ.get(name, default)) for name, default in _VARIABLES.items())
        )
    except ValueError as error:
        raise UsageError(f"the environment's RANK and WORLD_SIZE are no numbers: {error}") from None


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the other processes, over NCCL on GPUs and Gloo elsewhere, until the block ends."""
    from torch import distributed

    found = processes()
    if found.count == 1 or distributed.is_initialized():
        yield found
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield found
    finally:
        distributed.destroy_process_group()


def same_everywhere(model: nn.Module) -> None:
    """Give all processes the first one's parameters and buffers."""
    from torch import distributed

    if distributed.is_initialized():
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor.data, 0)


def average_buffers(model: nn.Module) -> None:
    """Give all processes the mean of what each has counted, such as running statistics."""
    from torch import distributed

    if distributed.is_initialized():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= distributed.get_world_size()


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether any process says so."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        return flag
    found = torch.tensor(float(flag), device=device)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return bool(found)


def mean_of(value: torch.Tensor) -> float:
    """The mean over processes of a scalar."""
    from torch import distributed

    found = value.detach().float().clone()
    if distributed.is_initialized():
        distributed.all_reduce(found)
        found /= distributed.get_world_size()
    return float(found)


def barrier() -> None:
    """Wait until all processes are here."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.barrier()
