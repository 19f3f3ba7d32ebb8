"""One of several real processes that compute a loss together, for `test_losses`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from xsearch.training.gradcache import cached_backward
from xsearch.training.losses import average_gradients, build_loss

ROWS = (3, 5)
CASES = {
    "infonce": ("infonce", {"smoothing": 0.1}),
    "sigmoid": ("sigmoid", {}),
    "hardest": ("triplet", {}),
    "semi-hard": ("triplet", {"negatives": "semi-hard"}),
    "similarities": ("similarities", {"compared": ["image-text", "text-text"]}),
}
# The last row of one process and the first of the other are of one item.
OWNERS = torch.tensor([0, 1, 2, 2, 3, 4, 0, 5])


class Towers(nn.Module):
    """Two linear maps: enough for gradients that depend on every row."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(4, 6), nn.Linear(5, 6)

    def forward(self, pictures: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        normalise = nn.functional.normalize
        return normalise(self.image(pictures), dim=1), normalise(self.text(words), dim=1)


def material() -> tuple[Towers, Tensor, Tensor]:
    """Towers, and inputs of 8 pairs: the same wherever it is called."""
    torch.manual_seed(0)
    return Towers(), torch.randn(8, 4), torch.randn(8, 5)


def result(case: str, rows: slice, *, cached: bool = False) -> dict[str, Tensor]:
    """The loss of some rows and the gradients, averaged over processes where there are several."""
    towers, pictures, words = material()
    kind, settings = CASES[case]
    loss = build_loss(kind, settings, 6)

    def value(images: Tensor, texts: Tensor) -> Tensor:
        if kind == "similarities":
            return loss(images, texts, pictures[rows], words[rows, :4])
        return loss(images, texts, OWNERS[rows])

    if cached:
        chunks = torch.arange(8)[rows].split(2)
        found = cached_backward(lambda chunk: towers(pictures[chunk], words[chunk]), chunks, value)
    else:
        found = value(*towers(pictures[rows], words[rows]))
        found.backward()
    parameters = {**dict(towers.named_parameters()), **dict(loss.named_parameters())}
    average_gradients(parameters.values())
    return {"loss": found.detach()} | {name: each.grad for name, each in parameters.items()}


def work(rank: int, folder: str) -> None:
    """Compute all cases as process `rank`, and save them in the folder."""
    store = (Path(folder) / "rendezvous").as_uri()
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=len(ROWS))
    start = sum(ROWS[:rank])
    rows = slice(start, start + ROWS[rank])
    found = {case: result(case, rows) for case in CASES}
    found["cached"] = result("infonce", rows, cached=True)
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()
