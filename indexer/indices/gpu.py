"""Searching on graphics cards: a segment's vectors in their memory, where FAISS can use them.

A card answers whole searches of a segment; what it cannot do (filters, very many hits) and what
happens when it is full or disappears is the CPU's, without a word to whoever asks. The stored
float16 rows decide on order and cosines, so that hits are the same wherever they were found.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xsearch.indexer.indices.choice import lists_of
from xsearch.indexer.indices.exact import exact_search
from xsearch.indexer.indices.interface import Structure, VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.coverage import Coverage
    from xsearch.indexer.indices.interface import Found
    from xsearch.indexer.indices.rows import StoredRows

OnCard = Literal["flat", "ivf-flat", "ivf-pq", "cagra"]
ON_CARD: tuple[OnCard, ...] = ("flat", "ivf-flat", "ivf-pq", "cagra")

# Up to here, comparing every vector takes a card a few milliseconds and finds everything.
_FLAT_ROWS = 20_000_000
# FAISS' limit for hits of one search.
_MOST_HITS = 2_048
# More than was asked for, to be put in order by the stored rows: where vectors were only rounded,
# and where they were compressed.
_ROUNDED = 16
_COMPRESSED = 500
_PROBED = 1 / 16
_POINTS = 40
_CHUNK = 262_144
# Bytes that FAISS takes of a card for its own work.
_SCRATCH = 256 << 20
# Adding makes a flat index grow by copies: for a moment there are two.
_GROWTH = 2.25
_GRAPH_DEGREE = 64
# Fewer rows are searched by the CPU in less time than a card takes to be asked; a segment moves
# with this search of it.
_WORTH_IT = 50_000
_SEARCHES = 2
# Parts of a compressed vector, of those that FAISS has for cards, which fit a block's memory.
_PARTS = (64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)


@dataclass(frozen=True, slots=True)
class Placement:
    """How a segment lies on cards: all of it on each, or (`sharded`) a part on each."""

    structure: OnCard
    devices: tuple[int, ...]
    sharded: bool


def device_count() -> int:
    """How many cards FAISS can use here: none where it was built for CPUs."""
    import faiss

    count = getattr(faiss, "get_num_gpus", None)
    return int(count()) if count else 0


def train(index: Any, vectors: NDArray[np.float32]) -> None:
    """Train an inverted file of FAISS' for the CPU, on cards where there are any.

    Its centroids are the CPU's own afterwards: the file does not tell where they were made.
    """
    import faiss

    # Any: FAISS for CPUs has none of these.
    of: Any = faiss
    if device_count():
        with contextlib.suppress(RuntimeError):  # Too little memory: the CPU does it.
            helper = of.index_cpu_to_all_gpus(faiss.IndexFlatIP(index.d))
            index.clustering_index = helper
            try:
                index.train(vectors)
            finally:
                index.clustering_index = None
                # Setting it had given it away, to nobody.
                helper.thisown = True
    if not index.is_trained:
        index.train(vectors)


def card_bytes(structure: OnCard, count: int, dim: int) -> int:
    """What a structure takes of a card's memory while it is made, in bytes."""
    lists = lists_of("ivf", count)
    if structure == "flat":
        return int(count * dim * 2 * _GROWTH) + _SCRATCH
    if structure == "ivf-flat":
        return int(count * (dim * 2 + 8) * _GROWTH) + lists * dim * 4 + _SCRATCH
    if structure == "ivf-pq":
        return int(count * (_parts(dim) + 8) * _GROWTH) + lists * dim * 4 + _SCRATCH
    return count * (dim * 4 * 2 + _GRAPH_DEGREE * 4 * 3) + _SCRATCH


