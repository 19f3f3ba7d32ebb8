"""Embedding any number of texts, in pieces that an encoder takes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import TextEmbeddings
from xsearch.core.reports import Progress, ProgressCallback

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder

TEXTS = 256
"""Texts handed to an encoder at once, between two signs of progress."""


def embed_many(
    encoder: DualEncoder, texts: Sequence[str], progress: ProgressCallback | None = None
) -> TextEmbeddings:
    """The vectors of all texts, float32 (n, dim), and which of them were cut, bool (n,)."""
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    cut = np.zeros(len(texts), np.bool_)
    for start in range(0, len(texts), TEXTS):
        found = encoder.embed_texts(texts[start : start + TEXTS])
        vectors[start : start + TEXTS], cut[start : start + TEXTS] = found.vectors, found.cut
        if progress:
            progress(Progress("texts", min(start + TEXTS, len(texts)), len(texts)))
    return TextEmbeddings(vectors, cut)
