"""Retrieval figures of vectors: where the true ones stand among all, in both directions.

Vectors are first rounded to float16, as the vector store keeps them, and a tie counts against:
a false candidate as similar as the true one stands before it. Scores are summed in float64,
which for unit vectors of float16 is exact (every product is a multiple of 2^-48 and no partial
sum exceeds 1), so that ties are ties, whatever the order of summing and the size of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import UsageError

from .bootstrap import Estimate, estimates, weighted_median

Array = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CUTS = (1, 5, 10)
BLOCK = 4_000_000
"""Scores held at once: 32 MB, and a few arrays of this size."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """One direction: for each query, where its true candidates stand (ranks count from 1).

    first: rank of the best true candidate, int64 (q,).
    precision: average precision, 0 to 1, float64 (q,).
    gain: nDCG with binary relevance at the depth asked for, 0 to 1, float64 (q,).
    group: the picture of the query, int64 (q,): what is resampled for confidence intervals.
    candidates: how many there are to find.
    """

    first: Int64
    precision: Float64
    gain: Float64
    group: Int64
    candidates: int


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Both directions, and the cosine of every true pair, float64 (m,), in the texts' order."""

    text_to_image: Ranks
    image_to_text: Ranks
    similarity: Float64


@dataclass(frozen=True, slots=True)
class Recalls:
    """Percentages at each cut, by default at 1, 5 and 10."""

    text_to_image: tuple[float, ...]
    image_to_text: tuple[float, ...]

    def __str__(self) -> str:
        forward, back = (
            " / ".join(f"{value:.1f}" for value in values)
            for values in (self.text_to_image, self.image_to_text)
        )
        return f"{forward} | {back}"


def recall(images: Array, texts: Array, owners: Int64, cuts: Sequence[int] = CUTS) -> Recalls:
    """Recall of image vectors (n, d) and text vectors (m, d); text j belongs to image owners[j].

    A caption is found when its image is among the first k of all images; an image when any of
    its captions is among the first k of all captions (Hodosh, Young, Hockenmaier 2013). A tie
    counts against. Raises UsageError as `retrieval` does.
    """
    found = retrieval(images, texts, owners)
    forward, back = (
        tuple(float((ranks.first <= k).mean() * 100) for k in cuts)
        for ranks in (found.text_to_image, found.image_to_text)
    )
    return Recalls(forward, back)


def retrieval(
    images: Array, texts: Array, owners: Int64, *, depth: int = max(CUTS), block: int = BLOCK
) -> Retrieval:
    """Rank all images for each text, and all texts for each image that has one.

    images (n, d) and texts (m, d) are unit vectors; text j belongs to image owners[j], any
    number of texts to an image. `depth` cuts nDCG off. At most `block` scores are held at once.

    Average precision and nDCG as in Manning, Raghavan, Schuetze, Introduction to Information
    Retrieval (2008), 8.4, with binary relevance. Raises UsageError where shapes do not fit,
    there is nothing to rank, or a vector is not finite.
    """
    images, texts = kept(images), kept(texts)
    _check(images, texts, owners)
    slots = _slots(owners, len(images))
    own = np.full(slots.shape, np.inf)
    own[slots >= 0] = _dots(texts, images[owners])[slots[slots >= 0]]
    similarity = np.empty(len(texts))
    before = np.empty(len(texts), np.int64)
    texts_before = np.zeros(slots.shape, np.int64)
    for rows, scores in _blocks(texts, images, block):
        mine = owners[rows]
        pairs = np.arange(len(mine)), mine
        similarity[rows] = scores[pairs]
        # From here on only false pairs count, and true texts of one image never each other.
        scores[pairs] = -np.inf
        before[rows] = (scores >= similarity[rows][:, None]).sum(axis=1)
        for slot, bar in enumerate(own):
            texts_before[slot] += (scores >= bar).sum(axis=0)
    return Retrieval(
        _single(before + 1, owners, len(images), depth),
        _several(slots, own, texts_before, len(texts), depth),
        similarity,
    )


