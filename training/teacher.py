"""A finished encoder that another one learns from: its vectors of pictures and captions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import ImageError
from xsearch.retrieval.encoders import load_encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import UInt8
    from xsearch.data.records import Record

BATCH = 32


class Teacher:
    """Vectors of whole pictures, each embedded once when it first comes, and of captions.

    The teacher sees pictures without augmentation: what it says is of the picture, not of a view.
    """

    def __init__(self, name: str, records: Sequence[Record], *, workers: int) -> None:
        self._encoder = load_encoder(name if name == "builtin" else Path(name))
        self._records = records
        self._workers = workers
        self._known: dict[int, NDArray[np.float32]] = {}

    def images(self, records: NDArray[np.int64]) -> NDArray[np.float32]:
        """Image vectors (n, D) of records by their numbers."""
        unknown = [int(each) for each in records if int(each) not in self._known]
        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(unknown), BATCH):
                part = unknown[start : start + BATCH]
                pixels = np.stack(list(pool.map(self._prepared, part)))
                vectors = self._encoder.embed_images(pixels)
                self._known.update(zip(part, vectors, strict=True))
        return np.stack([self._known[int(each)] for each in records])

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Text vectors (n, D)."""
        return self._encoder.embed_texts(texts).vectors

    def _prepared(self, number: int) -> UInt8:
        side = self._encoder.image_size
        try:
            return self._encoder.preprocess(self._records[number].image.open(side))
        except ImageError:
            # It was readable a moment ago, when it came into the batch.
            return np.zeros((side, side, 3), np.uint8)
