"""Captions by retrieval: the texts that fit a picture best, near-identical ones merged."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.paths import displayable
from xsearch.core.query import TruncationWarning
from xsearch.core.reports import ProgressCallback
from xsearch.core.values import Caption
from xsearch.data.bank import bank

from .many import embed_many
from .reference import reference_vectors
from .scoring import Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder, Logistic
    from xsearch.core.values import Hit

SAME = 0.95
"""Cosine from which on two texts are near-identical.

By the built-in encoder: of 12.5 million pairs of Flickr8k's English val captions, 51 reach it,
and read one by one all say the same of a picture ("A dog runs through a field ." and "The dog is
running through the field ."). Exchanging one word, such as a colour, a number, man for woman or
dog for cat, leaves 8 % of captions above it (0.9: 23 %, 0.97: 4 %, but then only half of the 51).
"""
_SIGNS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, eq=False)
class CaptionTexts:
    """Different texts, their unit vectors, float32 (n, dim), and their `keys`, see `keys_of`."""

    texts: Sequence[str]
    vectors: NDArray[np.float32]
    keys: NDArray[np.int64]

    def best(self, picture: NDArray[np.float32], k: int, logistic: Logistic) -> list[Caption]:
        """The k texts nearest to a picture's unit vector (dim,), best first, none like another."""
        similarities = self.vectors @ picture
        scores = Scale(picture, ("image", "text"), logistic, None).scores(similarities)
        # Stable, so that equals stay in the order in which they were given.
        order = (-similarities).argsort(kind="stable")
        return [
            Caption(
                rank=rank,
                text=self.texts[first],
                score=float(scores[first]),
                similarity=float(similarities[first]),
                others=tuple(self.texts[at] for at in others),
            )
            for rank, (first, *others) in enumerate(merge(self.keys, self.vectors, order, k), 1)
        ]


def keys_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """A number (n,) for each text: equal where case, punctuation and white space are left aside."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(_plain(text), len(numbers)) for text in texts], np.int64)


def merge(
    keys: NDArray[np.int64], vectors: NDArray[np.float32], order: NDArray[np.int64], k: int
) -> list[list[int]]:
    """The first k places of `order` whose texts differ, each with those like it behind it.

    Two texts are alike where their keys (n,) are equal, or where the cosine of their unit
    vectors, rows of (n, dim), is at least `SAME`. One that is like several stands with the first
    of them. `order` has every place once.
    """
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    left = np.ones(len(order), np.bool_)
    found: list[list[int]] = []
    for first in order.tolist():
        if len(found) == k:
            break
        if not left[first]:
            continue
        left[first] = False
        alike = left & ((keys == keys[first]) | (vectors @ vectors[first] >= SAME))
        left &= ~alike
        others = np.flatnonzero(alike)
        found.append([first, *others[ranks[others].argsort()].tolist()])
    return found


def merge_hits(hits: Sequence[Hit], vectors: Mapping[int, NDArray[np.float32]]) -> list[Caption]:
    """Texts of a library, found for a picture, as captions in the same order.

    `vectors` are the texts' own, unit (dim,), by id; one that has none is like no other by it.
    """
    if not hits:
        return []
    texts = [hit.text or "" for hit in hits]
    nothing = np.zeros_like(next(iter(vectors.values()), np.zeros(1, np.float32)))
    stacked = np.stack([vectors.get(hit.id, nothing) for hit in hits])
    return [
        Caption(
            rank=rank,
            text=texts[first],
            score=hits[first].score,
            similarity=hits[first].similarity,
            others=tuple(texts[at] for at in others),
            id=hits[first].id,
        )
        for rank, (first, *others) in enumerate(
            merge(keys_of(texts), stacked, np.arange(len(texts)), len(texts)), 1
        )
    ]


def embed_texts(
    encoder: DualEncoder, texts: Iterable[str], progress: ProgressCallback | None = None
) -> CaptionTexts:
    """Texts ready to be compared, each once; white space around them, and empty ones, left out.

    Where texts are longer than the encoder reads, a `TruncationWarning` says how many.

    Raises:
        UsageError: there is no text.
    """
    chosen = list(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))
    if not chosen:
        raise UsageError("there is no text to caption with: give at least one")
    embedded = embed_many(encoder, chosen, progress)
    cut = int(embedded.cut.sum())
    if cut:
        warnings.warn(
            f"{cut:,} of {len(chosen):,} texts are longer than the encoder {encoder.name} reads; "
            "their ends were ignored",
            TruncationWarning,
            stacklevel=3,
        )
    return CaptionTexts(chosen, embedded.vectors, keys_of(chosen))


def bank_texts(encoder: DualEncoder, languages: Iterable[str] | None = None) -> CaptionTexts:
    """The reference bank that ships with xsearch, in some languages or in all.

    Raises:
        UsageError: a language that the bank does not have.
    """
    places = {text: at for at, text in enumerate(bank())}
    chosen = bank(languages)
    vectors = reference_vectors(encoder)[[places[text] for text in chosen]]
    return CaptionTexts(chosen, vectors, keys_of(chosen))


def read_captions(path: Path) -> list[str]:
    """The texts of a `.txt` file, a text a line, or of `.csv` and `.jsonl` with `text`.

    Raises:
        SourceError: it cannot be read, or is no such file, or has no text.
    """
    from xsearch.indexer.sources import is_text_name, read_rows

    shown = displayable(path)
    if not is_text_name(path.name):
        raise SourceError(f"{shown}: captions come from a .txt, .csv or .jsonl file")
    try:
        found = [row.text for row in read_rows(path)]
    except SourceError as error:
        raise SourceError(f"{shown}: {error}") from error
    except OSError as error:
        raise SourceError(f"{shown} cannot be read: {error.strerror or error}") from error
    if not found:
        raise SourceError(f"{shown} has no text in it")
    return found


def _plain(text: str) -> str:
    """A text without case, punctuation and white space; itself where nothing else is in it."""
    return _SIGNS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip() or text
