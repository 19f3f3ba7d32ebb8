"""Picks the best and the worst queries of an evaluation, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xsearch.data.records import Record

from .metrics import Array, Float64, Int64, Retrieval, nearest
from .results import Examples, PictureExample, TextExample

COUNT = 6
"""Examples of each kind."""
_FOUND = 4
"""Results shown for an example."""


def pick_examples(
    records: Sequence[Record],
    images: Array,
    texts: Sequence[str],
    vectors: Array,
    owners: Int64,
    found: Retrieval,
) -> Examples:
    """The best and the worst queries; among equal ranks, the surest and the least sure.

    images (n, d) are those of the records, vectors (m, d) those of the texts.
    """
    certainty = np.full(len(records), -np.inf)
    np.maximum.at(certainty, owners, found.similarity)
    forward, back = found.text_to_image, found.image_to_text
    best, worst = _ends(forward.first, found.similarity, owners)
    best_back, worst_back = _ends(back.first, certainty, np.arange(len(records)))

    def of_texts(rows: list[int]) -> tuple[TextExample, ...]:
        seen = nearest(vectors[rows], images, _FOUND)
        return tuple(
            TextExample(
                texts[row],
                int(forward.first[row]),
                records[owners[row]],
                tuple(records[at] for at in places),
            )
            for row, places in zip(rows, seen, strict=True)
        )

    def of_pictures(rows: list[int]) -> tuple[PictureExample, ...]:
        seen = nearest(images[rows], vectors, _FOUND)
        return tuple(
            PictureExample(
                records[row],
                int(back.first[row]),
                tuple((texts[at], bool(owners[at] == row)) for at in places),
            )
            for row, places in zip(rows, seen, strict=True)
        )

    return Examples(
        of_texts(best), of_texts(worst), of_pictures(best_back), of_pictures(worst_back)
    )


def _ends(rank: Int64, certainty: Float64, group: Int64) -> tuple[list[int], list[int]]:
    """The first and the last queries, at most one of a group, none among both."""
    order = np.lexsort((-certainty, rank))
    best = _distinct(order, group)
    taken = set(best)
    worst = _distinct((at for at in order[::-1] if int(at) not in taken), group)
    return best, worst


def _distinct(order: Iterable[int], group: Int64) -> list[int]:
    chosen: dict[int, int] = {}
    for at in order:
        chosen.setdefault(int(group[at]), int(at))
        if len(chosen) == COUNT:
            break
    return list(chosen.values())
