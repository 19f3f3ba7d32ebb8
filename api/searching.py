"""What a `Library` is asked: by words, pictures and items, in whichever mixture."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.core.errors import EncoderMismatchError, UsageError
from xsearch.core.paths import absolute
from xsearch.core.query import Image, Item, Part, Query
from xsearch.core.values import KINDS, Hit, Kind
from xsearch.reranking import how_many

if TYPE_CHECKING:
    from xsearch.choice import EncoderChoice
    from xsearch.core.encoder import DualEncoder
    from xsearch.core.filters import Conditions, Filters
    from xsearch.indexer.reader import Reader
    from xsearch.reranking import RerankerChoice
    from xsearch.retrieval.fusion import Fusion
    from xsearch.retrieval.search import Mode, Searcher, Wanted

    Asked = str | Image | Path | Item | Part | Query
    # What is reranked by, and how many candidates.
    Rerank = tuple[Query, int]

LIKE, UNLIKE = 0.75, 0.15
"""What the mean of the good examples, and of the bad ones, counts beside a query of 1 (Rocchio)."""


class _Opened(Protocol):
    """The parts of a library that are needed here."""

    path: Path
    _choice: EncoderChoice
    _reranking: RerankerChoice

    @property
    def encoders(self) -> list[DualEncoder]: ...

    def _open_reader(self) -> Reader: ...

    def _search(self) -> Searcher: ...

    def _answer(
        self, query: Query, wanted: Wanted, rerank: Rerank | None, fusion: bool
    ) -> list[Hit]: ...

    def _joins(self, query: Query) -> bool: ...

    def _item_at(self, path: Path) -> int | None: ...

    def search(
        self, query: Asked, k: int = ..., target: Kind = ..., *, excluded: Iterable[int] = ...
    ) -> list[Hit]: ...


class Searching:
    """The methods of `Library` that find."""

    def search(
        self: _Opened,
        query: Asked,
        k: int = 10,
        target: Kind = "image",
        *,
        filters: Filters | None = None,
        mode: Mode = "hybrid",
        min_score: float = 0.0,
        auto_cut: bool = False,
        like: Iterable[int] = (),
        unlike: Iterable[int] = (),
        diversity: float = 0.0,
        excluded: Iterable[int] = (),
        correct: bool = True,
        rerank: int | None = None,
        fusion: bool = True,
    ) -> list[Hit]:
        """The k items that fit a query best, best first; fewer only where the library has fewer.

        Args:
            query: words, taken literally; a picture (`xsearch.Image`, or a `Path`); or both and
                more, composed: `Query("cat") + Image("x.jpg") - "dog"`, or what `xsearch.parse`
                reads.
            k: how many hits.
            target: `image` or `text`: what to look for.
            filters: what hits must meet, `xsearch.Filters`.
            mode: by `meaning`, by `words` (file names, captions, tags, ...), or `hybrid`: both,
                fused by rank.
            min_score: leave out hits with a lower score, 0 to 1.
            auto_cut: show no more than the good matches, possibly none.
            like, unlike: ids of hits that were good, and bad ones: the query moves towards the
                first and away from the others (Rocchio 1971).
            diversity: 0 to 1, how much hits should differ from one another.
            excluded: ids of items that are not wanted.
            correct: put back what is near to every query (nearest neighbour normalisation).
            rerank: compare so many of the best candidates by meaning with the query once more, by
                the encoder's reranker: words with pictures, or a picture with texts. Those that
                cannot be read now keep their place and score. True: 50.
            fusion: join one picture and one text, neither weighed, by what was learnt of such
                queries for the encoder, where that is known; False: add them, as all else.

        Raises:
            UsageError: an empty query, a value that cannot be meant; nothing to rerank by.
            EncoderError: no reranker for the encoder.
            SourceError, ImageError: the query's picture cannot be read; nothing at `root`.
            EncoderMismatchError: the library's vectors are another encoder's.
            LibraryError: the library is damaged.
        """
        from xsearch.retrieval.search import MODES, Wanted

        if target not in KINDS:
            raise UsageError(f"target must be one of {', '.join(KINDS)}, not {target!r}")
        if mode not in MODES:
            raise UsageError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if k < 0:
            raise UsageError(f"k must be 0 or more, not {k}")
        for name, share in (("min_score", min_score), ("diversity", diversity)):
            if not 0 <= share <= 1:
                raise UsageError(f"{name} is from 0 to 1, not {share}")
        count, asked = how_many(rerank), Query(query)
        whole = _with_examples(asked, like, unlike).checked()
        if mode == "words" and count:
            raise UsageError(
                "reranking is of what is found by meaning: search with mode hybrid or meaning, or "
                "without it"
            )
        if mode == "words" and not _words(whole):
            raise UsageError("mode words needs words to look for: the query has only pictures")
        wanted = Wanted(
            k=k,
            target=target,
            conditions=_conditions(filters),
            mode=mode,
            words=" ".join(_words(whole)),
            phrases=tuple(text for part in whole.parts if part.weight > 0 for text in part.phrases),
            without=tuple(_words(whole, added=False)),
            min_score=min_score,
            auto_cut=auto_cut,
            diversity=diversity,
            excluded=frozenset(excluded),
            correct=correct,
        )
        again = (asked, count) if count else None
        try:
            return self._answer(whole, wanted, again, fusion)
        except EncoderMismatchError:
            # Others may have changed the library's encoder, and dropped the old one's vectors.
            if not self._choice.follows:
                raise
            return self._answer(whole, wanted, again, fusion)

    def similar(self: _Opened, picture: int | str | os.PathLike[str], k: int = 10) -> list[Hit]:
        """Pictures like one of the library, by its id or path, or like any other file.

        The picture itself is not among them; one of the library is not read.

        Raises:
            UsageError: the library has no such item.
            SourceError, ImageError: the file cannot be read.
        """
        if not isinstance(picture, str | os.PathLike):
            id_ = operator.index(picture)
            return self.search(Item(id_), k, excluded=(id_,))
        if not os.fspath(picture):
            raise UsageError("no picture is named: give its path, or its id")
        path = absolute(picture)
        known = self._item_at(path)
        if known is None:
            return self.search(Image(path), k)
        return self.search(Item(known), k, excluded=(known,))

    def _item_at(self: _Opened, path: Path) -> int | None:
        """The id of the picture that the library has at a path."""
        from xsearch.indexer.found import item_at

        with self._open_reader().snapshot() as snapshot:
            found = item_at(snapshot, path)
            encoder = snapshot.encoder()
            embedded = found is not None and encoder and snapshot.rows_at(encoder.id, [found])
            return found if embedded else None

    def _joins(self: _Opened, query: Query) -> bool:
        """Whether a query is one picture and one text, and no two texts."""
        if query.joined is None or isinstance(query.joined[0], Image):
            return query.joined is not None
        from xsearch.indexer.found import items_of

        with self._open_reader().snapshot() as snapshot:
            found = items_of(snapshot, [query.joined[0].id]).values()
        return any(item.kind == "image" for item in found)

    def _answer(
        self: _Opened, query: Query, wanted: Wanted, rerank: Rerank | None, fusion: bool
    ) -> list[Hit]:
        from xsearch.retrieval.query import Pixels, embed
        from xsearch.retrieval.search import Ask

        searcher, asks, pixels = self._search(), [], Pixels()
        encoders = self.encoders
        if rerank is not None:
            from xsearch.retrieval.rerank.compare import Comparison

            memories = self._reranking.load(encoders[0])
            read = partial(pixels, encoder=encoders[0])
            comparison = Comparison(rerank[0], wanted.target, rerank[1], memories, read)
            wanted = replace(wanted, rerank=comparison)
        joins = fusion and self._joins(query)
        for encoder in encoders:
            stored = partial(searcher.vectors, fingerprint=encoder.fingerprint)
            learnt = _learnt(encoder) if joins else None
            vector, kind = embed(query, encoder, stored, pixels, learnt)
            logistic = encoder.calibration(kind, wanted.target)
            asks.append(Ask(vector, kind, logistic, encoder.fingerprint))
        return searcher.search(asks, wanted)


def _with_examples(query: Query, like: Iterable[int], unlike: Iterable[int]) -> Query:
    """The query moved by examples: each side counts as one, however many there are."""
    parts = list(query.parts)
    for ids, weight in ((list(like), LIKE), (list(unlike), -UNLIKE)):
        parts += [Part(Item(id_), weight / len(ids)) for id_ in ids]
    return Query(*parts) if len(parts) > len(query.parts) else query


def _learnt(encoder: DualEncoder) -> Fusion | None:
    from xsearch.retrieval.fusion import fusion_for

    return fusion_for(encoder)


def _words(query: Query, *, added: bool = True) -> list[str]:
    """The texts that a query adds, or subtracts."""
    return [
        part.content
        for part in query.parts
        if isinstance(part.content, str) and (part.weight > 0) is added
    ]


def _conditions(filters: Filters | None) -> Conditions | None:
    """Filters, understood; a warning says what could be meant otherwise."""
    if not filters:
        return None
    from xsearch.retrieval.filters.understand import understand

    understood = understand(filters)
    for note in understood.notes:
        warnings.warn(note, stacklevel=4)
    return understood.conditions
