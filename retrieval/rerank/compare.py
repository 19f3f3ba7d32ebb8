"""Compares what a query says with candidates, one by one: log-odds that they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.query import Image, Item, Query
from xsearch.indexer.found import contents_of

from .memories import Memories

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import UInt8
    from xsearch.core.values import Kind
    from xsearch.indexer.reader import Snapshot

    Float64 = NDArray[np.float64]
    Int8 = NDArray[np.int8]

# So many candidates are compared at once, which bounds memory.
_PIECE = 256
_CANNOT: dict[Kind, str] = {
    "image": "reranking compares words with pictures, and this query adds a picture: ask with "
    "words alone, or without reranking",
    "text": "reranking compares pictures with texts, and this query adds words: ask with a "
    "picture alone, or without reranking",
}


class Comparison:
    """One query, whose best `count` candidates are to be compared with it by a reranker.

    Words are compared with pictures, and pictures with texts; see `combined` for several parts.
    What is subtracted and cannot be compared, such as a picture from words that are to find
    pictures, counts in the encoder's score alone.

    Args:
        query: its parts, without examples of hits.
        target: the kind of the candidates.
        count: how many of them are compared.
        memories: those of the library's pictures.
        pixels: reads a picture of the query, uint8 (S, S, 3).

    Raises:
        UsageError: what the query adds cannot be compared with this kind of candidates.
    """

    def __init__(
        self,
        query: Query,
        target: Kind,
        count: int,
        memories: Memories,
        pixels: Callable[[Image], UInt8],
    ) -> None:
        self.count = count
        self._target: Kind = target
        self._memories = memories
        self._pixels = pixels
        said = [part for part in query.parts if isinstance(part.content, str)]
        shown = [part for part in query.parts if not isinstance(part.content, str)]
        self._parts, others = (said, shown) if target == "image" else (shown, said)
        if any(part.weight > 0 for part in others):
            raise UsageError(_CANNOT[target])
        self._weights = np.array([part.weight for part in self._parts])

    def log_odds(self, snapshot: Snapshot, ids: Sequence[int], before: Float64) -> dict[int, float]:
        """Log-odds that candidates fit, by id, blended with those of the encoder, `before` (n,).

        A picture that cannot be read now is left out, see `Memories.of`.

        Raises:
            UsageError: the query names an item that is no picture.
            SourceError: a picture of the query cannot be read.
        """
        asked = "text" if self._target == "image" else "image"
        blend = self._memories.reranker.info.blend[f"{asked}-{self._target}"]
        compare = self._with_pictures if self._target == "image" else self._with_texts
        found: dict[int, float] = {}
        for start in range(0, len(ids), _PIECE):
            part = list(ids[start : start + _PIECE])
            compared, match = compare(snapshot, part)
            old = dict(zip(part, before[start : start + _PIECE].tolist(), strict=True))
            for id_, one in zip(compared, match.tolist(), strict=True):
                odds = blend.log_odds(old[id_], one)
                if np.isfinite(odds):
                    found[id_] = odds
        return found

    def _with_pictures(self, snapshot: Snapshot, ids: list[int]) -> tuple[list[int], Float64]:
        """Those pictures that can be read, and the reranker's log-odds (n,)."""
        reranker = self._memories.reranker
        memories = self._memories.of(snapshot, ids)
        if not memories:
            return [], np.zeros(0)
        stacked = np.stack(list(memories.values()))
        # Each text by itself: padding costs as much as tokens.
        sides = [self._memories.tokens.of([str(part.content)]) for part in self._parts]
        match = [reranker.match(tokens, mask, stacked) for tokens, mask in sides]
        return list(memories), combined(self._weights, np.array(match, np.float64))

    def _with_texts(self, snapshot: Snapshot, ids: list[int]) -> tuple[list[int], Float64]:
        """Those candidates that are texts, and the reranker's log-odds (n,)."""
        reranker = self._memories.reranker
        contents = contents_of(snapshot, ids)
        texts = {id_: one.text for id_, one in contents.items() if one.text is not None}
        if not texts:
            return [], np.zeros(0)
        tokens, mask = self._memories.tokens.of(list(texts.values()))
        memories = [self._memory(snapshot, part.content)[None] for part in self._parts]
        match = [reranker.match(tokens, mask, memory) for memory in memories]
        return list(texts), combined(self._weights, np.array(match, np.float64))

    def _memory(self, snapshot: Snapshot, content: str | Image | Item) -> Int8:
        """The memory (R, width) of a picture of the query."""
        assert not isinstance(content, str)
        if isinstance(content, Image):
            memory: Int8 = self._memories.memories(self._pixels(content)[None])[0]
            return memory
        found = self._memories.of(snapshot, [content.id])
        if content.id in found:
            return found[content.id]
        item = contents_of(snapshot, [content.id]).get(content.id)
        if item is not None and item.kind == "text":
            raise UsageError(
                f"reranking compares pictures with texts, and item {content.id} is a text itself: "
                "ask with a picture, or without reranking"
            )
        raise SourceError(
            f"the picture of item {content.id} cannot be read now, and so nothing can be compared "
            "with it: ask without reranking"
        )


def combined(weights: Float64, match: Float64) -> Float64:
    """Log-odds (n,) of a whole query, of those of its parts (parts, n) and their weights (parts,).

    The mean of what is added, weighted. What is subtracted counts as far as it is found, that is,
    where its log-odds are above 0: that something is not there is no evidence for the rest.
    """
    added = weights > 0
    counted = np.where(added[:, None], match, np.maximum(match, 0))
    total: Float64 = (weights[:, None] * counted).sum(axis=0) / weights[added].sum()
    return total
