"""Trains the image tower and the English text tower together, from the closed-form start.

Contrastive learning on captions and class names at once. What keeps it good beyond its captions:
early blocks stay frozen, class scores stay near ImageNet's (Li and Hoiem 2016), texts stay near
where the frozen text tower put them, and photographs of other kinds with class names are learnt
from in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from xsearch.training.optimise import rate_factor
from xsearch.training.towers.builtin import FROZEN

from .corpus import Captioned, Labelled
from .model import Images, Texts
from .views import View


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """What was chosen on Flickr8k's validation split and `other_val` together."""

    epochs: int = 6
    batch: int = 128
    labelled: int = 32
    """Photographs with class names in each batch, beside those with captions."""
    captions: int = 2
    """Captions of a photograph in a batch."""
    rate: float = 2e-4
    head_rate: float = 5e-4
    text_rate: float = 5e-5
    text_head_rate: float = 2.5e-4
    decay: float = 0.05
    temperature: float = 0.05
    soft: float = 0.15
    """Share of the targets that goes to photographs with captions alike."""
    soft_temperature: float = 0.05
    keep_classes: float = 0.5
    keep_texts: float = 1.0
    drop: float = 0.1
    """Of blocks, for the last; of features before the head."""
    warmup: int = 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Material:
    """What is learnt from: pictures as views, those with captions first, then the labelled."""

    captioned: Captioned
    labelled: Labelled
    views: Sequence[View]
    class_scores: Sequence[Tensor]
    """ImageNet's scores (n, 1000) for each view."""
    captions: Tensor
    """Where the start puts the captions: (captioned, c, d), unit length."""
    labels: Tensor
    """Where it puts the labels' texts: (labelled, d), unit length."""


