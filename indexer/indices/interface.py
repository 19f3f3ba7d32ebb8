"""What searching needs of an index, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Found = tuple[NDArray[np.float32], NDArray[np.int64]]

Structure = Literal["flat", "rabitq", "ivf", "hnsw"]
TUNED_K = 10
"""How many hits a search of tuned effort gives."""
STRUCTURES: tuple[Structure, ...] = ("flat", "rabitq", "ivf", "hnsw")


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard an approximate index tries.

    For a graph, `probes` is how many nodes are kept in view, and there are no `candidates`.

    `probes` is how many lists of an inverted file are scanned, `candidates` how many of what they
    hold are compared exactly for 10 hits.
    """

    probes: int
    candidates: int


class VectorIndex(Protocol):
    """One segment of an index: the rows of one kind of item from `first` to before `end`."""

    @property
    def kind(self) -> Structure:
        """The structure, such as `flat`."""

    @property
    def first(self) -> int:
        """The first row of the vector store that it covers."""

    @property
    def end(self) -> int:
        """The row after the last that it covers."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        excluded: NDArray[np.int64] | None = None,
        allowed: NDArray[np.int64] | None = None,
        certain: int | None = None,
    ) -> Found:
        """The k rows nearest to each query (n, dim): cosines (n, k) and row numbers (n, k).

        Best first, with exact cosines. Where fewer than k rows qualify, the rest is row -1.
        `allowed` restricts the search to those rows and `excluded` leaves rows out; k qualifying
        rows come back whenever k exist. Both are row numbers of the whole store, ascending.
        Where only the first `certain` are wanted with the recall that the index was tuned to, the
        others cost an approximate index little.
        """
