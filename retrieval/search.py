"""Search: a query vector to hits, over one consistent snapshot of the library."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import Logistic
from xsearch.core.errors import EncoderError, EncoderMismatchError
from xsearch.core.values import Hit, Kind
from xsearch.indexer.disk import Reachable
from xsearch.indexer.indices.exact import exact_search, merge
from xsearch.indexer.indices.interface import VectorIndex
from xsearch.indexer.indices.store import Place, open_segments
from xsearch.indexer.reader import EncoderRow, FoundFile, FoundItem, Reader, Snapshot
from xsearch.indexer.vectors import open_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.gpu import Cards


@dataclass(frozen=True, slots=True)
class _Space:
    """What one commit of a library holds for one kind of target, opened for searching.

    `tail` are the rows that no segment of the index covers, `deleted` those to leave out.
    """

    vectors: NDArray[np.float16]
    segments: list[VectorIndex]
    tail: NDArray[np.int64]
    deleted: NDArray[np.int64]

    def nearest(self, query: NDArray[np.float32], k: int) -> list[tuple[float, int]]:
        """The k best rows for a query (dim,): cosine and row, best first."""
        queries = query[None, :].astype(np.float32)
        parts = [exact_search(self.vectors, self.tail, queries, k)]
        parts += [part.search(queries, k, excluded=self.deleted) for part in self.segments]
        similarities, rows = merge(parts, k)
        return [
            (float(similarity), int(row))
            for similarity, row in zip(similarities[0], rows[0], strict=True)
            if row >= 0
        ]


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
        self._spaces: dict[tuple[int, Kind], _Space] = {}

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        target: Kind,
        logistic: Logistic,
        fingerprint: str,
    ) -> list[Hit]:
        """The k items of a kind nearest to a unit vector (dim,), best first.

        The vector is of the encoder with this fingerprint. A picture that was deleted from a
        folder that is there is left out, even before the next `index`; one whose whole root
        cannot be reached is shown as missing.

        Raises:
            LibraryError: vectors are missing; `xsearch check` says more.
            EncoderError: the vector is not finite.
        """
        if not np.all(np.isfinite(vector)):
            raise EncoderError("the encoder made no finite vector of this query: ask otherwise")
        return self._reader.answer(
            lambda snapshot: self._search(snapshot, vector, k, target, logistic, fingerprint)
        )

    def similarities(
        self, vector: NDArray[np.float32], ids: Sequence[int], fingerprint: str
    ) -> dict[int, float]:
        """The cosines of a unit vector (dim,) to some items; those without a vector are left out.

        Raises:
            LibraryError: vectors are missing; `xsearch check` says more.
        """

        def find(snapshot: Snapshot) -> dict[int, float]:
            encoder = snapshot.encoder(fingerprint)
            if encoder is None:
                return {}
            rows = snapshot.rows_at(encoder.id, ids)
            place = vector_path(self._reader.folder, encoder.fingerprint, encoder.generation)
            vectors = open_rows(place, encoder.rows, encoder.dim)
            found = vectors[list(rows.values())].astype(np.float32) @ vector
            return dict(zip(rows, map(float, found), strict=True))

        return self._reader.answer(find)

    def _search(
        self,
        snapshot: Snapshot,
        vector: NDArray[np.float32],
        k: int,
        target: Kind,
        logistic: Logistic,
        fingerprint: str,
    ) -> list[Hit]:
        encoder = snapshot.encoder(fingerprint)
        if encoder is None:
            if snapshot.encoder() is None:
                return []
            raise EncoderMismatchError(
                f"{self._reader.folder}: the encoder of this query was taken out of the library "
                "meanwhile; ask again"
            )
        space = self._space(snapshot, encoder, target)
        reachable = Reachable()
        hits: list[Hit] = []
        seen: set[int] = set()
        wanted = k
        while True:
            found = space.nearest(vector, wanted)
            # Of rows with equal cosines, a larger search may return others first.
            new = [(similarity, row) for similarity, row in found if row not in seen]
            items = snapshot.items_at(encoder.id, [row for _, row in new])
            for similarity, row in new:
                # A damaged index may name rows that the catalog does not.
                item = items.get(row)
                hit = item and _hit(item, similarity, len(hits) + 1, logistic, reachable)
                if hit:
                    hits.append(hit)
                    if len(hits) == k:
                        return hits
            if len(found) < wanted:
                return hits
            seen.update(row for _, row in new)
            wanted *= 2

    def _space(self, snapshot: Snapshot, encoder: EncoderRow, target: Kind) -> _Space:
        revision, key = snapshot.revision(), (encoder.id, target)
        with self._lock:
            if revision == self._revision and key in self._spaces:
                return self._spaces[key]
        space = _open_space(
            self._reader.folder, snapshot, encoder, target, self._available(snapshot)
        )
        with self._lock:
            if revision > self._revision:
                self._revision, self._spaces = revision, {}
            if revision == self._revision:
                self._spaces[key] = space
        return space

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


def _open_space(
    folder: Path,
    snapshot: Snapshot,
    encoder: EncoderRow,
    target: Kind,
    cards: Cards | None,
) -> _Space:
    place = (folder, encoder.fingerprint, encoder.generation)
    vectors = open_rows(vector_path(*place), encoder.rows, encoder.dim)
    which = Place(*place, target, encoder.dim)
    segments, covered = open_segments(which, encoder.rows, vectors, cards)
    deleted = np.array(snapshot.deleted_rows(encoder.id), dtype=np.int64)
    tail = np.array(snapshot.rows_of(encoder.id, target, covered), dtype=np.int64)
    if len(deleted) and len(tail):
        tail = tail[~np.isin(tail, deleted)]
    return _Space(vectors, segments, tail, deleted)


def _hit(
    item: FoundItem, similarity: float, rank: int, logistic: Logistic, roots: Reachable
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
        score=score(similarity, logistic),
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


def score(similarity: float, logistic: Logistic) -> float:
    """A cosine as a score from 0 to 1."""
    # The logistic function, in a form that cannot overflow.
    return 0.5 + 0.5 * math.tanh(0.5 * (logistic.slope * similarity + logistic.intercept))
