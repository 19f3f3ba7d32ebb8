"""Bringing the FAISS indices up to date with the vectors, by the policy of `worth_rebuilding`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from xsearch.core.errors import StorageError
from xsearch.core.values import KINDS, Kind
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.index import (
    build_index,
    drop_stale,
    find_index,
    open_index,
    worth_rebuilding,
)
from xsearch.indexer.reader import EncoderRow
from xsearch.indexer.tables import embeddings, items
from xsearch.indexer.vectors import current_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray


def update_indices(
    library: Path, catalog: Catalog, force: bool = False, also: EncoderRow | None = None
) -> list[Path]:
    """Build what is worth building and delete what is stale; returns the files written.

    Indices are for active encoders, and for `also`, which is about to be one.

    Raises:
        StorageError: the disk is full; searching goes on over the rows themselves.
    """
    keep: set[Path] = set()
    written: list[Path] = []
    wanted = catalog.encoders("active")
    if also is not None and also.id not in {encoder.id for encoder in wanted}:
        wanted.append(also)
    for encoder in wanted:
        for kind in KINDS:
            found = find_index(library, encoder.fingerprint, encoder.generation, kind, encoder.rows)
            if not force and (found and not worth_rebuilding(found[1], encoder.rows)):
                keep.add(found[0])
                continue
            path = _build(library, catalog, encoder, kind)
            if path is not None:
                written.append(path)
                keep.add(path)
    drop_stale(library, keep)
    return written


def _build(library: Path, catalog: Catalog, encoder: EncoderRow, kind: Kind) -> Path | None:
    rows = _rows_of(catalog, encoder, kind)
    if len(rows) == 0:
        return None
    place = (library, encoder.fingerprint, encoder.generation)
    vectors = current_rows(vector_path(*place), encoder.rows, encoder.dim)
    try:
        return build_index(*place, kind, vectors, rows, encoder.rows)
    except OSError as error:
        raise StorageError(
            f"{library}: the index could not be written ({error.strerror or error}). "
            "Everything indexed is safe and can be searched; free some space and run "
            "the command again."
        ) from error


def index_problems(library: Path, catalog: Catalog) -> list[str]:
    """What is wrong with the index files: each compared with the vectors, code by code."""
    problems = []
    for encoder in catalog.encoders("active"):
        place = (library, encoder.fingerprint, encoder.generation)
        for kind in KINDS:
            found = find_index(*place, kind, encoder.rows)
            if found is None:
                continue
            index = open_index(*place, kind, encoder.rows)
            vectors = current_rows(vector_path(*place), encoder.rows, encoder.dim)
            rows = _rows_of(catalog, encoder, kind)
            if index is None or not index.holds(vectors, rows[rows < found[1]]):
                problems.append(f"{found[0].name}: damaged or out of date; built again")
    return problems


def _rows_of(catalog: Catalog, encoder: EncoderRow, kind: Kind) -> NDArray[np.int64]:
    query = (
        sa.select(embeddings.c.row)
        .join(items, items.c.id == embeddings.c.item_id)
        .where(embeddings.c.encoder_id == encoder.id, items.c.kind == kind)
        .order_by(embeddings.c.row)
    )
    with catalog.reading() as connection:
        return np.fromiter(connection.scalars(query), dtype=np.int64)
