"""Explanations: which words of a text fit a picture, and where, with or without a library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.query import Image, Item

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from xsearch.core.encoder import DualEncoder
    from xsearch.core.explained import MatchExplanation
    from xsearch.indexer.reader import Reader
    from xsearch.retrieval.explain.match import Explaining as Reranker

    from .reranking import RerankerChoice

    PathLike = str | os.PathLike[str]
    Picture = str | os.PathLike[str] | Image


def explain(
    image: Picture,
    text: str,
    *,
    encoder: PathLike | DualEncoder = "builtin",
    reranker: PathLike | Reranker | None = None,
    device: str | None = None,
) -> MatchExplanation:
    """Which words of a text fit a picture, how much, and where; no library is needed.

    By what a reranker attends to, where the encoder has one (`builtin` does) or one is given; by
    gradients in torch for other models of open_clip. What a map means is in docs/explaining.md.

    Args:
        image: a path, or an `xsearch.Image` (a path, URL, bytes or PIL image).
        text: what the picture may show, taken literally.
        encoder: a name, a folder or an encoder object.
        reranker: a folder, or a loaded one; by default that of the encoder.
        device: where the encoder runs, see `load_encoder`.

    Raises:
        UsageError: there is no text.
        SourceError, ImageError: the picture cannot be read.
        EncoderError: the encoder or the reranker cannot be loaded, or do not belong together; or
            there is no reranker, and the encoder does without one only if it is of open_clip.
        MissingExtraError: torch is needed and not installed.
    """
    from xsearch.retrieval.encoders import load_encoder
    from xsearch.retrieval.explain import explain_match

    if isinstance(encoder, str | os.PathLike):
        name = encoder if isinstance(encoder, str) else Path(encoder)
        encoder = load_encoder(name, device=device)
    if isinstance(reranker, str | os.PathLike):
        reranker = Path(reranker)
    return explain_match(_image(image), text, encoder, reranker)


def draw_explanation(explanation: MatchExplanation) -> PILImage.Image:
    """An explanation as a picture, RGB: a panel for each word with content, at most 12.

    The words above are coloured by what they contribute: blue for the match, orange against it.
    """
    from xsearch.retrieval.explain.drawing import draw

    return draw(explanation)


class _Opened(Protocol):
    """The parts of a library that are needed here."""

    _reranking: RerankerChoice

    @property
    def encoder(self) -> DualEncoder: ...

    def _open_reader(self) -> Reader: ...

    def _path_of(self, id_: int) -> Path: ...


class Explaining:
    """The method of `Library` that explains matches."""

    def explain(
        self: _Opened,
        picture: int | Picture,
        text: str,
        *,
        reranker: PathLike | Reranker | None = None,
    ) -> MatchExplanation:
        """Which words of a text fit a picture, how much, and where; with the library's encoder.

        Args:
            picture: the id of one of the library, a path, or an `xsearch.Image`.
            text: what the picture may show, taken literally.
            reranker: as in `xsearch.explain`; by default the one that the library was opened with.

        Raises:
            UsageError: the library has no picture of that id; or there is no text.
            SourceError, ImageError, EncoderError, MissingExtraError: as `xsearch.explain` does.
        """
        image = self._path_of(picture) if isinstance(picture, int) else picture
        if reranker is None and self._reranking.given is not None:
            reranker = self._reranking.load(self.encoder).reranker
        return explain(image, text, encoder=self.encoder, reranker=reranker)

    def _path_of(self: _Opened, id_: int) -> Path:
        """The first file of a picture that is there."""
        from xsearch.indexer.found import items_of

        with self._open_reader().snapshot() as snapshot:
            item = items_of(snapshot, [Item(id_).id]).get(id_)
        if item is None or item.kind != "image":
            raise UsageError(
                f"the library has no picture {id_}: `xsearch query --json` shows the ids of hits"
            )
        path = next((file.path for file in item.files if file.path.exists()), None)
        if path is None:
            raise SourceError(f"picture {id_}: none of its files can be reached now")
        return path


def _image(given: Picture) -> Image:
    return given if isinstance(given, Image) else Image(given)
