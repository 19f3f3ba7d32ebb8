"""Candidates of a query: what each encoder and the words find, fused, with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .rank import fuse, words_weight
from .scoring import log_odds, logistic
from .words import (
    count_documents,
    find,
    find_all,
    names_a_file,
    terms,
    without_suffixes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.reader import Snapshot

    from .rerank.compare import Comparison
    from .scoring import Scale
    from .search import Wanted
    from .space import Space

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]

WORDS_SCORE = 0.63
"""How probable it is that an item fits whose texts or names have all of a query's words.

Of the words of one Flickr8k caption (validation split), so many are in another of the same picture.
"""
# A library of so few items may well be all of one thing.
_FEW = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """One encoder's part of an answer."""

    space: Space
    vector: Float32
    scale: Scale


class Candidates:
    """The candidates of one query over one snapshot, as deep as they are asked for.

    `allowed` are the ids that may be found, ascending; None: any.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        parts: Sequence[Answer],
        wanted: Wanted,
        allowed: Int64 | None,
    ) -> None:
        self._snapshot = snapshot
        self._parts = parts
        self._wanted = wanted
        left_out = np.array(sorted(wanted.excluded), np.int64)
        self._left_out = [
            part.space.allowed(snapshot, left_out) if len(left_out) else None for part in parts
        ]
        self._rows = [
            None if allowed is None else part.space.allowed(snapshot, allowed) for part in parts
        ]
        by_words = wanted.mode != "meaning" and bool(wanted.words)
        self._words = without_suffixes(wanted.words) if by_words else ""
        self._terms = len(terms(self._words)) if by_words else 0
        self._exact = bool(wanted.phrases) or names_a_file(wanted.words)
        self._levels = self._by_words(allowed) if by_words else []
        # Of each encoder: similarity and score of items, by id.
        self._known: list[dict[int, tuple[float, float]]] = [{} for _ in parts]
        # Of the first encoder's best, once they were reranked: their new order, and the scores of
        # those that could be compared.
        self._order: dict[int, int] | None = None
        self._compared: dict[int, float] = {}
        self._coverage: dict[int, float] = {}
        self._words_count = 1.0
        # What no encoder, nor the words, would give a better score than by going deeper.
        self._least = 1.0

    def best(self, depth: int) -> tuple[list[int], bool]:
        """Ids, best first, and whether these are all; at least `depth` otherwise."""
        exhausted, rankings, weights = True, [], []
        self._least = 0.0
        if self._wanted.mode != "words":
            for at in range(len(self._parts)):
                ids, found = self._by_meaning(at, depth)
                rankings.append(self._reranked(ids) if at == 0 else ids)
                weights.append(1.0)
                exhausted &= found < depth
                if found == depth:
                    self._least = max(self._least, self._known[at][ids[-1]][1] if ids else 1.0)
        if self._levels:
            if self._wanted.mode == "hybrid":
                known = ((id_, score) for id_, (_, score) in self._known[0].items())
                surest = max((self._compared.get(*one) for one in known), default=0.0)
                self._words_count = words_weight(self._terms, surest, exact=self._exact)
            ids = self._covering(depth)
            # First, so that of equals that comes first which has the words.
            rankings.insert(0, ids)
            weights.insert(0, self._words_count)
            if len(ids) >= depth:
                exhausted, self._least = False, 1.0
        best = rankings[0] if len(rankings) == 1 else fuse(rankings, weights)
        self._measure(best)
        return best, exhausted

    @property
    def promise(self) -> float:
        """No item beyond those that `best` gave has a higher score than this."""
        return self._least

    def told(self, id_: int) -> tuple[float, float]:
        """Similarity and score of a candidate: means over the encoders that know it."""
        found = [known[id_] for known in self._known if id_ in known]
        if not found:
            return 0.0, 0.0
        if id_ in self._compared:
            # It is the first encoder's score that was improved.
            found[0] = found[0][0], self._compared[id_]
        similarity, score = (sum(column) / len(found) for column in zip(*found, strict=True))
        if self._coverage.get(id_) == 1:
            score = 1 - (1 - score) * (1 - WORDS_SCORE * self._words_count)
        return similarity, score

    def spread(self, ids: Sequence[int]) -> tuple[Float32, Float32]:
        """Relevance (n,) and unit vectors (n, dim) of candidates, for `rank.diversify`."""
        space = self._parts[0].space
        rows = space.rows_of(self._snapshot, np.array(ids, np.int64))
        vectors = space.vectors[np.maximum(rows, 0)].astype(np.float32)
        vectors[rows < 0] = 0
        # By place: the order is that of several rankings.
        return -np.log1p(np.arange(len(ids), dtype=np.float32)), vectors

    def _by_meaning(self, at: int, depth: int) -> tuple[list[int], int]:
        """What an encoder finds nearest, and how many that was before any was dropped."""
        part = self._parts[at]
        cosines, rows = part.space.nearest(
            part.vector,
            depth,
            self._rows[at],
            left_out=self._left_out[at],
            certain=self._certain(depth),
        )
        return self._noted(at, cosines, rows), len(rows)

    def _certain(self, depth: int) -> int:
        """How many must not be missed: at first those wanted, all where that was not enough."""
        wanted = self._wanted
        compared = wanted.rerank.count if wanted.rerank else 0
        return max(wanted.k, compared) if depth == wanted.depth else depth

    def _reranked(self, ids: list[int]) -> list[int]:
        """Some ids of the first encoder, best first, with those that are compared in their order.

        The best are compared once, and stay the first however deep a search goes on.
        """
        rerank = self._wanted.rerank
        if rerank is None:
            return ids
        if self._order is None:
            self._order = self._compare(rerank, ids[: rerank.count])
        order = self._order
        return sorted(ids, key=lambda id_: order.get(id_, len(order)))

    def _compare(self, rerank: Comparison, ids: list[int]) -> dict[int, int]:
        """Places of the best by id: those that could be compared, best first, around the others.

        What cannot be compared, a picture that cannot be read now, keeps its place.
        """
        before = log_odds(np.array([self._known[0][id_][1] for id_ in ids]))
        found = rerank.log_odds(self._snapshot, ids, before)
        best = sorted((id_ for id_ in ids if id_ in found), key=lambda id_: -found[id_])
        scores = logistic(np.array([found[id_] for id_ in best]))
        self._compared = dict(zip(best, scores.tolist(), strict=True))
        following = iter(best)
        return {(next(following) if id_ in found else id_): at for at, id_ in enumerate(ids)}

    def _noted(self, at: int, cosines: Float32, rows: Int64) -> list[int]:
        """The ids at some rows, in the order of their corrected cosines, which are kept."""
        part = self._parts[at]
        corrected = part.scale.corrected(cosines, rows)
        scores = part.scale.scores(corrected)
        ids = part.space.ids_of(self._snapshot, rows)
        order = np.argsort(-corrected, kind="stable")
        order = order[ids[order] >= 0]
        found: list[int] = ids[order].tolist()
        told = zip(cosines[order].tolist(), scores[order].tolist(), strict=True)
        self._known[at].update(zip(found, told, strict=True))
        return found

    def _measure(self, ids: Sequence[int]) -> None:
        """Similarities and scores of candidates that an encoder did not find itself."""
        for at, part in enumerate(self._parts):
            new = np.array([id_ for id_ in ids if id_ not in self._known[at]], np.int64)
            rows = part.space.rows_of(self._snapshot, new) if len(new) else new
            rows = rows[rows >= 0]
            if len(rows):
                self._noted(at, part.space.cosines(part.vector, rows), rows)

    def _by_words(self, allowed: Int64 | None) -> list[tuple[float, Int64]]:
        """The items that hold words of the query, by the share that they hold, largest first."""
        wanted = self._wanted
        if wanted.mode == "hybrid":
            # Beside meaning, some of the words are no evidence.
            ids = find_all(self._snapshot, self._words, wanted.phrases)
            coverage = np.ones(len(ids), np.float32)
            if len(ids) > _FEW and 2 * len(ids) > count_documents(self._snapshot):
                # The name of a folder that holds everything tells nothing apart.
                return []
        else:
            found = find(self._snapshot, self._words, wanted.phrases)
            if found is None:
                return []
            ids, coverage = found.ids, found.coverage
        kept = np.ones(len(ids), np.bool_)
        if allowed is not None:
            kept &= np.isin(ids, allowed, assume_unique=True)
        unwanted = [find_all(self._snapshot, text) for text in wanted.without]
        for held in (*unwanted, np.array(sorted(wanted.excluded), np.int64)):
            if len(held):
                kept &= ~np.isin(ids, held, assume_unique=True)
        if not kept.any():
            return []
        ids, coverage = ids[kept], coverage[kept]
        order = np.argsort(-coverage, kind="stable")
        levels, ids = coverage[order], ids[order]
        starts = np.append(0, np.flatnonzero(np.diff(levels)) + 1)
        parts = np.split(ids, starts[1:])
        return list(zip(levels[starts].tolist(), parts, strict=True))

    def _covering(self, depth: int) -> list[int]:
        """The items that hold most of the query's words; of equal ones the nearest first."""
        part, found = self._parts[0], list[int]()
        for level, ids in self._levels:
            rows = part.space.allowed(self._snapshot, ids)
            if not len(rows):
                continue
            cosines, nearest = part.space.nearest(part.vector, depth - len(found), rows)
            new = self._reranked(self._noted(0, cosines, nearest))
            self._coverage.update(dict.fromkeys(new, level))
            found += new
            if len(found) >= depth:
                break
        return found
