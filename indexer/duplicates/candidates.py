"""Which pairs of pictures to judge: those with close hashes or close vectors, out of all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.perceptual import TURNS, distances, turned_hashes
from xsearch.indexer.duplicates.rule import UNKNOWN
from xsearch.indexer.vectors import chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.indices.rows import StoredRows

    Bits = NDArray[np.uint8]
    Floats = NDArray[np.float32]
    Int64 = NDArray[np.int64]
    Pairs = tuple[Int64, Int64]

_BAND_BITS, _BANDS = 16, 4
_BLOCK = 1 << 21
# Vectors a cluster, and clusters that each is compared in.
_CLUSTER, _VISITED = 500, 3
_TRAINING = 64
_ROWS, _COLUMNS = 1_024, 8_192


def close_hashes(hashes: Int64, reach: int) -> Iterator[Pairs]:
    """Pairs whose hashes, int64 (n,), differ by at most `reach` bits, one of them turned or not.

    The numbers of the two, the lower first; some pairs come several times. Of a hash's
    four bands of 16 bits, one must differ by one bit at most: that finds all of up to 7 differing
    bits, 96 % of 8 and 78 % of 10. Flat pictures, of hash 0, are left out.
    """
    known = np.flatnonzero(hashes != 0)
    hashes = hashes[known]
    turned = turned_hashes(hashes)
    flips = np.array([0, *(1 << np.arange(_BAND_BITS))], np.uint16)
    for band in range(_BANDS):
        keys = hashes.view(np.uint16).reshape(-1, _BANDS)[:, band]
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << _BAND_BITS) + 1))
        for turn in range(len(TURNS)):
            asked = turned[turn].view(np.uint16).reshape(-1, _BANDS)[:, band]
            for flip in flips:
                wanted = (asked ^ flip).astype(np.int64)
                for at, place in _expand(starts[wanted], starts[wanted + 1]):
                    other = order[place]
                    keep = at < other
                    at, other = at[keep], other[keep]
                    near = distances(turned[turn][at], hashes[other]) <= reach
                    if near.any():
                        yield known[at[near]], known[other[near]]


def _expand(starts: Int64, ends: Int64) -> Iterator[Pairs]:
    """Every number of every range (n,), with which range it is of; a bounded number at a time."""
    counts = ends - starts
    total = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = total[first - 1] if first else 0
        last = max(int(np.searchsorted(total, before + _BLOCK, side="right")), first + 1)
        part = counts[first:last]
        which = np.repeat(np.arange(first, last), part)
        within = np.arange(len(which)) - np.repeat(np.cumsum(part) - part, part)
        yield which, starts[which] + within
        first = last


def close_vectors(
    vectors: StoredRows, rows: Int64, least: float
) -> Iterator[tuple[int, Int64, Int64, Floats]]:
    """Pairs of rows (n,) whose cosine is at least `least`; nearly all of them in a large library.

    How many rows are done, the numbers of the two among the rows, the lower first, and the cosines;
    some pairs come several times. Each vector is compared with those of the clusters nearest to it,
    so that the time grows with the number of vectors, not with its square.
    """
    done = 0
    for own, visitors in _clusters(vectors, rows):
        there = vectors[rows[visitors]].astype(np.float32)
        for start in range(0, len(own), _ROWS):
            part = own[start : start + _ROWS]
            mine = vectors[rows[part]].astype(np.float32)
            for column in range(0, len(visitors), _COLUMNS):
                cosines = mine @ there[column : column + _COLUMNS].T
                at, other = np.nonzero(cosines >= least)
                one, two = part[at], visitors[column + other]
                keep = one != two
                first, second = np.minimum(one, two)[keep], np.maximum(one, two)[keep]
                yield done, first, second, cosines[at, other][keep]
            done += len(part)


def _clusters(vectors: StoredRows, rows: Int64) -> list[Pairs]:
    """For each cluster its own members and all that visit it, both as numbers among the rows."""
    count = len(rows) // _CLUSTER
    everything = np.arange(len(rows))
    if count < _VISITED + 1:
        return [(everything, everything)]
    import faiss

    step = max(1, len(rows) // (count * _TRAINING))
    sample = vectors[rows[::step]].astype(np.float32)
    means = faiss.Kmeans(sample.shape[1], count, niter=8, spherical=True, seed=1)
    means.train(sample)
    nearest = np.empty((len(rows), _VISITED), np.int64)
    for start, piece in chunks(rows):
        found = means.index.search(vectors[piece].astype(np.float32), _VISITED)[1]
        nearest[start : start + len(piece)] = found
    own = _members(nearest[:, :1], count)
    return list(zip(own, _members(nearest, count), strict=True))


def _members(nearest: Int64, count: int) -> list[Int64]:
    """The rows of each cluster, from the clusters (n, k) of each row."""
    flat = nearest.ravel()
    order = np.argsort(flat, kind="stable")
    return np.split(order // nearest.shape[1], np.searchsorted(flat[order], np.arange(1, count)))


def bits_between(hashes: Int64, first: Int64, second: Int64) -> Bits:
    """For pairs (n,): bits by which their hashes differ; `UNKNOWN` where one says nothing."""
    one, two = hashes[first], hashes[second]
    return np.where((one == 0) | (two == 0), np.uint8(UNKNOWN), distances(one, two))


def best_turns(
    hashes: Int64, turned: Int64, first: Int64, second: Int64
) -> tuple[Bits, Bits, Bits]:
    """For pairs (n,): bits that differ as the two are; as few as turning makes it; by which turn.

    `turned` are the hashes turned (8, n). The turn is what makes the second picture of the first.
    """
    bits = distances(turned[:, first], hashes[second][None])
    bits[:, (hashes[first] == 0) | (hashes[second] == 0)] = UNKNOWN
    return bits[0], bits.min(0), bits.argmin(0).astype(np.uint8)
