"""Measures a reranker while it learns: recall of the dual encoder's candidates, reordered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.core.extras import require

from .network import STEP, Reranker, whole

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

if TYPE_CHECKING:
    from xsearch.core.encoder import Float32

    from .material import Captioned

    Indices = NDArray[np.int64]

CUTS = (1, 5, 10)
WHOLE = 64
"""Tokens of a text that are read when it is measured."""
WEIGHTS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1)
"""What a log-odds of the reranker counts beside a cosine, tried on validation."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Queries with their candidates: ids (q, n), cosines and reranker's log-odds of them, and
    whether each is right.
    """

    candidates: Indices
    cosines: Float32
    log_odds: Float32
    right: NDArray[np.bool_]

    def recalls(self, weight: float) -> dict[int, float]:
        """Percentage of queries with a right one among the first, by cut, with a blend's weight."""
        return recalls(self.cosines + weight * self.log_odds, self.right)


def recalls(values: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> dict[int, float]:
    """Percentage of queries with a right candidate among the first, by cut.

    Values of candidates (q, n), the best the highest, and which are right.
    """
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(right, order, axis=1)
    return {cut: 100 * float(ranked[:, :cut].any(1).mean()) for cut in CUTS}


@torch.inference_mode()
def compare(
    network: Reranker,
    measured: Captioned,
    *,
    candidates: int,
    queries: int,
    from_text: bool,
    device: torch.device,
    deep: bool = True,
) -> Compared:
    """Rerank what the dual encoder finds for captions, or for pictures.

    Queries are spread evenly over all there are. Memories are rounded as they will be kept. Not
    `deep`, by the agreement of words and regions alone.
    """
    network.eval()
    images, texts = measured.regions.vectors, measured.vectors
    sources, targets = (texts, images) if from_text else (images, texts)
    chosen = np.linspace(0, len(sources) - 1, min(queries, len(sources))).astype(np.int64)
    cosines = sources[chosen] @ targets.T
    count = min(candidates, len(targets))
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    memories = _memories(network, measured, device)
    offsets = torch.cat(
        [network.offset(memories[at : at + 16]) for at in range(0, len(memories), 16)]
    )
    found = np.empty(best.shape, np.float32)
    for row, (query, near) in enumerate(zip(chosen.tolist(), best, strict=True)):
        asked = np.array([query]) if from_text else near
        pictures = near if from_text else np.array([query])
        tokens, mask = (
            torch.from_numpy(part).to(device)[:, None]
            for part in measured.tokens.batch(asked, WHOLE)
        )
        asked_for = network.understand(tokens, mask, deep=deep)
        rows = torch.from_numpy(pictures)
        matched = network.match(asked_for, memories[rows])
        found[row] = (matched.log_odds[:, 0] - offsets[rows]).cpu().numpy()
    owners = measured.owners
    right = best == owners[chosen][:, None] if from_text else owners[best] == chosen[:, None]
    network.train()
    return Compared(best, np.take_along_axis(cosines, best, axis=1), found, right)


def figures(compared: Compared, name: str) -> dict[str, float]:
    """Recalls without the reranker, and with the weight that is best at 1, as a log has them."""
    best = max(WEIGHTS, key=lambda weight: compared.recalls(weight)[1])
    plain, blended = compared.recalls(0.0), compared.recalls(best)
    return {
        **{f"{name}@{cut}": value for cut, value in blended.items()},
        **{f"{name}_without@{cut}": value for cut, value in plain.items()},
        f"{name}_alone@1": compared.recalls(1e6)[1],
        f"{name}_weight": best,
    }


def _memories(network: Reranker, measured: Captioned, device: torch.device) -> Tensor:
    parts = []
    for start in range(0, len(measured), 64):
        rows = np.arange(start, min(start + 64, len(measured)))
        regions = torch.from_numpy(measured.regions.batch(rows)).to(device)
        parts.append(whole(network.remember(regions)) / STEP)
    return torch.cat(parts)
