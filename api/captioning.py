"""Captions for pictures: the best-fitting texts of a library, of a file, or of the shipped bank."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.arguments import names
from xsearch.core.errors import UsageError
from xsearch.core.paths import absolute
from xsearch.core.query import Image, Query

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder
    from xsearch.core.reports import ProgressCallback
    from xsearch.core.values import Caption, Hit, Kind
    from xsearch.retrieval.search import Searcher

    PathLike = str | os.PathLike[str]
    Picture = str | os.PathLike[str] | Image

TOP = 5
"""Captions of a picture, where it is not said how many."""
_MORE = 4
"""Texts of a library that are looked at for each caption at first: some are merged."""


class Captioner:
    """Texts that are embedded once, to caption any number of pictures with; no library is needed.

    `len()` says how many texts there are.
    """

    def __init__(
        self,
        texts: PathLike | Iterable[str] | None = None,
        *,
        languages: str | Iterable[str] | None = "en",
        encoder: PathLike | DualEncoder = "builtin",
        device: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Read the texts and embed them.

        Args:
            texts: a file (`.txt` with a text a line; `.csv` or `.jsonl` with `text`) or the texts
                themselves; None: the reference bank that ships with xsearch.
            languages: those of the bank's texts to use: en, de, fr, cs, ar, zh; None: all.
            encoder: a name, a folder or an encoder object.
            device: where the encoder runs, see `load_encoder`.
            progress: called often, from the calling thread, with a `Progress`.

        Raises:
            UsageError: no text, or a language that the bank does not have.
            SourceError: the file cannot be read.
            EncoderError: the encoder cannot be loaded.
        """
        from xsearch.retrieval.captioning import bank_texts, embed_texts, read_captions
        from xsearch.retrieval.encoders import load_encoder

        if isinstance(texts, str | os.PathLike):
            texts = read_captions(absolute(texts))
        if isinstance(encoder, str | os.PathLike):
            name = encoder if isinstance(encoder, str) else Path(encoder)
            encoder = load_encoder(name, device=device)
        self.encoder: DualEncoder = encoder
        if texts is None:
            self._texts = bank_texts(encoder, names(languages))
        else:
            self._texts = embed_texts(encoder, texts, progress)

    def __len__(self) -> int:
        return len(self._texts.texts)

    def caption(self, image: Picture, k: int = TOP) -> list[Caption]:
        """The k texts that fit a picture best, near-identical ones merged; fewer if there are.

        Args:
            image: a path, or an `xsearch.Image` (a path, URL, bytes or PIL image).
            k: how many captions.

        Raises:
            UsageError: a negative `k`.
            SourceError, ImageError: the picture cannot be read.
        """
        from xsearch.retrieval.query import embed

        _check(k)
        vector, kind = embed(Query(_image(image)), self.encoder, lambda _: {})
        return self._texts.best(vector, k, self.encoder.calibration(kind, "text"))


def caption(
    image: Picture,
    texts: PathLike | Iterable[str] | None = None,
    *,
    k: int = TOP,
    languages: str | Iterable[str] | None = "en",
    encoder: PathLike | DualEncoder = "builtin",
    device: str | None = None,
    progress: ProgressCallback | None = None,
) -> list[Caption]:
    """The k texts that fit a picture best, near-identical ones merged; no library is needed.

    For several pictures make a `Captioner`, which embeds the texts once; the arguments are its.

    Raises:
        UsageError: a negative `k`, no text, or a language that the bank does not have.
        SourceError, ImageError: the picture or the file cannot be read.
        EncoderError: the encoder cannot be loaded.
    """
    _check(k)
    ready = Captioner(texts, languages=languages, encoder=encoder, device=device, progress=progress)
    return ready.caption(image, k)


class _Searched(Protocol):
    """The parts of a library that are needed here."""

    @property
    def encoder(self) -> DualEncoder: ...

    def search(self, query: Image, k: int, target: Kind) -> list[Hit]: ...

    def _search(self) -> Searcher: ...


class Captioning:
    """The method of `Library` that captions pictures."""

    def caption(self: _Searched, image: Picture, k: int = TOP) -> list[Caption]:
        """The k texts of the library that fit a picture best, near-identical ones merged.

        The picture need not be in the library; the texts that belong to one that is are among
        those compared. `others` of a caption are the texts like it that a search comes upon.

        Args:
            image: a path, or an `xsearch.Image` (a path, URL, bytes or PIL image).
            k: how many captions; there are fewer only where the library has fewer.

        Raises:
            UsageError: a negative `k`.
            SourceError, ImageError: the picture cannot be read.
            EncoderMismatchError: the library's vectors are another encoder's.
            LibraryError: the library is damaged.
        """
        from xsearch.retrieval.captioning import merge_hits

        _check(k)
        depth = _MORE * k
        while True:
            hits = self.search(_image(image), depth, "text")
            ids = [hit.id for hit in hits]
            found = merge_hits(hits, self._search().vectors(ids, self.encoder.fingerprint))
            if len(found) >= k or len(hits) < depth:
                return found[:k]
            depth *= 2


def _image(given: Picture) -> Image:
    return given if isinstance(given, Image) else Image(given)


def _check(k: int) -> None:
    if k < 0:
        raise UsageError(f"k must be 0 or more, not {k}")
