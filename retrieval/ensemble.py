"""Searching with several encoders at once: their rankings are fused by rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xsearch.core.values import Hit, Kind

from .query import embed
from .search import score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder, Logistic
    from xsearch.core.query import Image

    from .search import Searcher

SMOOTHING = 60
"""The constant of reciprocal rank fusion, as published: how little the very first ranks count."""
DEPTH = 100
"""Hits of each encoder that are fused, at least; more where more are wanted."""


def fuse(rankings: Iterable[Sequence[int]], smoothing: int = SMOOTHING) -> list[int]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): ids by the sum of 1 / (c + rank).

    Ranks count from 1; an id that a ranking lacks gets nothing from it. Among equals, the id that
    stands higher in the earlier ranking comes first.
    """
    gained: dict[int, float] = {}
    for ranking in rankings:
        for rank, id_ in enumerate(ranking, 1):
            gained[id_] = gained.get(id_, 0.0) + 1 / (smoothing + rank)
    return sorted(gained, key=lambda id_: -gained[id_])


@dataclass(frozen=True, slots=True)
class _Asked:
    """One encoder's part in a search: the query's vector, and its hits."""

    vector: NDArray[np.float32]
    logistic: Logistic
    fingerprint: str
    hits: list[Hit]


def search(
    encoders: Sequence[DualEncoder],
    searcher: Searcher,
    query: str | Image,
    k: int,
    target: Kind,
) -> list[Hit]:
    """The k best items for a query; of several encoders, fused by rank.

    With several, `similarity` and `score` of a hit are means over the encoders, so that they need
    not fall with the rank.

    Raises:
        UsageError: the query is empty.
        SourceError, ImageError: the query's picture cannot be read.
        LibraryError: vectors are missing.
    """
    depth = k if len(encoders) == 1 else max(DEPTH, 2 * k)
    asked = []
    for encoder in encoders:
        vector, kind = embed(query, encoder)
        logistic = encoder.calibration(kind, target)
        hits = searcher.search(vector, depth, target, logistic, encoder.fingerprint) if k else []
        asked.append(_Asked(vector, logistic, encoder.fingerprint, hits))
    if len(asked) == 1:
        return asked[0].hits
    known = {hit.id: hit for part in reversed(asked) for hit in part.hits}
    best = fuse([hit.id for hit in part.hits] for part in asked)[:k]
    cosines = [searcher.similarities(part.vector, best, part.fingerprint) for part in asked]
    return [
        _joined(known[id_], rank, [found.get(id_) for found in cosines], asked)
        for rank, id_ in enumerate(best, 1)
    ]


def _joined(hit: Hit, rank: int, cosines: Sequence[float | None], asked: Sequence[_Asked]) -> Hit:
    """A hit with the means over the encoders that have a vector of it."""
    told = [
        (cosine, score(cosine, part.logistic))
        for cosine, part in zip(cosines, asked, strict=True)
        if cosine is not None
    ]
    if not told:  # compacted away since it was found
        return replace(hit, rank=rank)
    similarity, chance = (sum(column) / len(told) for column in zip(*told, strict=True))
    return replace(hit, rank=rank, similarity=similarity, score=chance)
