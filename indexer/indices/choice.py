"""Which index to build: a pure function of numbers, and what it will cost.

The constants were measured with `benchmarks/search.py` (FAISS 1.15, one thread of an AVX-512
server core, vectors like real photographs', words as queries); a laptop's core is within a factor
of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xsearch.core.errors import UsageError
from xsearch.indexer.indices.interface import STRUCTURES, Structure

# Up to here every vector is compared: quick enough, and nothing to train or to get wrong.
EXACT_ROWS = 50_000
DEFAULT_RECALL = 0.98
LEAST_RECALL = 0.5
AUTO = "auto"
# From here on only an exact index will do.
EXACT_RECALL = 0.9995
# The least vectors for which an inverted file is worth its training.
_LISTS_FROM = 20_000
_MOST_LISTS = 16_384
# Deleted rows are scanned and left out; from this share on they are worth compacting away.
_MANY_DELETED = 0.3

_MIB = 1 << 20
# What a catalog can hold.
_MOST_MEMORY = 1 << 63
# Seconds for a coordinate that is compared exactly, a bit of a code, a candidate's coordinate.
_EXACT_SECONDS = 0.28e-9
_CODE_SECONDS = 0.047e-9
_REFINE_SECONDS = 3.3e-9
# Seconds for a coordinate of a vector: compared with one centroid, coded.
_ASSIGN_SECONDS = 0.025e-9
_ENCODE_SECONDS = 12e-9
_PROBED = 1 / 16
_LOOKED = 15
_LINK_BYTES = 150
_CANDIDATES = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """An index to build: its structure, its lists (0 where it has none), and why."""

    structure: Structure
    lists: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What an index costs: bytes in memory and on disk beside the vectors, seconds a query (one
    thread), seconds to build."""

    memory: int
    disk: int
    query_seconds: float
    build_seconds: float


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a library's owner asked for; None leaves it to the choice.

    Attributes:
        structure: the kind of index.
        memory: bytes that an index may hold in memory, beyond the process's own.
        recall: the share of the 10 true nearest that a search of 10 should find.
    """

    structure: Structure | None = None
    memory: int | None = None
    recall: float = DEFAULT_RECALL


def revise(
    wishes: Wishes, structure: str | None, memory: int | None, recall: float | None
) -> Wishes:
    """Wishes changed where something new is asked: None leaves what was.

    `auto` leaves the kind, and 0 the memory, to the choice again.

    Raises:
        UsageError: an unknown kind, or numbers that cannot be meant.
    """
    if structure is not None and structure not in (AUTO, *STRUCTURES):
        known = ", ".join((AUTO, *STRUCTURES))
        raise UsageError(f"the kind of index must be one of {known}, not {structure!r}")
    if memory is not None and not (isinstance(memory, int) and 0 <= memory < _MOST_MEMORY):
        raise UsageError(f"the memory budget must be a whole number of bytes, not {memory}")
    real = isinstance(recall, float | int)
    if recall is not None and not (real and LEAST_RECALL <= recall <= 1):
        raise UsageError(f"the recall must lie between {LEAST_RECALL} and 1, not {recall}")
    asked = next((known for known in STRUCTURES if known == structure), None)
    return Wishes(
        wishes.structure if structure is None else asked,
        wishes.memory if memory is None else memory or None,
        wishes.recall if recall is None else recall,
    )


def stored_wishes(structure: Structure | None, memory: int | None, recall: float | None) -> Wishes:
    """Wishes as a catalog has them, None for what was never asked."""
    return Wishes(structure, memory, DEFAULT_RECALL if recall is None else recall)


def choose(count: int, dim: int, wishes: Wishes = Wishes(), deleted: float = 0.0) -> Choice:
    """The index for `count` vectors of `dim` dimensions, of which a share `deleted` is gone.

    Where the memory is too small for any, it is the smallest.
    """
    reasons: list[str] = []
    if deleted > _MANY_DELETED:
        reasons.append(f"{deleted:.0%} of the vectors are deleted: `xsearch compact` drops them")
    if wishes.structure is not None:
        reasons.append("asked for with --index-kind")
        reasons += _too_large(wishes.structure, count, dim, wishes)
        return Choice(wishes.structure, lists_of(wishes.structure, count), tuple(reasons))
    if wishes.recall >= EXACT_RECALL:
        reasons.append(f"only comparing every vector finds {wishes.recall:.2%}")
        reasons += _too_large("flat", count, dim, wishes)
        return Choice("flat", 0, tuple(reasons))
    if count <= EXACT_ROWS:
        reasons.append(f"up to {EXACT_ROWS:,} vectors, comparing each is quick and exact")
        if _fits("flat", count, dim, wishes):
            return Choice("flat", 0, tuple(reasons))
        reasons[-1] = "comparing every vector would take more than the memory budget"
    else:
        reasons.append(f"more than {EXACT_ROWS:,} vectors")
    approximate: tuple[Structure, ...] = ("ivf", "rabitq")
    for structure in approximate[count < _LISTS_FROM :]:
        if _fits(structure, count, dim, wishes):
            return Choice(structure, lists_of(structure, count), tuple(reasons))
    smallest = smallest_memory(count, dim)
    reasons.append(
        f"the memory budget is too small for any index: this, the smallest, takes "
        f"{smallest / _MIB:,.1f} MiB"
    )
    return Choice("rabitq", 1, tuple(reasons))


def smallest_memory(count: int, dim: int) -> int:
    """Bytes of memory that the smallest index takes."""
    return min(cost("flat", count, dim).memory, cost("rabitq", count, dim).memory)


def cost(structure: Structure, count: int, dim: int) -> Cost:
    """What an index of a kind is expected to cost."""
    lists = lists_of(structure, count)
    bits = count // 8 + 1
    if structure == "flat":
        return Cost(count * dim * 2, bits, count * dim * _EXACT_SECONDS, 0.0)
    if structure == "hnsw":
        # Vectors and neighbours; the nodes that a search looks at, and that building does.
        size = count * (dim * 2 + _LINK_BYTES)
        looked = min(count, _LOOKED * math.log2(count + 2)) * dim * _REFINE_SECONDS
        return Cost(size, size, looked, count * looked)
    codes = count * (dim // 8 + 16) + lists * dim * 4 + bits
    seconds = query_seconds(lists, count, dim, max(lists * _PROBED, 1), _CANDIDATES)
    training = 40 * lists * lists * dim * 8 * _ASSIGN_SECONDS
    building = count * dim * (lists * _ASSIGN_SECONDS + _ENCODE_SECONDS) + training
    return Cost(codes, codes, seconds, building)


def query_seconds(lists: int, count: int, dim: int, probes: float, candidates: int) -> float:
    """Seconds for one query of an inverted file, on one thread."""
    scan = probes / lists * count * dim * _CODE_SECONDS + lists * dim * _EXACT_SECONDS
    return scan + min(candidates, count) * dim * _REFINE_SECONDS


def _too_large(structure: Structure, count: int, dim: int, wishes: Wishes) -> list[str]:
    if _fits(structure, count, dim, wishes):
        return []
    taken = cost(structure, count, dim).memory / _MIB
    return [f"it takes {taken:,.1f} MiB, more than the memory budget"]


def _fits(structure: Structure, count: int, dim: int, wishes: Wishes) -> bool:
    return wishes.memory is None or cost(structure, count, dim).memory <= wishes.memory


def lists_of(structure: Structure, count: int) -> int:
    """Lists of an inverted file: about the square root of the count, a power of two.

    1 is a scan of all codes, 0 a structure without lists.
    """
    if structure == "rabitq":
        return 1
    if structure != "ivf":
        return 0
    if count < _LISTS_FROM:
        return 1
    return min(int(2 ** round(math.log2(math.sqrt(count)))), _MOST_LISTS)
