"""What contrastive losses share: checked fp32 rows, columns of all processes, what is a positive.

With `torch.distributed` running, each process compares its own rows with the columns of all
processes, as CLIP does (Radford et al. 2021, section 2.5 and figure 3). The mean over processes
of such losses is the loss of the whole batch in one process, and the mean of the gradients is its
gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, distributed, nn  # noqa: E402


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A batch of n image-text pairs here, N in all processes.

    `images` and `texts` are (n, d), `all_images` and `all_texts` (N, d), fp32; `own`, int64 (n,),
    is the column of each row's own partner, `positives`, bool (n, N), all columns with the row's
    owner. `weight` multiplies a mean over rows: 1, unless processes hold unequally many.
    """

    images: Tensor
    texts: Tensor
    all_images: Tensor
    all_texts: Tensor
    own: Tensor
    positives: Tensor
    weight: float

    @property
    def directions(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Rows and columns of both directions: images to texts, texts to images."""
        return (self.images, self.all_texts), (self.texts, self.all_images)


def pairs(images: Tensor, texts: Tensor, owners: Tensor | None = None) -> Pairs:
    """Check a batch (n, d), (n, d) and gather the columns of all processes, with gradient.

    `owners`, integers (n,), says what is the same item: pairs with equal owners are positives of
    each other, over all processes. None: every pair is its own.

    Raises UsageError: no rows, shapes that do not match, owners that are not integers.
    """
    check(images, texts)
    images, texts = images.float(), texts.float()
    columns, start, total = gather(torch.cat([images, texts], dim=1))
    all_images, all_texts = columns.chunk(2, dim=1)
    own = start + torch.arange(len(images), device=images.device)
    if owners is None:
        positives = own[:, None] == torch.arange(total, device=images.device)
    else:
        check_owners(owners, len(images))
        owners = owners.to(images.device, torch.int64)
        positives = owners[:, None] == gather(owners)[0]
    weight = len(images) * processes() / total
    return Pairs(images, texts, all_images, all_texts, own, positives, weight)


def check(images: Tensor, texts: Tensor) -> None:
    """Raise UsageError unless both are (n, d) with the same n > 0 and d."""
    if images.ndim != 2 or images.shape != texts.shape or not len(images):
        raise UsageError(
            f"a loss takes as many image as text vectors of one length, got {tuple(images.shape)} "
            f"and {tuple(texts.shape)}"
        )


def check_owners(owners: Tensor, rows: int) -> None:
    """Raise UsageError unless these are integers, one for each row."""
    if owners.shape != (rows,) or owners.is_floating_point():
        raise UsageError(
            f"a loss takes one integer owner a row, got {tuple(owners.shape)} {owners.dtype} for "
            f"{rows} rows"
        )


def similarities(rows: Tensor, columns: Tensor) -> Tensor:
    """Dot products (n, N) of rows (n, d) with columns (N, d), in fp32 under autocast, too."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows.float() @ columns.float().T


def processes() -> int:
    """How many processes train together; 1 without `torch.distributed`."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def gather(rows: Tensor) -> tuple[Tensor, int, int]:
    """The rows (N, ...) of all processes in order of rank, where this one's begin, and N.

    Processes may hold unequally many rows; gradients flow back to the process a row came from.
    """
    count = processes()
    if count == 1:
        return rows, 0, len(rows)
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(count)]
    distributed.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    counts = [int(size) for size in sizes]
    rank = distributed.get_rank()
    return _gathered(rows, counts), sum(counts[:rank]), sum(counts)


def _gathered(rows: Tensor, counts: list[int]) -> Tensor:
    longest = max(counts)
    padding = rows.new_zeros(longest - len(rows), *rows.shape[1:])
    apply: Any = _Gather.apply
    blocks: Tensor = apply(torch.cat([rows, padding]))
    return torch.cat([block[:size] for block, size in zip(blocks, counts, strict=True)])


class _Gather(torch.autograd.Function):
    """All processes' rows (processes, n, ...); backward adds up what all processes ask of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ARG004
        blocks = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(blocks, rows.contiguous())
        return torch.stack(blocks)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        # An all-reduce works with every backend; gloo knows no reduce-scatter.
        total = gradients[0].contiguous()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over processes; nothing to do for a single process.

    For modules outside `DistributedDataParallel`, as a loss with a temperature is, or for whole
    models after GradCache. A parameter that only some processes used counts as 0 in the others.
    """
    held = [parameter for parameter in parameters if parameter.requires_grad]
    if processes() == 1 or not held:
        return
    used = torch.tensor([p.grad is not None for p in held], dtype=torch.int32).to(held[0].device)
    distributed.all_reduce(used, op=distributed.ReduceOp.MAX)
    shared = [parameter for parameter, any_ in zip(held, used.tolist(), strict=True) if any_]
    for parameter in shared:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)
        parameter.grad /= processes()