class Tuner:
    """One run; `step` learns from one batch."""

    def __init__(
        self, images: Images, english: Texts, material: Material, settings: TuneSettings
    ) -> None:
        self.images, self.english = images, english
        self.material, self.settings = material, settings
        self.random = np.random.default_rng(settings.seed)
        torch.manual_seed(settings.seed)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / settings.temperature)))
        self.per_epoch = len(material.captioned.files) // settings.batch
        self.steps = self.per_epoch * settings.epochs
        self.optimiser = self._optimiser()
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self._order: list[int] = []

    def _optimiser(self) -> torch.optim.Optimizer:
        images, english, s = self.images, self.english, self.settings
        backbone, bert = images.tower.backbone, english.tower.bert
        fixed = [backbone.stem, *list(backbone.blocks)[:FROZEN], backbone.classifier]
        for module in (*fixed, bert.words, bert.positions, bert.types):
            module.requires_grad_(False)
        english.head.bias.requires_grad_(False)
        groups: list[dict[str, object]] = []
        for parameters, rate in (
            (backbone.parameters(), s.rate),
            ((images.weight, images.bias), s.head_rate),
            (bert.parameters(), s.text_rate),
            (english.head.parameters(), s.text_head_rate),
        ):
            used = [p for p in parameters if p.requires_grad]
            for matrices in (True, False):
                chosen = [p for p in used if (p.ndim > 1) is matrices]
                decay = s.decay if matrices else 0.0
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        groups.append({"params": [self.scale], "lr": 1e-3, "weight_decay": 0.0})
        return torch.optim.AdamW([g for g in groups if g["params"]], fused=True)

    def run(self, report: Callable[[int, int, float], None]) -> None:
        """All steps; `report` is told each one's number, of how many, and its loss."""
        for number in range(self.steps):
            report(number, self.steps, self.step(number))

    def step(self, number: int) -> float:
        """Learn from the next batch."""
        factor = max(0.01, rate_factor(number + 1, self.steps, warmup=self.settings.warmup))
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        loss = self._loss(*self._draw())
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        used = [p for group in self.optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(used, 5.0)
        self.optimiser.step()
        return loss.item()

    def _draw(self) -> tuple[list[int], list[int]]:
        """Numbers of photographs with captions, and of labelled ones."""
        size = self.settings.batch
        if len(self._order) < size:
            self._order = self.random.permutation(len(self.material.captioned.files)).tolist()
        chosen, self._order = self._order[:size], self._order[size:]
        labelled = len(self.material.labelled.files)
        others = self.random.choice(labelled, self.settings.labelled, replace=False)
        return chosen, others.tolist()

    def _loss(self, chosen: list[int], others: list[int]) -> Tensor:
        m, s = self.material, self.settings
        first = len(m.captioned.files)
        rows = [*chosen, *(first + other for other in others)]
        looks = self.random.integers(0, len(m.views), len(rows))
        maps = torch.cat([m.views[v].batch([row]) for row, v in zip(rows, looks, strict=True)])
        vectors, scores = self.images(maps, s.drop, s.drop)
        picked = [
            self.random.choice(len(m.captioned.captions[i]), s.captions, replace=False)
            for i in chosen
        ]
        texts = [
            m.captioned.captions[i][c] for i, cs in zip(chosen, picked, strict=True) for c in cs
        ]
        encoded = self.english.learning([*texts, *(m.labelled.texts[i] for i in others)])
        start = torch.cat(
            [
                torch.stack(
                    [
                        m.captions[i, int(c)]
                        for i, cs in zip(chosen, picked, strict=True)
                        for c in cs
                    ]
                ),
                m.labels[others],
            ]
        )
        by_caption = encoded[: len(texts)].view(len(chosen), s.captions, -1)
        wanted = torch.stack([m.class_scores[v][row] for row, v in zip(rows, looks, strict=True)])
        return (
            self._captions(vectors[: len(chosen)], by_caption, m.captions[chosen])
            + self._labels(vectors[len(chosen) :], encoded[len(texts) :], by_caption[:, 0], others)
            + s.keep_classes * _same_classes(scores, wanted)
            + s.keep_texts * (1 - (encoded * start).sum(1)).mean()
        )

    def _captions(self, images: Tensor, captions: Tensor, start: Tensor) -> Tensor:
        """InfoNCE both ways; a share of each target goes to photographs with captions alike."""
        s = self.settings
        middle = functional.normalize(start.mean(1), dim=1)
        alike = torch.softmax(middle @ middle.T / s.soft_temperature, 1)
        targets = (1 - s.soft) * torch.eye(len(images)) + s.soft * alike
        loss = torch.zeros(())
        for number in range(captions.shape[1]):
            logits = self.scale.exp() * images @ captions[:, number].T
            loss = loss + _both_ways(logits, targets, targets) / captions.shape[1]
        return loss

    def _labels(
        self, images: Tensor, labels: Tensor, captions: Tensor, others: list[int]
    ) -> Tensor:
        """The same for class names, several photographs of one class being true pairs; captions
        of the batch are further wrong answers.
        """
        names = [self.material.labelled.labels[i] for i in others]
        same = torch.tensor([[one == other for other in names] for one in names]).float()
        same = same / same.sum(1, keepdim=True)
        scale = self.scale.exp()
        logits = scale * images @ labels.T
        wider = torch.cat([logits, scale * images @ captions.T], 1)
        targets = torch.cat([same, torch.zeros(len(names), len(captions))], 1)
        loss = (_cross_entropy(wider, targets) + _cross_entropy(logits.T, same)) / 2
        return loss * len(names) / len(captions)


def _both_ways(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return (_cross_entropy(logits, rows) + _cross_entropy(logits.T, columns)) / 2


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return -(targets * functional.log_softmax(logits, 1)).sum(1).mean()


def _same_classes(scores: Tensor, wanted: Tensor, temperature: float = 2.0) -> Tensor:
    """Distillation of class scores (Hinton et al. 2015), both (n, 1000)."""
    student = functional.log_softmax(scores / temperature, 1)
    teacher = functional.softmax(wanted / temperature, 1)
    divergence = functional.kl_div(student, teacher, reduction="batchmean")
    return divergence * temperature**2