def placements(
    count: int,
    dim: int,
    devices: int,
    budget: int | None = None,
    structure: OnCard | None = None,
) -> list[Placement]:
    """Ways to place `count` vectors of `dim` dimensions on cards, the best first.

    `budget` is how many bytes may be taken of each card; None: whatever it gives, which trying
    tells. A copy on every card answers more searches at once, so that parts come second, and
    compressed vectors last. `structure` leaves no other choice.
    """
    every = tuple(range(devices))
    if structure is None:
        best: OnCard = "flat" if count <= _FLAT_ROWS else "ivf-flat"
        wanted: tuple[OnCard, ...] = (best, "ivf-pq")
    else:
        wanted = (structure,)
    found = []
    for each in wanted:
        for sharded in (False, True) if devices > 1 else (False,):
            held = -(-count // devices) if sharded else count
            if budget is None or card_bytes(each, held, dim) <= budget:
                found.append(Placement(each, every, sharded))
    return found if devices else []


def to_cards(
    behind: VectorIndex,
    rows: StoredRows,
    coverage: Coverage,
    *,
    budget: int | None = None,
    structure: OnCard | None = None,
) -> VectorIndex:
    """The segment on cards, or `behind` itself, its index on the CPU, where there is no room.

    `budget` is how many bytes to take of each card at most; default: as much as is needed.
    """
    numbers = coverage.rows
    dim = rows.vectors.shape[1]
    for placement in placements(len(numbers), dim, device_count(), budget, structure):
        try:
            index = build(placement, rows.vectors, numbers)
        except (RuntimeError, MemoryError):
            continue  # Not enough memory: the next takes less.
        exact = placement.structure == "flat"
        held = -(-len(numbers) // len(placement.devices)) if placement.sharded else len(numbers)
        taken = card_bytes(placement.structure, held, dim)
        return CardIndex(index, behind, rows, numbers, exact=exact, taken=taken)
    return behind


class CardIndex:
    """A segment whose searches a card answers, and the CPU's `behind` where it cannot.

    `index` is FAISS' and counts the rows `numbers` from 0; `taken` are bytes of each card.
    """

    def __init__(
        self,
        index: Any,
        behind: VectorIndex,
        rows: StoredRows,
        numbers: NDArray[np.int64],
        *,
        exact: bool,
        taken: int = 0,
    ) -> None:
        self.taken = taken
        self.kind: Structure = behind.kind
        self.first, self.end = behind.first, behind.end
        self._index = index
        self._behind = behind
        self._rows = rows
        self._numbers = numbers
        self._more = _ROUNDED if exact else _COMPRESSED
        self._gone: tuple[NDArray[np.int64] | None, NDArray[np.int64]] | None = None
        # One card does one search at a time: FAISS' resources are not for several threads.
        self._lock = threading.Lock()

    @property
    def on_card(self) -> bool:
        """Whether the card still answers."""
        return self._index is not None

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        excluded: NDArray[np.int64] | None = None,
        allowed: NDArray[np.int64] | None = None,
        certain: int | None = None,
    ) -> Found:
        """See `VectorIndex.search`."""
        gone = self._gone_of(excluded)
        wanted = max(k + len(gone) + _ROUNDED, self._more)
        found = None
        if allowed is None and k and wanted <= _MOST_HITS:
            found = self._on_card(queries, min(wanted, len(self._numbers)))
        if found is None:
            return self._behind.search(
                queries, k, excluded=excluded, allowed=allowed, certain=certain
            )
        k = min(k, len(self._numbers) - len(gone))
        parts = [
            self._refine(query, k, places[places >= 0], gone)
            for query, places in zip(queries, found, strict=True)
        ]
        if any(part[1].shape[1] < k for part in parts):
            return self._behind.search(queries, k, excluded=excluded, certain=certain)
        return np.concatenate([part[0] for part in parts]), np.concatenate(
            [part[1] for part in parts]
        )

    def _gone_of(self, excluded: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Rows of the segment that are excluded: the same for all searches of a snapshot."""
        known = self._gone
        if known is None or known[0] is not excluded:
            gone = np.empty(0, np.int64) if excluded is None else excluded
            if len(gone):
                gone = np.intersect1d(self._numbers, gone)
            known = self._gone = (excluded, gone)
        return known[1]

    def _on_card(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64] | None:
        """Places (n, k) among the segment's rows; None once the card has failed."""
        with self._lock:
            if self._index is None:
                return None
            try:
                places: NDArray[np.int64] = self._index.search(np.ascontiguousarray(queries), k)[1]
            except RuntimeError:
                # The card is gone, or another program took its memory.
                self._index = None
                return None
        return places

    def _refine(
        self,
        query: NDArray[np.float32],
        k: int,
        places: NDArray[np.int64],
        gone: NDArray[np.int64],
    ) -> Found:
        """The k best of some places that are not gone: cosines (1, k) and row numbers (1, k)."""
        rows = np.sort(self._numbers[places])
        if len(gone):
            rows = rows[~np.isin(rows, gone)]
        return exact_search(self._rows, rows, query[None], k)


def build(placement: Placement, vectors: NDArray[np.float16], numbers: NDArray[np.int64]) -> Any:
    """FAISS' index of the rows `numbers` of `vectors`, placed on cards; it counts them from 0.

    Raises:
        RuntimeError: a card has too little memory.
    """
    devices = placement.devices
    held = np.array_split(numbers, len(devices)) if placement.sharded else [numbers] * len(devices)
    return assemble(
        [
            _on_one(placement.structure, device, vectors, part)
            for device, part in zip(devices, held, strict=True)
        ],
        placement.sharded,
    )


def assemble(parts: Sequence[Any], sharded: bool) -> Any:
    """One index over those of several cards: parts of the rows in order, or copies of them all."""
    import faiss

    # Any: FAISS' own annotations leave out most of what its Python wrapper offers.
    of: Any = faiss
    if len(parts) == 1:
        return parts[0]
    if sharded:
        # A thread for each, and rows numbered from one part to the next.
        whole = of.IndexShards(parts[0].d, True, True)
    else:
        whole = of.IndexReplicas(parts[0].d, True)
    for part in parts:
        (whole.add_shard if sharded else whole.add_replica)(part)
        of.add_to_referenced_objects(whole, part)
    return whole


class Cards:
    """The cards of a process, and which segments of a library are on them.

    A segment is put there in the background once it was searched twice: copying takes a second,
    which a single question is not worth. Until then, and where there is no room, the CPU answers.

    Args:
        budget: how many bytes to take of each card at most; None: what it gives.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._placed: weakref.WeakValueDictionary[Path, PlacedIndex] = weakref.WeakValueDictionary()
        # Segments are placed one after another, so that each sees what the others took.
        self._lock = threading.Lock()

    def placed(
        self, path: Path, behind: VectorIndex, rows: StoredRows, coverage: Coverage
    ) -> VectorIndex:
        """The segment of a file, which the CPU searches as `behind`, on cards when it is worth it.

        The same as before while that is in use: a segment's file never changes.
        """
        if len(coverage.rows) < _WORTH_IT:
            return behind
        with self._lock:
            known = self._placed.get(path)
            if known is None:
                known = PlacedIndex(behind, lambda: self._place(behind, rows, coverage))
                self._placed[path] = known
            return known

    def _place(self, behind: VectorIndex, rows: StoredRows, coverage: Coverage) -> VectorIndex:
        with self._lock:
            left = None
            if self.budget is not None:
                left = self.budget - sum(one.taken for one in self._placed.values())
            return to_cards(behind, rows, coverage, budget=left)


class PlacedIndex:
    """A segment that moves to cards, by `place`, when it is searched again and again."""

    def __init__(self, behind: VectorIndex, place: Callable[[], VectorIndex]) -> None:
        self.kind: Structure = behind.kind
        self.first, self.end = behind.first, behind.end
        self._answers = behind
        self._place = place
        self._searches = 0
        self._lock = threading.Lock()
        self._mover: threading.Thread | None = None

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        excluded: NDArray[np.int64] | None = None,
        allowed: NDArray[np.int64] | None = None,
        certain: int | None = None,
    ) -> Found:
        """See `VectorIndex.search`."""
        self._count()
        return self._answers.search(queries, k, excluded=excluded, allowed=allowed, certain=certain)

    @property
    def taken(self) -> int:
        """Bytes that it takes of each card."""
        return self._answers.taken if isinstance(self._answers, CardIndex) else 0

    def wait(self) -> VectorIndex:
        """What answers once a move that was begun has ended."""
        mover = self._mover
        if mover is not None:
            mover.join()
        return self._answers

    def _count(self) -> None:
        with self._lock:
            self._searches += 1
            if self._searches == _SEARCHES and self._mover is None:
                self._mover = threading.Thread(target=self._move, daemon=True)
                self._mover.start()

    def _move(self) -> None:
        self._answers = self._place()


def _on_one(
    structure: OnCard, device: int, vectors: NDArray[np.float16], numbers: NDArray[np.int64]
) -> Any:
    import faiss

    of: Any = faiss
    resources = of.StandardGpuResources()
    resources.setTempMemory(_SCRATCH)
    index = _empty(structure, resources, device, vectors.shape[1], len(numbers))
    of.add_to_referenced_objects(index, resources)
    if structure == "cagra":
        # A graph is made of all at once.
        index.train(vectors[numbers].astype(np.float32))
        return index
    if not index.is_trained:
        most = max(_POINTS * lists_of("ivf", len(numbers)), 10_000)
        sample = np.random.default_rng(0).choice(numbers, min(most, len(numbers)), replace=False)
        index.train(vectors[np.sort(sample)].astype(np.float32))
    for piece in _pieces(numbers):
        index.add(vectors[piece].astype(np.float32))
    return index


def _empty(structure: OnCard, resources: Any, device: int, dim: int, count: int) -> Any:
    """An index on one card, without vectors."""
    import faiss

    # Any: FAISS for CPUs has none of these.
    of: Any = faiss
    metric, lists = faiss.METRIC_INNER_PRODUCT, max(lists_of("ivf", count), 1)
    if structure == "flat":
        config = of.GpuIndexFlatConfig()
        config.device, config.useFloat16 = device, True
        return of.GpuIndexFlat(resources, dim, metric, config)
    if structure == "cagra":
        if not hasattr(of, "GpuIndexCagra"):
            raise RuntimeError("this build of FAISS has no cuVS, which CAGRA is of")
        config = of.GpuIndexCagraConfig()
        config.device, config.graph_degree = device, _GRAPH_DEGREE
        return of.GpuIndexCagra(resources, dim, metric, config)
    if structure == "ivf-flat":
        config = of.GpuIndexIVFScalarQuantizerConfig()
        config.device = device
        half = faiss.ScalarQuantizer.QT_fp16
        index = of.GpuIndexIVFScalarQuantizer(resources, dim, lists, half, metric, False, config)
    else:
        config = of.GpuIndexIVFPQConfig()
        config.device, config.useFloat16LookupTables = device, True
        index = of.GpuIndexIVFPQ(resources, dim, lists, _parts(dim), 8, metric, config)
    index.nprobe = max(int(lists * _PROBED), 1)
    return index


def _parts(dim: int) -> int:
    """Into how many bytes a vector of `dim` dimensions is compressed."""
    return next(parts for parts in _PARTS if dim % parts == 0)


def _pieces(numbers: Sequence[int] | NDArray[np.int64]) -> Iterator[Any]:
    for start in range(0, len(numbers), _CHUNK):
        yield numbers[start : start + _CHUNK]
