"""Vectors that other programs made of people's pictures, read where they lie."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from xsearch.indexer.imports.source import Source

    PathLike = str | os.PathLike[str]

__all__ = ["KINDS", "ImportKind", "model_name", "open_source", "recorded_model"]

ImportKind = Literal["clip-retrieval", "rclip"]
KINDS: tuple[ImportKind, ...] = ("clip-retrieval", "rclip")


def open_source(kind: ImportKind, place: PathLike | None, images: PathLike | None = None) -> Source:
    """Open what a program left; close it, or use it in a `with` block.

    Args:
        kind: which program it was.
        place: the folder that clip-retrieval wrote, or rclip's database (default: where rclip
            keeps it).
        images: the folder that the pictures lie in now; for clip-retrieval alone.

    Raises:
        UsageError: an argument that this kind needs, or has no use for.
        SourceError: it is not there, damaged, or something else.
        MissingExtraError: reading it needs a package that is not installed.
    """
    if kind == "clip-retrieval":
        from xsearch.indexer.imports.clip_retrieval import ClipRetrieval

        if place is None:
            raise UsageError("name the folder that clip-retrieval wrote its embeddings to")
        return ClipRetrieval(place, images)
    if kind == "rclip":
        from xsearch.indexer.imports.rclip import Rclip, default_database

        if images is not None:
            raise UsageError("rclip records absolute paths: it has no use for a folder of images")
        return Rclip(place or default_database())
    raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")


def recorded_model(kind: ImportKind, place: PathLike | None) -> str | None:
    """The model that made the vectors, as far as that is recorded.

    Raises:
        SourceError, MissingExtraError: as `open_source`.
    """
    if kind == "clip-retrieval" and place is not None:
        from xsearch.indexer.imports import clip_retrieval

        # Without looking at the paths, which takes long where they are many.
        return clip_retrieval.recorded_model(place)
    with open_source(kind, place) as source:
        return source.encoder


def model_name(name: str) -> str:
    """A model as xsearch calls it, given as clip-retrieval or OpenAI's own package calls it."""
    from xsearch.indexer.imports.clip_retrieval import OPEN_CLIP, OPENAI

    return OPENAI.get(name, name.removeprefix(OPEN_CLIP))
