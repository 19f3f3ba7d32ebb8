"""Search: query vectors, words and filters to hits, over one consistent snapshot of the library."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from xsearch.core.encoder import Logistic
from xsearch.core.errors import EncoderError, EncoderMismatchError
from xsearch.core.values import Hit, Kind
from xsearch.indexer.disk import Reachable
from xsearch.indexer.found import FoundFile, FoundItem, items_of
from xsearch.indexer.reader import EncoderRow, Reader, Snapshot

from .candidates import Answer, Candidates
from .rank import diversify, good_matches
from .scoring import Scale
from .space import Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.filters import Conditions
    from xsearch.indexer.indices.gpu import Cards

    from .rerank.compare import Comparison

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]

Mode = Literal["hybrid", "meaning", "words"]
MODES: tuple[Mode, ...] = ("hybrid", "meaning", "words")

NOTHING = 0.15
"""Where not even the best hit is this probable, `auto_cut` shows none."""
# What is looked at to put hits in order, to find where good ones end, and to spread them out.
_DEPTH, _CUT_DEPTH, _POOL = 50, 200, 5
# Where the first few files are gone, so many are looked for at once.
_CHUNK = 256
_KEPT_FILTERS = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """One encoder's part in a query: its unit vector (dim,), and what kind of query it is."""

    vector: Float32
    kind: Kind
    logistic: Logistic
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is wanted of a search, beside the query's vectors.

    Attributes:
        k: how many hits.
        target: the kind of item.
        conditions: what hits must meet; None: anything.
        mode: by meaning, by words, or by both.
        words, phrases: what is looked for among words, and what must stand there as it is.
        without: words that no hit found by words may have.
        min_score: the least score of a hit.
        auto_cut: end where good matches end.
        diversity: 0 to 1, how much hits should differ from one another.
        excluded: items that are not wanted.
        correct: whether what is near to everything is put back.
        rerank: compares the best candidates by the first encoder one by one; None: they stay in
            its order.
    """

    k: int
    target: Kind
    conditions: Conditions | None = None
    mode: Mode = "hybrid"
    words: str = ""
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    min_score: float = 0.0
    auto_cut: bool = False
    diversity: float = 0.0
    excluded: frozenset[int] = frozenset()
    correct: bool = True
    rerank: Comparison | None = None

    @property
    def depth(self) -> int:
        """How many candidates to begin with."""
        compared = 2 * self.rerank.count if self.rerank else 0
        if self.auto_cut:
            return max(_CUT_DEPTH, 2 * self.k, compared)
        if self.diversity:
            return max(_DEPTH, _POOL * self.k, compared)
        return max(_DEPTH, 2 * self.k, compared)


class Searcher:
    """Answers queries on one library; usable from any number of threads.

    With `use_cards`, large libraries that are asked again and again are searched on graphics
    cards where FAISS sees some, within the library's memory budget.
    """

    def __init__(self, reader: Reader, use_cards: bool = True) -> None:
        self._reader = reader
        self._use_cards = use_cards
        self._cards: Cards | None = None
        self._lock = threading.Lock()
        self._revision = -1
        self._spaces: dict[tuple[int, Kind], Space] = {}
        self._selected: dict[tuple[Conditions, Kind], Int64] = {}

    def search(self, asks: Sequence[Ask], wanted: Wanted) -> list[Hit]:
        """The k best items for a query, best first.

        Several encoders, and meaning and words, are fused by rank; `similarity` of a hit is then
        the mean over the encoders. A picture that was deleted from a folder that is there is left
        out, even before the next `index`; one whose whole root cannot be reached is shown as
        missing.

        Raises:
            LibraryError: vectors are missing; `xsearch check` says more.
            EncoderError: a vector is not finite.
            SourceError: the library has nothing at a place that is asked for.
        """
        if not all(np.all(np.isfinite(ask.vector)) for ask in asks):
            raise EncoderError("the encoder made no finite vector of this query: ask otherwise")
        if not wanted.k:
            return []
        return self._reader.answer(lambda snapshot: self._search(snapshot, asks, wanted))

    def vectors(self, ids: Sequence[int], fingerprint: str) -> dict[int, Float32]:
        """The unit vectors (dim,) of some items by an encoder; those without one are left out.

        Raises:
            LibraryError: vectors are missing; `xsearch check` says more.
        """

        def find(snapshot: Snapshot) -> dict[int, Float32]:
            encoder = snapshot.encoder(fingerprint)
            if encoder is None:
                return {}
            space = self._space(snapshot, encoder, "image")
            rows = snapshot.rows_at(encoder.id, ids)
            found = space.vectors[list(rows.values())].astype(np.float32)
            found /= np.linalg.norm(found, axis=1, keepdims=True)
            return dict(zip(rows, found, strict=True))

        return self._reader.answer(find)

    def _search(self, snapshot: Snapshot, asks: Sequence[Ask], wanted: Wanted) -> list[Hit]:
        if snapshot.encoder() is None:
            return []
        parts = [self._answer(snapshot, ask, wanted) for ask in asks]
        candidates = Candidates(snapshot, parts, wanted, self._allowed(snapshot, wanted))
        showing = _Showing(snapshot, candidates, wanted.k)
        depth = wanted.depth
        while True:
            ids, exhausted = candidates.best(depth)
            chosen, least = _chosen(candidates, ids, wanted)
            if showing.take(chosen) or exhausted or candidates.promise < least:
                return showing.hits
            depth *= 4

    def _answer(self, snapshot: Snapshot, ask: Ask, wanted: Wanted) -> Answer:
        encoder = snapshot.encoder(ask.fingerprint)
        if encoder is None:
            raise EncoderMismatchError(
                f"{self._reader.folder}: the encoder of this query was taken out of the library "
                "meanwhile; ask again"
            )
        space = self._space(snapshot, encoder, wanted.target)
        kinds = (ask.kind, wanted.target)
        scale = Scale(ask.vector, kinds, ask.logistic, space.background, correct=wanted.correct)
        return Answer(space, ask.vector, scale)

    def _allowed(self, snapshot: Snapshot, wanted: Wanted) -> Int64 | None:
        """The items that meet the conditions; worked out once for a commit."""
        if wanted.conditions is None:
            return None
        from xsearch.indexer.select import select

        key = (wanted.conditions, wanted.target)
        with self._lock:
            self._renew(snapshot.revision())
            if key in self._selected and snapshot.revision() == self._revision:
                return self._selected[key]
        found = select(snapshot, wanted.conditions, wanted.target)
        with self._lock:
            if snapshot.revision() == self._revision:
                while len(self._selected) >= _KEPT_FILTERS:
                    self._selected.pop(next(iter(self._selected)))
                self._selected[key] = found
        return found

    def _space(self, snapshot: Snapshot, encoder: EncoderRow, target: Kind) -> Space:
        revision, key = snapshot.revision(), (encoder.id, target)
        with self._lock:
            if revision == self._revision and key in self._spaces:
                return self._spaces[key]
        space = Space(self._reader.folder, snapshot, encoder, target, self._available(snapshot))
        with self._lock:
            self._renew(revision)
            if revision == self._revision:
                self._spaces[key] = space
        return space

    def _renew(self, revision: int) -> None:
        """Forget what is of an older commit; the caller holds the lock."""
        if revision > self._revision:
            self._revision, self._spaces, self._selected = revision, {}, {}

    def _available(self, snapshot: Snapshot) -> Cards | None:
        """The cards to search on; none with a FAISS for CPUs. Asking for them would take time."""
        import faiss

        if not self._use_cards or not hasattr(faiss, "StandardGpuResources"):
            return None
        from xsearch.indexer.indices.gpu import Cards

        with self._lock:
            if self._cards is None:
                self._cards = Cards()
            self._cards.budget = snapshot.wishes().memory
            return self._cards


def _chosen(
    candidates: Candidates, ids: Sequence[int], wanted: Wanted
) -> tuple[Sequence[int], float]:
    """Those of some candidates, best first, that may be shown, in the order to show them.

    And the least score of what may be.
    """
    least = wanted.min_score
    if wanted.auto_cut:
        scores = np.sort([candidates.told(id_)[1] for id_ in ids])[::-1]
        good = good_matches(scores, NOTHING)
        if not good:
            return [], np.inf
        least = max(least, float(scores[good - 1]))
    if least:
        ids = [id_ for id_ in ids if candidates.told(id_)[1] >= least]
    if wanted.diversity:
        order = diversify(*candidates.spread(ids), 2 * wanted.k, wanted.diversity)
        varied = [ids[at] for at in order]
        # The others after them: many files may be gone.
        ids = list(dict.fromkeys([*varied, *ids]))
    return ids, least


class _Showing:
    """The hits of one search: candidates whose files are there, until there are k."""

    def __init__(self, snapshot: Snapshot, candidates: Candidates, k: int) -> None:
        self.hits: list[Hit] = []
        self._snapshot = snapshot
        self._candidates = candidates
        self._k = k
        self._reachable = Reachable()
        self._seen: set[int] = set()

    def take(self, ids: Sequence[int]) -> bool:
        """Add further candidates; returns whether there are enough."""
        # Of equal candidates, a deeper search may give others first.
        new = [id_ for id_ in ids if id_ not in self._seen]
        self._seen.update(new)
        start, size = 0, self._k - len(self.hits)
        while start < len(new) and len(self.hits) < self._k:
            part = new[start : start + size]
            items = items_of(self._snapshot, part)
            for id_ in part:
                item = items.get(id_)
                told = self._candidates.told(id_)
                hit = item and _hit(item, *told, len(self.hits) + 1, self._reachable)
                if hit and len(self.hits) < self._k:
                    self.hits.append(hit)
            start, size = start + size, _CHUNK
        return len(self.hits) == self._k


def _hit(
    item: FoundItem, similarity: float, score: float, rank: int, roots: Reachable
) -> Hit | None:
    path, others, missing = _choose(item.image_files, roots)
    if path is None:
        path, others, missing = _choose(item.files, roots)
    if path is None:
        return None
    return Hit(
        id=item.id,
        rank=rank,
        kind=item.kind,
        score=score,
        similarity=similarity,
        path=path,
        text=item.text,
        other_paths=others,
        missing=missing,
    )


def _choose(
    places: Sequence[FoundFile], roots: Reachable
) -> tuple[Path | None, tuple[Path, ...], bool]:
    """The first existing file, the others, and whether none can be reached now."""
    places = list(dict.fromkeys(places))
    existing = [place.path for place in places if os.path.lexists(place.path)]
    if existing:
        return existing[0], tuple(existing[1:]), False
    away = [place.path for place in places if place.root not in roots]
    if away:
        return away[0], tuple(away[1:]), True
    return None, (), False
