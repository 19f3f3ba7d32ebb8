"""One step of a reranker's training: which pairs are compared, the loss, the weights' average."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import TrainingError
from xsearch.core.extras import require

from .network import Reranker

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xsearch.training.losses.matching import (  # noqa: E402
    first_of,
    grounding,
    group_contrast,
    match,
    own_first,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .config import RerankConfig
    from .material import Captioned, RerankMaterial, Scenes, Wrongs
    from .plan import Epoch

    Indices = NDArray[np.int64]


SHARED = ("see", "place", "agreement")
"""Weights that the first stage learns, and the others go on with."""


class Learner:
    """The network, its optimiser, and the moving average of its weights."""

    def __init__(
        self,
        config: RerankConfig,
        network: Reranker,
        material: RerankMaterial,
        device: torch.device,
    ) -> None:
        self.config, self.material, self.device = config, material, device
        self.network = network.to(device).train()
        self._captions = material.train.captions_of()
        decay = config.optimiser.weight_decay
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [value], "weight_decay": decay if value.ndim > 1 else 0.0, "name": name}
                for name, value in network.named_parameters()
            ],
            config.optimiser.rate,
            betas=(0.9, 0.98),
        )
        self.average = {name: value.clone() for name, value in network.state_dict().items()}

    def step(self, number: int, epoch: Epoch, rate: float, chosen: Indices | None) -> float:
        """Learn from groups of pictures (n, g), or from scenes alone; returns the loss."""
        random = np.random.default_rng([self.config.seed, 2, number])
        torch.manual_seed(int(random.integers(1 << 62)))
        settings, stage = self.config, epoch.stage
        kept = 1.0 if stage == "align" else settings.align.kept
        for group in self.optimiser.param_groups:
            shared = group["name"].split(".")[0] in SHARED
            group["lr"] = rate * (kept if shared else 1.0)
            group["params"][0].requires_grad_(not shared or kept > 0)
        share = settings.compose.dropout if stage == "compose" else settings.network.dropout
        for module in self.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = share
        deep = epoch.deep
        losses = []
        if chosen is not None:
            losses.append(self._pictures(chosen, random, deep=deep))
        if self.material.scenes is not None:
            count = settings.compose.scenes if chosen is None else settings.batch.scenes
            weight = settings.loss.scenes if deep else settings.align.scenes
            losses.append(weight * self._scenes(self.material.scenes, count, random, deep=deep))
        loss = torch.stack(losses).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip)
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(float(norm)):
            return math.nan
        self.optimiser.step()
        # At first the average is of few steps, and forgets what was before the stage.
        since = number - epoch.begun
        decay = min(self.config.optimiser.average, (since + 1) / (since + 10))
        with torch.no_grad():
            for name, weights in self.network.state_dict().items():
                self.average[name].lerp_(weights, 1 - decay)
        return value

    def _pictures(self, chosen: Indices, random: np.random.Generator, *, deep: bool) -> Tensor:
        """The loss of groups of pictures (n, g), each with one of its captions."""
        train, longest = self.material.train, self.config.material.longest
        count, size = chosen.shape
        rows = chosen.reshape(-1)
        captions = np.array([self._caption(row, random) for row in rows.tolist()])
        views = random.integers(len(train.regions.views), size=len(rows))
        memories = self.network.remember(self._tensor(train.regions.batch(rows, views)))
        tokens, mask = self._texts(train, captions.reshape(count, size), longest, random)
        texts = self.network.understand(tokens, mask, deep=deep).repeated(size)
        found = self.network.match(texts, memories).log_odds
        squares = found.view(count, size, size)
        settings = self.config.loss
        loss = group_contrast(squares, smoothing=settings.smoothing)
        if self.material.wrongs is not None:
            wrong = self._wrong(self.material.wrongs, captions, memories, random, deep=deep)
            if wrong is not None:
                loss = loss + settings.wrong * own_first(squares, wrong)
        return loss + settings.match * match(squares)

    def _caption(self, row: int, random: np.random.Generator) -> int:
        """A caption of a picture: mostly of the main language, where it has such."""
        own = self._captions[row]
        main = self.material.train.main[own]
        foreign = random.random() < self.config.material.foreign_share
        some = own[~main] if foreign else own[main]
        return int(random.choice(some if len(some) else own))

    def _wrong(
        self,
        wrongs: Wrongs,
        captions: Indices,
        memories: Tensor,
        random: np.random.Generator,
        *,
        deep: bool,
    ) -> Tensor | None:
        """Log-odds (n, 1) of a wrong caption of each picture's own; -inf where there is none."""
        first, last = wrongs.starts[captions], wrongs.starts[captions + 1]
        there = np.flatnonzero(last > first)
        if not len(there):
            return None
        rows = random.integers(first[there], last[there])
        found = wrongs.tokens.batch(rows[:, None], 2 * self.config.material.longest)
        tokens, mask = (self._tensor(part) for part in found)
        at = torch.from_numpy(there).to(self.device)
        texts = self.network.understand(tokens, mask, deep=deep)
        matched = self.network.match(texts, memories[at]).log_odds
        empty = torch.full((len(memories), 1), float("-inf"), device=self.device)
        return empty.index_copy(0, at, matched)

    def _scenes(
        self, scenes: Scenes, count: int, random: np.random.Generator, *, deep: bool
    ) -> Tensor:
        """The loss of made-up pictures: their true texts against wrong ones, and where words look.

        Beside its own texts, each is compared with those of no other: few would fit by chance.
        """
        count = min(count, len(scenes.texts))
        drawn = random.choice(len(scenes.texts), count, replace=False)
        rows = scenes.texts[drawn]
        flat = rows.reshape(len(rows), -1)
        memories = self.network.remember(self._tensor(scenes.regions.batch(drawn)))
        found = scenes.tokens.batch(np.maximum(flat, 0), 2 * self.config.material.longest)
        tokens, mask = (self._tensor(part) for part in found)
        matched = self.network.match(self.network.understand(tokens, mask, deep=deep), memories)
        there = torch.from_numpy(rows >= 0).to(self.device).reshape(-1, rows.shape[2])
        log_odds = matched.log_odds.reshape(there.shape)
        # A statement may be missing where a scene has but one.
        loss = first_of(log_odds[there[:, 0]], there[there[:, 0]])
        places = self._places(scenes, flat, tokens.shape[2])
        if places is None:
            return loss
        (pictures, texts, at), inside = places
        looks = (matched.attention, *matched.guided)
        lost = [grounding(look[pictures, texts, at], inside) for look in looks]
        return loss + self.config.loss.grounding * torch.stack(lost).mean()

    def _places(
        self, scenes: Scenes, flat: Indices, length: int
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor] | None:
        """Tokens that name things, as (picture, text, token), and the regions (n, R) they cover.

        Of texts that were cut to a length, those that are left.
        """
        named = [
            (picture, place, token, boxes)
            for picture, texts in enumerate(flat.tolist())
            for place, text in enumerate(texts)
            for token, boxes in scenes.boxes.get(text, ())
            if token < length
        ]
        if not named:
            return None
        grid = self.network.shape.grid
        covered = np.stack([np.max([cover(box, grid) for box in each], 0) for *_, each in named])
        pictures, texts, tokens = (
            torch.tensor(column, device=self.device)
            for column in zip(*(each[:3] for each in named), strict=True)
        )
        return (pictures, texts, tokens), self._tensor(covered)

    def _texts(
        self, captioned: Captioned, rows: Indices, longest: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        tokens, mask = captioned.tokens.batch(rows, longest, random)
        return self._tensor(tokens), self._tensor(mask)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`. Raises TrainingError where it is of another network."""
        try:
            self.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise TrainingError(
                f"the checkpoint is of another network ({first}); begin a new run in another "
                "folder with --out"
            ) from error
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}


def cover(box: tuple[float, float, float, float], grid: tuple[int, int]) -> NDArray[np.float32]:
    """The share of each region of a grid (rows, columns) that a box covers: float32 (R,).

    The box is left, top, right and bottom as shares of the picture.
    """
    sides = []
    for first, last, count in ((box[1], box[3], grid[0]), (box[0], box[2], grid[1])):
        edges = np.arange(count + 1) / count
        inside = np.minimum(edges[1:], last) - np.maximum(edges[:-1], first)
        sides.append(np.clip(inside * count, 0, 1))
    covered: NDArray[np.float32] = np.outer(*sides).reshape(-1).astype(np.float32)
    return covered
