"""Collections as libraries see them: vectors of pictures and captions, and their background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from relevance import Collection

from xsearch.core.encoder import DualEncoder
from xsearch.core.values import Kind
from xsearch.data.bank import bank_digest
from xsearch.data.records import ImageFile
from xsearch.indexer.background import Background, Bank, open_background, update_background
from xsearch.indexer.vectors import VectorWriter, to_rows, vector_path
from xsearch.retrieval.many import embed_many
from xsearch.retrieval.reference import reference_vectors
from xsearch.retrieval.scoring import Scale

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Unit vectors of pictures (n, dim) and texts (m, dim), rounded as they are stored.

    In the vector file the pictures stand first.
    """

    encoder: DualEncoder
    images: Float32
    texts: Float32
    background: Background

    def scale(
        self, query: Float32, kinds: tuple[Kind, Kind], *, correct: bool = True
    ) -> tuple[Scale, Float32, NDArray[np.int64]]:
        """A query's scale, and its cosines with all targets and their rows."""
        target = kinds[1]
        vectors = self.images if target == "image" else self.texts
        first = 0 if target == "image" else len(self.images)
        logistic = self.encoder.calibration(*kinds)
        scale = Scale(query, kinds, logistic, self.background, correct=correct)
        return scale, vectors @ query, np.arange(first, first + len(vectors))


def embed(encoder: DualEncoder, collection: Collection) -> tuple[Float32, Float32]:
    """Vectors of a collection's pictures and captions."""
    parts = []
    for start in range(0, len(collection.files), 32):
        pictures = (
            ImageFile(path).open(encoder.image_size)
            for path in collection.files[start : start + 32]
        )
        parts.append(encoder.embed_images(np.stack([encoder.preprocess(one) for one in pictures])))
    return np.concatenate(parts), embed_texts(encoder, collection.captions)


def embed_texts(encoder: DualEncoder, texts: list[str]) -> Float32:
    """Vectors of any number of texts."""
    return embed_many(encoder, texts).vectors


def world(encoder: DualEncoder, images: Float32, texts: Float32, folder: Path) -> World:
    """What a library of these pictures and texts would measure queries against."""
    stored = to_rows(np.concatenate([images, texts]))
    path = vector_path(folder, encoder.fingerprint, 1)
    folder.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with VectorWriter(path, 0, encoder.dim) as writer:
        writer.append(stored)
    shuffled = np.random.default_rng(0)
    rows: dict[Kind, NDArray[np.int64]] = {
        "image": shuffled.permutation(len(images)),
        "text": len(images) + shuffled.permutation(len(texts)),
    }
    made = update_background(
        folder,
        (encoder.fingerprint, 1, encoder.dim),
        stored,
        {kind: len(found) for kind, found in rows.items()},
        lambda kind, limit: rows[kind][:limit],
        Bank(bank_digest(), reference_vectors(encoder).astype(np.float16)),
        None,
    )
    opened = open_background(folder, encoder.fingerprint, 1, len(stored), encoder.dim)
    assert opened is not None and opened.path == made
    wide = stored.astype(np.float32)
    return World(encoder, wide[: len(images)], wide[len(images) :], opened)
