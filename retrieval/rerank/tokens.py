"""What a reranker reads of texts: tokens, made once while they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .kept import Kept

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import Float32, RegionEncoder

LIMIT = 64 << 20
"""Bytes of tokens that are kept: of 2,000 sentences, for `builtin`."""


class Tokens:
    """The tokens of texts by an encoder; usable from any number of threads."""

    def __init__(self, encoder: RegionEncoder, *, limit: int = LIMIT) -> None:
        self._encoder = encoder
        self._made: Kept[str] = Kept(limit)

    def of(self, texts: Sequence[str]) -> tuple[Float32, NDArray[np.bool_]]:
        """Token features float32 (n, T, C) and their mask, bool (n, T)."""
        found = self._made.find(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            features, mask = self._encoder.tokens(missing)
            # Without padding, and copies: a kept row would keep all of them.
            made = {
                text: row[used].copy()
                for text, row, used in zip(missing, features, mask, strict=True)
            }
            self._made.keep(made)
            found |= made
        rows = [found[text] for text in texts]
        lengths = np.array([len(row) for row in rows])
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        tokens = np.zeros((*mask.shape, rows[0].shape[1] if rows else 0), np.float32)
        tokens[mask] = np.concatenate(rows)
        return tokens, mask
