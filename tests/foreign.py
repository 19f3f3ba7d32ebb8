"""Vectors in the layouts of other programs, written as those write them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from support import ColourEncoder

import xsearch
from xsearch.core.encoder import DualEncoder
from xsearch.indexer.reader import Reader
from xsearch.indexer.vectors import open_rows, vector_path

# The statements of rclip's first version; each later one adds a column.
_TABLES = (
    "CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL UNIQUE,"
    " modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL)",
    "CREATE UNIQUE INDEX existing_images ON images(filepath) WHERE deleted IS NULL",
    "CREATE TABLE db_version (version INTEGER)",
)


class CountingEncoder(ColourEncoder):
    """The encoder of colours; knows how many pictures it embedded."""

    def __init__(self, fingerprint: str = "c010") -> None:
        super().__init__(fingerprint)
        self.embedded = 0

    def embed_images(self, batch: np.ndarray) -> np.ndarray:
        self.embedded += len(batch)
        return super().embed_images(batch)


def vectors_for(paths: Sequence[Path], encoder: DualEncoder | None = None) -> np.ndarray:
    """What another program would have made of pictures: float32 (n, dim), of unit length."""
    encoder = encoder or ColourEncoder()
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(encoder.preprocess(image.convert("RGB")))
    return encoder.embed_images(np.stack(pictures))


def write_clip_retrieval(
    folder: Path, shards: Sequence[tuple[Sequence[str], np.ndarray]], digits: int = 1
) -> Path:
    """The folder of `clip-retrieval inference`: for each shard the recorded paths and vectors."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for at, (paths, vectors) in enumerate(shards):
        number = str(at).zfill(digits)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors.astype(np.float16))
        table = pa.table({"image_path": list(paths), "caption": ["a caption"] * len(paths)})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def write_rclip(
    path: Path, pictures: Sequence[Path], vectors: np.ndarray, version: int = 4
) -> Path:
    """The database that a version of rclip leaves; versions are those of the database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in _TABLES:
            connection.execute(statement)
        if version >= 2:
            connection.execute("ALTER TABLE images ADD COLUMN indexing BOOLEAN")
        if version >= 4:
            connection.execute("ALTER TABLE images ADD COLUMN hash TEXT")
        connection.execute("INSERT INTO db_version VALUES (?)", (version,))
        for picture, vector in zip(pictures, vectors, strict=True):
            status = picture.stat()
            row = (str(picture), status.st_mtime, status.st_size, vector.astype("<f4").tobytes())
            connection.execute(
                "INSERT INTO images (filepath, modified_at, size, vector) VALUES (?, ?, ?, ?)", row
            )
    return path


def stored_vectors(library: xsearch.Library) -> dict[str, bytes]:
    """The stored vector of every picture, by the name of its first file."""
    reader = Reader(library.path)
    try:
        with reader.snapshot() as snapshot:
            encoder = snapshot.encoder()
            if encoder is None:
                return {}
            place = vector_path(library.path, encoder.fingerprint, encoder.generation)
            rows = open_rows(place, encoder.rows, encoder.dim)
            found = snapshot.items_at(encoder.id, snapshot.rows_of(encoder.id, "image"))
            return {item.files[0].path.name: rows[row].tobytes() for row, item in found.items()}
    finally:
        reader.close()


def float16(vectors: np.ndarray) -> list[bytes]:
    """Vectors as the library stores them."""
    return [row.tobytes() for row in vectors.astype("<f2")]
