"""Which encoder to open a library with, so that it fits the vectors that are to be imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xsearch.indexer.imports import ImportKind

    PathLike = str | os.PathLike[str]


def encoder_for_import(
    kind: ImportKind, source: PathLike | None = None, named: str | None = None
) -> str | None:
    """The name of the model that made another program's vectors; None where it is not known.

    Args:
        kind: `clip-retrieval` or `rclip`.
        source: its folder or database; default as in `Library.import_embeddings`.
        named: the model as people named it, which may be as that program calls it: `ViT-B/32`,
            `open_clip:ViT-B-32/laion2b_s34b_b79k`. By default what is recorded: rclip's version
            names its model, clip-retrieval writes none.

    Raises:
        SourceError: nothing is there, or it is damaged.
        MissingExtraError: reading it needs a package that is not installed.
    """
    from xsearch.indexer.imports import model_name, recorded_model

    return model_name(named) if named else recorded_model(kind, source)
