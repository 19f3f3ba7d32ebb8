"""A library of vectors that `vectors.py` draws: what `search.py` measures, made without pictures.

The catalog and the vector file are those that indexing would write: a million rows in a minute
instead of the hours that embedding takes. The pictures' root does not exist, as on a drive that
is not mounted, so that hits are shown as missing. A few captions come with them, of which no query
is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from PIL import Image
from vectors import Source

import xsearch
from xsearch.core.encoder import EncoderInfo, Logistic, TextEmbeddings
from xsearch.core.hashing import hash_text
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.liveness import now
from xsearch.indexer.reader import EncoderRow
from xsearch.indexer.tables import captions, embeddings, encoders, files, items
from xsearch.indexer.vectors import VectorWriter, checksums, to_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 10_000
_CAPTIONS = 2_000


class DrawnEncoder:
    """Knows queries and captions by their names, `query 17` and `caption 3`; draws other texts.

    Looking a vector up takes no time, so that a search's time is that of finding.
    """

    image_size = 32

    def __init__(self, dim: int, count: int, queries: NDArray[np.float32]) -> None:
        self.name = "drawn"
        self.dim = dim
        self.fingerprint = f"d4a3{dim:04}"
        self.info = EncoderInfo("drawn", "drawn", self.fingerprint, dim, "numpy", "fp32")
        self._queries = queries
        self._count = count

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.convert("RGB").resize((self.image_size, self.image_size)))

    def embed_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise NotImplementedError("a drawn library has no pictures")

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """The vectors of `query N`; others, such as reference texts, as further captions."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        known = [text.startswith("query ") for text in texts]
        for at, text in enumerate(texts):
            if known[at]:
                vectors[at] = self._queries[int(text.removeprefix("query "))]
        others = [at for at in range(len(texts)) if not known[at]]
        if others:
            vectors[others] = Source(self.dim).texts(len(others), self._count, seed=2)
        return TextEmbeddings(vectors, np.zeros(len(texts), np.bool_))

    def calibration(self, query: str, target: str) -> Logistic:  # noqa: ARG002
        return Logistic(10.0, -2.0)


def fill(folder: Path, encoder: DrawnEncoder, count: int) -> None:
    """Make the library in a folder: `count` pictures and a few captions, without an index."""
    source = Source(encoder.dim)
    xsearch.open(folder, encoder=encoder).close()
    with Catalog(folder) as catalog:
        row = catalog.use_encoder(encoder.info)
        root = catalog.add_root(folder / "not-there", "", (), False).id
        place = vector_path(folder, row.fingerprint, row.generation)
        with VectorWriter(place, 0, row.dim) as writer:
            for rows in _pieces(source.images(count)):
                _add(catalog, row, writer, rows, _pictures(root, writer.rows, len(rows)))
            texts = source.texts(_CAPTIONS, count, seed=1)
            _add(catalog, row, writer, texts, _captions(root, writer.rows))


def add(folder: Path, encoder: DrawnEncoder, first: int, rows: NDArray[np.float32]) -> None:
    """Pictures that come later: float32 (n, dim), numbered from `first` on."""
    with Catalog(folder) as catalog:
        row = catalog.use_encoder(encoder.info)
        root = catalog.roots()[0].id
        place = vector_path(folder, row.fingerprint, row.generation)
        with VectorWriter(place, row.rows, row.dim) as writer:
            _add(catalog, row, writer, rows, _pictures(root, first, len(rows)))


def _pieces(drawn: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    for rows in drawn:
        yield from (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


Rows = list[tuple[sa.Table, list[dict[str, Any]]]]


def _add(
    catalog: Catalog,
    encoder: EncoderRow,
    writer: VectorWriter,
    rows: NDArray[np.float32],
    values: Rows,
) -> None:
    stored = to_rows(rows)
    first = writer.append(stored)
    named = [
        {"encoder_id": encoder.id, "item_id": item["id"], "row": first + at, "crc": crc}
        for at, (item, crc) in enumerate(zip(values[0][1], checksums(stored), strict=True))
    ]
    with catalog.transaction() as connection:
        for table, part in [*values, (embeddings, named)]:
            connection.execute(table.insert(), part)
        changed = encoders.update().where(encoders.c.id == encoder.id)
        connection.execute(changed.values(rows=writer.rows))


def _pictures(root: int, first: int, count: int) -> Rows:
    """Items and files of pictures whose ids are their number plus one."""
    numbers = range(first, first + count)
    digests = [number.to_bytes(16, "big") for number in numbers]
    return [
        (
            items,
            [
                {"id": at + 1, "kind": "image", "content_hash": digest, "created_at": now()}
                for at, digest in zip(numbers, digests, strict=True)
            ],
        ),
        (
            files,
            [
                {**_file(root, f"{at // 1_000:05}", f"{at:08}.jpg", digest), "item_id": at + 1}
                for at, digest in zip(numbers, digests, strict=True)
            ],
        ),
    ]


def _captions(root: int, first: int) -> Rows:
    """Texts of one file, with ids after those of the pictures."""
    texts = [f"caption {number}" for number in range(_CAPTIONS)]
    ids = range(first + 1, first + 1 + _CAPTIONS)
    place = {"id": first + 1, **_file(root, "", "captions.txt", b""), "role": "text"}
    return [
        (
            items,
            [
                {
                    "id": id_,
                    "kind": "text",
                    "text": text,
                    "content_hash": hash_text(text),
                    "created_at": now(),
                }
                for id_, text in zip(ids, texts, strict=True)
            ],
        ),
        (files, [place]),
        (
            captions,
            [
                {"item_id": id_, "file_id": first + 1, "source": "line", "position": at}
                for at, id_ in enumerate(ids)
            ],
        ),
    ]


def _file(root: int, folder: str, name: str, digest: bytes) -> dict[str, Any]:
    return {
        "root_id": root,
        "folder": folder,
        "name": name,
        "role": "image",
        "size": 100_000,
        "mtime_ns": 1_500_000_000 * 10**9,
        "racy": False,
        "content_hash": digest,
        "state": "ok",
    }