def figures(
    ranks: Ranks,
    cuts: Sequence[int] = CUTS,
    *,
    depth: int = max(CUTS),
    samples: int = 0,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The named figures of one direction: `recall@k`, `mAP`, `nDCG@depth` in percent; ranks.

    With `samples`, each has a 95 % bootstrap interval over pictures (see `bootstrap.estimates`).
    """
    means = {f"recall@{k}": (ranks.first <= k) * 100.0 for k in cuts}
    means["mean_rank"] = ranks.first.astype(np.float64)
    means["mAP"] = ranks.precision * 100
    means[f"nDCG@{depth}"] = ranks.gain * 100
    table = np.stack(list(means.values()), axis=1)
    order = np.argsort(ranks.first, kind="stable")

    def statistic(weights: Int64) -> Float64:
        averages = weights @ table / weights.sum()
        median = weighted_median(ranks.first[order], weights[order])
        return np.insert(averages, len(cuts), median)

    found = estimates(statistic, ranks.group, samples=samples, seed=seed)
    names = list(means)
    names.insert(len(cuts), "median_rank")
    return dict(zip(names, found, strict=True))


def nearest(queries: Array, candidates: Array, count: int, *, block: int = BLOCK) -> Int64:
    """The `count` most similar candidates (n, d) of each query (q, d), best first: (q, count).

    Equally similar ones come in the order of the candidates.
    """
    queries, candidates = kept(queries), kept(candidates)
    count = min(count, len(candidates))
    found = np.empty((len(queries), count), np.int64)
    for rows, scores in _blocks(queries, candidates, block):
        for place in range(count):
            best = scores.argmax(axis=1)
            found[rows, place] = best
            scores[np.arange(len(best)), best] = -np.inf
    return found


def similarities(queries: Array, candidates: Array) -> Float64:
    """Cosines (q,) of rows (q, d) with rows (q, d), as ranking computes them."""
    return _dots(kept(queries), kept(candidates))


def similarities_to_all(
    queries: Array, candidates: Array, *, block: int = BLOCK
) -> Iterator[tuple[slice, Float64]]:
    """Cosines of some queries with all candidates at a time, each with the queries' places."""
    return _blocks(kept(queries), kept(candidates), block)


def kept(vectors: Array) -> Array:
    """The vectors as the vector store keeps them: rounded to float16, in float32."""
    with np.errstate(over="ignore"):  # infinite ones are refused, in words
        return vectors.astype(np.float16).astype(np.float32)


def _check(images: Array, texts: Array, owners: Int64) -> None:
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise UsageError(f"vectors of shapes {images.shape} and {texts.shape} cannot be compared")
    if owners.shape != texts.shape[:1]:
        raise UsageError(f"{len(texts)} texts, but owners of shape {owners.shape}")
    if not len(texts):
        raise UsageError("no texts to evaluate: a pair of a picture and a text is needed")
    if owners.min() < 0 or owners.max() >= len(images):
        raise UsageError(f"owners must be from 0 to {len(images) - 1}, the images there are")
    for what, vectors in (("image", images), ("text", texts)):
        # A comparison with NaN is always false: such a vector would seem to be ranked first.
        broken = ~np.isfinite(vectors).all(axis=1)
        if broken.any():
            raise UsageError(
                f"{what} vector {int(broken.argmax())} is not finite ({broken.sum()} of "
                f"{len(vectors)}): this encoder is broken"
            )


def _slots(owners: Int64, images: int) -> Int64:
    """The texts of each image, one a row, -1 where it has no more: (most texts, images)."""
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=images)
    starts = np.cumsum(counts) - counts
    slots = np.full((counts.max(), images), -1, np.int64)
    slots[np.arange(len(owners)) - starts[owners[order]], owners[order]] = order
    return slots


def _blocks(rows: Array, columns: Array, block: int) -> Iterator[tuple[slice, Float64]]:
    """Scores of some rows with all columns at a time, each with the rows' places."""
    wide = columns.astype(np.float64).T
    step = max(1, block // max(1, len(columns)))
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        yield here, rows[here].astype(np.float64) @ wide


def _dots(one: Array, other: Array) -> Float64:
    """Dot products (n,) of rows with rows, in pieces."""
    found = np.empty(len(one))
    for start in range(0, len(one), 4096):
        here = slice(start, start + 4096)
        found[here] = np.einsum(
            "ij,ij->i", one[here].astype(np.float64), other[here].astype(np.float64)
        )
    return found


def _single(rank: Int64, group: Int64, candidates: int, depth: int) -> Ranks:
    """Queries with one true candidate each."""
    gain = np.where(rank <= depth, 1 / np.log2(1 + rank), 0.0)
    return Ranks(rank, 1 / rank, gain, group, candidates)


def _several(slots: Int64, own: Float64, before: Int64, candidates: int, depth: int) -> Ranks:
    """Queries, one a column, with several true candidates; images without any are left out."""
    has = slots[0] >= 0
    own, before, real = own[:, has], before[:, has], slots[:, has] >= 0
    # Best first, the empty slots last.
    order = np.argsort(np.where(real, -own, np.inf), axis=0, kind="stable")
    before = np.take_along_axis(before, order, axis=0)
    real = np.take_along_axis(real, order, axis=0)
    place = np.arange(1, len(before) + 1)[:, None]
    rank = before + place
    count = real.sum(axis=0)
    precision = np.where(real, place / rank, 0.0).sum(axis=0) / count
    gain = np.where(real & (rank <= depth), 1 / np.log2(1 + rank), 0.0).sum(axis=0)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, depth + 1)))
    best = ideal[np.minimum(count, depth) - 1]
    return Ranks(rank[0], precision, gain / best, np.flatnonzero(has), candidates)
