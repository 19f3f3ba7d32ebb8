"""Learns fusions of an image and a text, see `xsearch.retrieval.fusion`, and their losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xsearch.core.errors import UsageError
from xsearch.core.extras import require
from xsearch.retrieval.fusion import Concatenation, Residual

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xsearch.retrieval.encoders.clip.network import unit  # noqa: E402

from .losses.batch import check  # noqa: E402
from .losses.infonce import InfoNCE  # noqa: E402


class TrainableFusion(nn.Module):
    """A linear map of image and text vector, concatenated, back into the joint space.

    It starts as their sum, a fusion without any training.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * dim, dim)
        with torch.no_grad():
            self.projection.weight.copy_(torch.cat([torch.eye(dim), torch.eye(dim)], dim=1))
            self.projection.bias.zero_()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Fused vectors (n, dim), unit length, of images (n, dim) and texts (n, dim).

        Raises UsageError: no rows, or shapes that do not match.
        """
        check(images, texts)
        with torch.autocast(images.device.type, enabled=False):
            return unit(self.projection(torch.cat([images.float(), texts.float()], dim=1)))

    def export(self) -> Concatenation:
        """The same fusion in numpy, for queries."""
        weight, bias = (
            parameter.detach().float().cpu().numpy().copy()
            for parameter in (self.projection.weight, self.projection.bias)
        )
        return Concatenation(weight, bias)


class TrainableResidual(nn.Module):
    """A weighted sum, and a change of it by a perceptron of one layer that sees both vectors.

    It starts as image + `share` x text: what the perceptron adds is 0 at first.
    """

    share: Tensor

    def __init__(self, dim: int, *, hidden: int = 256, share: float = 1.5, drop: float = 0.5):
        super().__init__()
        self.register_buffer("share", torch.tensor(share))
        self.inner = nn.Linear(2 * dim, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Fused vectors (n, dim), unit length, of images (n, dim) and texts (n, dim).

        Raises UsageError: no rows, or shapes that do not match.
        """
        check(images, texts)
        hidden = self.inner(torch.cat([images, texts], dim=1)).relu()
        return unit(images + self.share * texts + self.outer(self.drop(hidden)))

    def export(self) -> Residual:
        """The same fusion in numpy, for queries."""
        return Residual(
            *(
                values.detach().float().cpu().numpy().copy()
                for values in (
                    self.share,
                    self.inner.weight,
                    self.inner.bias,
                    self.outer.weight,
                    self.outer.bias,
                )
            )
        )


class FusionLoss(nn.Module):
    """InfoNCE of an image fused with one caption against another caption of the image.

    It asks of the fused vector what a search asks of it: to lie near to what describes the same
    picture in other words. Fusing for retrieval by a learnt map of the concatenation: a baseline
    of Vo et al. 2019, "Composing Text and Image for Image Retrieval".
    """

    def __init__(self, fusion: TrainableFusion, contrast: InfoNCE) -> None:
        super().__init__()
        self.fusion = fusion
        self.contrast = contrast

    def forward(
        self, images: Tensor, texts: Tensor, others: Tensor, owners: Tensor | None = None
    ) -> Tensor:
        """The loss, a scalar: image i (n, dim) with text i against text i of the others.

        `owners` as in `InfoNCE`. Raises UsageError: no rows, or shapes that do not match.
        """
        loss: Tensor = self.contrast(self.fusion(images, texts), others, owners)
        return loss


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """Queries of a picture and a text among n pictures, and what fits each.

    `images` (n, dim) and `texts` (m, dim) are unit vectors. Query i is picture references[i],
    int64 (q,), with text asked[i], int64 (q,); `relevant[i]` are the pictures that fit it.
    """

    images: Tensor
    texts: Tensor
    references: Tensor
    asked: Tensor
    relevant: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.references)


class ComposedLoss(nn.Module):
    """Cross-entropy of a fused query over all pictures, its reference left out.

    For a fused vector f, pictures x, unit length, and the set P of those that fit::

        p_j = softmax over j of f . x_j / temperature
        L   = mean over P of -log p_j, and over the queries

    The softmax loss of Vo et al. 2019, with all pictures in place of a batch; several that fit as
    L_out of Khosla et al. 2020, "Supervised Contrastive Learning", equation 2.
    """

    def __init__(self, data: Composed, temperature: float) -> None:
        super().__init__()
        if not len(data):
            raise UsageError("there are no queries to learn from")
        self._data, self._temperature = data, temperature

    def forward(self, fusion: Callable[[Tensor, Tensor], Tensor], rows: Tensor) -> Tensor:
        """The loss, a scalar, of the queries at some rows, int64 (b,)."""
        data = self._data
        references = data.references[rows]
        fused = fusion(data.images[references], data.texts[data.asked[rows]])
        logits = fused @ data.images.T / self._temperature
        logits = logits.scatter(1, references[:, None], -torch.inf)
        fits = [list(data.relevant[row]) for row in rows.tolist()]
        counts = torch.tensor([len(own) for own in fits])
        owners = torch.arange(len(fits)).repeat_interleave(counts)
        columns = torch.tensor([picture for own in fits for picture in own])
        found = -logits.log_softmax(dim=1)[owners, columns] / counts[owners]
        return found.sum() / len(fits)


@dataclass(frozen=True, slots=True)
class ComposedSettings:
    """How a fusion is learnt: chosen for the built-in encoder on Flickr8k val."""

    epochs: int = 4
    batch: int = 256
    rate: float = 1e-3
    decay: float = 1e-4
    temperature: float = 0.05
    seed: int = 0


def train_composed(
    fusion: nn.Module,
    data: Composed,
    settings: ComposedSettings,
    report: Callable[[int, int, float], None] | None = None,
) -> None:
    """Teach a fusion to find what fits; `report` is told step, steps and loss.

    Adam with one cycle of the rate (Smith and Topin 2018); weights decay towards where they
    started, rather than towards 0. The caller seeds what the fusion starts from.

    Raises UsageError: no queries.
    """
    loss = ComposedLoss(data, settings.temperature)
    torch.manual_seed(settings.seed)
    start = [parameter.detach().clone() for parameter in fusion.parameters()]
    steps = settings.epochs * math.ceil(len(data) / settings.batch)
    batches = (
        order[first : first + settings.batch]
        for order in (torch.randperm(len(data)) for _ in range(settings.epochs))
        for first in range(0, len(data), settings.batch)
    )
    optimiser = torch.optim.Adam(fusion.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=steps, pct_start=0.1
    )
    fusion.train()
    for step, rows in enumerate(batches, 1):
        found = loss(fusion, rows)
        away = sum(
            (now - before).square().sum()
            for now, before in zip(fusion.parameters(), start, strict=True)
        )
        optimiser.zero_grad()
        (found + settings.decay * away).backward()
        optimiser.step()
        schedule.step()
        if report:
            report(step, steps, found.item())
    fusion.eval()
