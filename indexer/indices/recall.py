"""Recall, measured rather than hoped for: the effort of a search is tuned until it is reached.

Recall at 10 is the share of the 10 truly nearest that a search of 10 finds. The queries are those
that the library will be asked: words, which lie off the manifold of pictures' vectors and are much
harder than pictures. Half of them choose the effort, the other half measure it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xsearch.indexer.indices.coverage import Coverage
from xsearch.indexer.indices.exact import exact_search
from xsearch.indexer.indices.interface import TUNED_K, Effort, VectorIndex
from xsearch.indexer.indices.rows import StoredRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = TUNED_K
_ASKED = 256
# Fewer texts than this do not say what people ask of a library.
_ENOUGH = 32
_FAR = 0.5
# Of what a search may miss, the part that tuning leaves for the queries it does not see.
_MARGIN = 0.25
# Cosines as good as equal: which of such neighbours is found does not matter.
_EQUAL = 1e-6


@dataclass(frozen=True, slots=True)
class Queries:
    """What to ask an index: vectors float32 (n, dim) of unit length, and what they are."""

    vectors: NDArray[np.float32]
    words: str


def sample_queries(
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    reference: NDArray[np.float32] | None,
) -> Queries:
    """Queries of a library's own kind.

    Args:
        own: vectors of the kind that is searched, (n, dim).
        other: those of the other kind that the library has: its texts, for an index of pictures.
        reference: vectors of texts as people write them, where the library has no texts. Without
            any, its own vectors are taken so far off that only half of them is left: as
            far as words are from the pictures they mean, though in no particular direction.
    """
    chance = np.random.default_rng(0)
    if len(other) >= _ENOUGH:
        vectors, words = _some(other, chance), "of the library's other kind"
    elif reference is not None and len(reference) >= _ENOUGH:
        vectors, words = _some(reference, chance), "reference texts"
    else:
        vectors, words = _perturbed(_some(own, chance), _FAR, chance), "far off its own"
    # Mixed, so that each half is like the other.
    return Queries(chance.permutation(vectors), f"{len(vectors)} {words}")


class Tunable(VectorIndex, Protocol):
    """An index that can try harder."""

    effort: Effort


def tune(
    index: Tunable,
    efforts: Sequence[Effort],
    rows: StoredRows,
    coverage: Coverage,
    queries: Queries,
    wanted: float,
) -> tuple[Effort, float | None]:
    """The first of some efforts that reaches the wanted recall, and the recall that it has.

    Where none reaches it, it is the last; where there is nothing to ask, too, and no recall.
    """
    if len(queries.vectors) < 2:
        index.effort = efforts[-1]
        return index.effort, None
    truth = exact_search(rows, coverage.rows, queries.vectors, K)[0]
    tuned, held = slice(0, None, 2), slice(1, None, 2)
    aim = wanted + (1 - wanted) * _MARGIN
    for effort in efforts:
        index.effort = effort
        if _recall(index, queries.vectors[tuned], truth[tuned]) >= aim:
            break
    return index.effort, _recall(index, queries.vectors[held], truth[held])


def _recall(index: Tunable, queries: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    found = index.search(queries, K)[0]
    least = truth[:, -1:] - _EQUAL
    return float(np.mean(found[:, : truth.shape[1]] >= least))


def _some(vectors: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
    chosen = chance.choice(len(vectors), min(_ASKED, len(vectors)), replace=False)
    return vectors[np.sort(chosen)]


def _perturbed(
    vectors: NDArray[np.float32], cosine: float, chance: np.random.Generator
) -> NDArray[np.float32]:
    """Unit vectors of about this cosine to those given, off in any direction."""
    noise = chance.standard_normal(vectors.shape, dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    moved = cosine * vectors + math.sqrt(1 - cosine**2) * noise
    unit: NDArray[np.float32] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit
