"""Which items hold the words of a query, and how many of them: search by words, not by meaning.

Nothing here imports more than numpy, since it is on the path of every query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from xsearch.core.formats import is_image_name
from xsearch.core.words import is_unspaced, tokens, word_tokens
from xsearch.data.vocabulary import stop_words
from xsearch.indexer.sqlite import COUNT_WORDS, WITH_WORDS, all_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.indexer.reader import Snapshot

# Of a text as long as a page, only so many different terms are looked up.
MAX_TERMS = 64
# The coverage of an item that lacks one of the terms, at most.
_MOST = 0.999

# Words that stand next to one another.
Term = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordHits:
    """Items that hold words of a query: `ids` int64 (n,), ascending; `coverage` float32 (n,).

    Coverage is 1 for an item that holds all of the query's terms, else the share that it holds,
    each weighted by how rare it is in the library.
    """

    ids: NDArray[np.int64]
    coverage: NDArray[np.float32]


def find(snapshot: Snapshot, text: str, phrases: Sequence[str] = ()) -> WordHits | None:
    """The items that hold any of a text's words and all of the phrases; None without any words.

    Args:
        snapshot: of the library.
        text: words in any order; those that every text has are passed over where there are
            others. Words of scripts without spaces are looked up as pairs of characters.
        phrases: texts whose words an item must hold side by side, as they stand here.
    """
    import numpy as np

    from xsearch.indexer.ids import union

    required, optional = _looked_up(text, phrases)
    if not required and not optional:
        return None
    found = [snapshot.integers(WITH_WORDS, (all_of([term]),)) for term in (*required, *optional)]
    documents = count_documents(snapshot)
    sizes = np.array([len(ids) for ids in found])
    # Inverse document frequency, largest for a term that no document holds.
    weights = np.log((documents + 1) / (sizes + 0.5))
    ids = union(found)
    coverage = np.zeros(len(ids))
    held = np.zeros((2, len(ids)), np.int64)
    for at, (having, weight) in enumerate(zip(found, weights, strict=True)):
        places = np.searchsorted(ids, having)
        coverage[places] += weight
        held[int(at < len(required)), places] += 1
    # A word that nearly every document has weighs next to nothing, and is missed all the same.
    share = np.where(held.sum(axis=0) == len(found), 1, np.minimum(coverage / weights.sum(), _MOST))
    kept = held[1] == len(required)
    return WordHits(ids[kept], share[kept].astype(np.float32))


def find_all(snapshot: Snapshot, text: str, phrases: Sequence[str] = ()) -> NDArray[np.int64]:
    """The items that hold all of a text's words and phrases: ids (n,), ascending."""
    required, optional = _looked_up(text, phrases)
    if not required and not optional:
        import numpy as np

        return np.empty(0, np.int64)
    return snapshot.integers(WITH_WORDS, (all_of([*required, *optional]),))


def count_documents(snapshot: Snapshot) -> int:
    """How many items have words."""
    return int(snapshot.one(COUNT_WORDS))


def names_a_file(text: str) -> bool:
    """Whether one of a text's words is the name of a picture's file."""
    return any(map(is_image_name, text.split()))


def without_suffixes(text: str) -> str:
    """A text with `photo` in place of `photo.jpg`: suffixes are not among the words of a file."""
    parts = [part.rpartition(".")[0] if is_image_name(part) else part for part in text.split()]
    return " ".join(parts)


def _looked_up(text: str, phrases: Sequence[str]) -> tuple[list[Term], list[Term]]:
    """The phrases, and the text's terms beside them."""
    required = list(dict.fromkeys(phrase for part in phrases if (phrase := tuple(tokens(part)))))
    return required, [term for term in terms(text) if term not in required]


def terms(text: str) -> list[Term]:
    """What of a text is looked up, each once: its content words, or else all of its words."""
    groups = word_tokens(text)
    found = dict.fromkeys(_content(groups)) or dict.fromkeys(_pieces(groups))
    return list(found)[:MAX_TERMS]


def _content(groups: Iterable[list[str]]) -> Iterator[Term]:
    """The terms of a text without stop words; in Chinese these are characters, and divide runs."""
    words, characters = stop_words("en"), stop_words("zh")
    for group in groups:
        parts = groupby(group, lambda token: token in characters)
        for term in _pieces(list(part) for stop, part in parts if not stop):
            if len(term) > 1 or term[0] not in words:
                yield term


def _pieces(groups: Iterable[list[str]]) -> Iterator[Term]:
    """Letters and digits that belong together; unspaced characters two by two."""
    for group in groups:
        for unspaced, part in groupby(group, is_unspaced):
            run = tuple(part)
            if unspaced and len(run) > 1:
                yield from pairwise(run)
            else:
                yield run
