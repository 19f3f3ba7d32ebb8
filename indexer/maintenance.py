"""Keeping a library in order: remove, compact, check. The caller holds the writer's lock."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from xsearch.core.errors import SourceError, StorageError
from xsearch.core.paths import absolute, displayable, to_stored
from xsearch.core.reports import (
    CheckReport,
    CompactReport,
    Progress,
    ProgressCallback,
    RemoveReport,
    silent,
)
from xsearch.indexer import sqlite, words
from xsearch.indexer.background import drop_stale_backgrounds
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.derive import index_problems, update_indices
from xsearch.indexer.disk import bytes_of, delete_others
from xsearch.indexer.indices.store import drop_stale
from xsearch.indexer.liveness import captioned, missing_items, refresh_liveness
from xsearch.indexer.reader import EncoderRow
from xsearch.indexer.regions import compact_regions, damaged_regions
from xsearch.indexer.tables import (
    captions,
    embeddings,
    encoders,
    files,
    images,
    items,
    ocr,
    roots,
    tags,
)
from xsearch.indexer.vectors import (
    FOLDER,
    VectorWriter,
    checksums,
    current_rows,
    open_rows,
    vector_path,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 500
_ROWS = 16_384


def remove(catalog: Catalog, path: Path | str) -> RemoveReport:
    """Take a root, or what lies at or below a path, out of the library; files stay untouched.

    A folder inside a root is left out of later scans of that root too.

    Raises:
        SourceError: the library holds nothing there.
    """
    target = absolute(path)
    gone: list[int] = []
    emptied: list[int] = []
    for root in catalog.roots():
        place = root.path / root.name
        if place == target or place.is_relative_to(target):
            emptied.append(root.id)
            where = files.c.root_id == root.id
        elif not root.name and target.is_relative_to(root.path):
            relative = target.relative_to(root.path)
            where = at_or_below(root.id, relative)
            if catalog.folders(root.id, relative.as_posix()):
                # Anchored by its slash, and taken literally.
                pattern = "/" + glob.escape(relative.as_posix())
                catalog.set_rules(root, (*root.exclude_dirs, pattern), root.include_hidden)
        else:
            continue
        with catalog.reading() as connection:
            gone += connection.scalars(
                sa.select(files.c.id).where(where, files.c.missing_since.is_(None))
            ).all()
    if not gone and not emptied:
        raise SourceError(
            f"{displayable(target)}: the library holds nothing from there. `xsearch status` "
            "lists its roots."
        )
    before = _live_items(catalog)
    count, _ = catalog.mark_gone(gone)
    with catalog.transaction() as connection:
        for root_id in emptied:
            # Nothing of a removed root is needed any more, not even what compaction drops.
            _forget_files(connection, files.c.root_id == root_id)
            connection.execute(roots.delete().where(roots.c.id == root_id))
    return RemoveReport(files=count, items=before - _live_items(catalog))


def at_or_below(root: int, relative: Path) -> sa.ColumnElement[bool]:
    """What chooses the files of a root that lie at, or below, a path relative to it."""
    path = to_stored(relative.as_posix())
    folder, _, name = path.rpartition("/")
    return sa.and_(
        files.c.root_id == root,
        sa.or_(
            files.c.folder == path,
            files.c.folder.startswith(path + "/", autoescape=True),
            sa.and_(files.c.folder == folder, files.c.name == name),
        ),
    )


def _forget_files(connection: sa.Connection, where: sa.ColumnElement[bool]) -> None:
    chosen = sa.select(files.c.id).where(where)
    touched = captioned(connection, captions.c.file_id.in_(chosen)) | set(
        connection.scalars(sa.select(files.c.item_id).where(where, files.c.item_id.is_not(None)))
    )
    connection.execute(captions.delete().where(captions.c.file_id.in_(chosen)))
    connection.execute(files.delete().where(where))
    refresh_liveness(connection, touched)


def _live_items(catalog: Catalog) -> int:
    return _count(catalog, items, items.c.deleted_at.is_(None))


def _count(catalog: Catalog, table: sa.Table, where: sa.ColumnElement[bool] | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    with catalog.reading() as connection:
        counted = query if where is None else query.where(where)
        return int(connection.execute(counted).scalar_one())


def compact(
    library: Path, catalog: Catalog, progress: ProgressCallback | None = None
) -> CompactReport:
    """Write the next generation of the vectors without deleted rows, and switch to it.

    Vectors of retired encoders go altogether. Readers go on with the old generation until they
    look again; its file is deleted at once where the system lets it be, else by the next
    compaction.

    Raises:
        StorageError: the disk is full; the library stays as it was.
    """
    before = _bytes(library)
    total = _count(catalog, embeddings)
    with catalog.transaction() as connection:
        _forget_retired(connection)
    drop_old_vectors(library, catalog)
    kept = _next_generations(library, catalog, progress)
    with catalog.transaction() as connection:
        _forget_deleted(connection)
        for generation in kept:
            _switch(connection, generation)
        sqlite.optimise_words(connection)
    left = _count(catalog, embeddings)
    # What frees space comes before what needs some.
    drop_old_vectors(library, catalog)
    update_indices(library, catalog)
    _compact_regions(library, catalog)
    sqlite.shrink(catalog.path)
    return CompactReport(left, total - left, before, _bytes(library))


def _compact_regions(library: Path, catalog: Catalog) -> None:
    live = sa.select(items.c.content_hash).where(
        items.c.kind == "image", items.c.deleted_at.is_(None)
    )
    with catalog.reading() as connection:
        digests = connection.scalars(live).all()
    used = [encoder.fingerprint for encoder in catalog.encoders("active")]
    compact_regions(library, used, digests)


def _next_generations(
    library: Path, catalog: Catalog, progress: ProgressCallback | None
) -> list[_Generation]:
    """Write the next generation of every encoder, or of none."""
    written: list[_Generation] = []
    try:
        for encoder in catalog.encoders("active", "building"):
            old = current_rows(_path(library, encoder), encoder.rows, encoder.dim)
            if _live_vectors(catalog, encoder) < encoder.rows:
                written.append(_next_generation(library, catalog, encoder, old, progress))
    except BaseException:
        drop_old_vectors(library, catalog)
        raise
    return written


@dataclass(frozen=True, slots=True)
class _Generation:
    """A written generation of one encoder: the items of its rows, in order."""

    encoder: EncoderRow
    items: list[int]


def _next_generation(
    library: Path,
    catalog: Catalog,
    encoder: EncoderRow,
    old: NDArray[np.float16],
    progress: ProgressCallback | None,
) -> _Generation:
    """Write the vectors of live items to the next generation's file."""
    with catalog.reading() as connection:
        pairs = connection.execute(
            sa.select(embeddings.c.row, embeddings.c.item_id)
            .join(items, items.c.id == embeddings.c.item_id)
            .where(embeddings.c.encoder_id == encoder.id, items.c.deleted_at.is_(None))
            .order_by(embeddings.c.row)
        ).all()
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    target = vector_path(library, encoder.fingerprint, encoder.generation + 1)
    with contextlib.suppress(FileNotFoundError):
        target.unlink()  # What an interrupted compaction left.
    try:
        with VectorWriter(target, 0, encoder.dim) as writer:
            for start in range(0, len(rows), _ROWS):
                writer.append(old[rows[start : start + _ROWS]])
                if progress:
                    progress(Progress("compact", min(start + _ROWS, len(rows)), len(rows)))
    except StorageError as error:
        raise StorageError(
            f"{library}: no space to compact ({error.__cause__}); it needs room for a second copy "
            "of the vectors. The library is as it was; free some space and run it again."
        ) from error
    return _Generation(encoder, [item for _, item in pairs])


def _switch(connection: sa.Connection, written: _Generation) -> None:
    """Make a written generation the current one."""
    encoder = written.encoder
    everything = embeddings.c.encoder_id == encoder.id
    # Rows are unique: out of the way first, then to their new places.
    connection.execute(embeddings.update().where(everything).values(row=-1 - embeddings.c.row))
    if written.items:
        connection.execute(
            embeddings.update()
            .where(everything, embeddings.c.item_id == sa.bindparam("item"))
            .values(row=sa.bindparam("new_row")),
            [{"item": item, "new_row": new} for new, item in enumerate(written.items)],
        )
    connection.execute(
        encoders.update()
        .where(encoders.c.id == encoder.id)
        .values(generation=encoder.generation + 1, rows=len(written.items))
    )


def _live_vectors(catalog: Catalog, encoder: EncoderRow) -> int:
    query = (
        sa.select(sa.func.count())
        .select_from(embeddings.join(items, items.c.id == embeddings.c.item_id))
        .where(embeddings.c.encoder_id == encoder.id, items.c.deleted_at.is_(None))
    )
    with catalog.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _forget_retired(connection: sa.Connection) -> None:
    """Drop what is left of retired encoders."""
    retired = sa.select(encoders.c.id).where(encoders.c.state == "retired")
    connection.execute(embeddings.delete().where(embeddings.c.encoder_id.in_(retired)))
    connection.execute(encoders.delete().where(encoders.c.state == "retired"))


def _forget_deleted(connection: sa.Connection) -> None:
    """Drop the rows of what is marked as gone, in an order that keeps every reference whole."""
    gone_files = sa.select(files.c.id).where(files.c.missing_since.is_not(None))
    dead = sa.select(items.c.id).where(items.c.deleted_at.is_not(None))
    connection.execute(
        captions.delete().where(
            sa.or_(captions.c.file_id.in_(gone_files), captions.c.item_id.in_(dead))
        )
    )
    connection.execute(captions.update().where(captions.c.image_id.in_(dead)).values(image_id=None))
    connection.execute(files.delete().where(files.c.missing_since.is_not(None)))
    connection.execute(files.update().where(files.c.item_id.in_(dead)).values(item_id=None))
    connection.execute(embeddings.delete().where(embeddings.c.item_id.in_(dead)))
    connection.execute(images.delete().where(images.c.item_id.in_(dead)))
    connection.execute(tags.delete().where(tags.c.item_id.in_(dead)))
    connection.execute(ocr.delete().where(ocr.c.item_id.in_(dead)))
    connection.execute(items.delete().where(items.c.deleted_at.is_not(None)))


def drop_old_vectors(library: Path, catalog: Catalog) -> list[Path]:
    """Delete vector files that the catalog names no more."""
    with catalog.reading() as connection:
        current = {
            vector_path(library, fingerprint, generation)
            for fingerprint, generation in connection.execute(
                sa.select(encoders.c.fingerprint, encoders.c.generation)
            )
        }
    return delete_others(library / FOLDER, current)


def check(library: Path, catalog: Catalog, progress: ProgressCallback | None = None) -> CheckReport:
    """Compare catalog, vectors and index; repair what is derived, name what is lost.

    Every vector is read and compared with its checksum. One that is gone or damaged is dropped
    from the catalog, so that the next `index` embeds its item again.
    """
    repaired: list[str] = []
    with contextlib.closing(sqlite.connect_reader(catalog.path)) as connection:
        problems = [f"catalog: {what}" for what in sqlite.quick_check(connection)]
    lost = 0
    known = catalog.encoders("active", "building", "retired")
    for encoder in known:
        lost += _check_vectors(library, catalog, encoder, repaired, progress)
    for encoder in catalog.encoders("active"):
        problems += _without_vectors(catalog, encoder)
    if wrong := words.compare(catalog, progress or silent):
        repaired.append(wrong)
    if known:
        stale = index_problems(library, catalog)
        if update_indices(library, catalog, force=bool(stale or lost)):
            repaired += stale or ["the index was rebuilt"]
        repaired += [
            f"{path.name}: deleted, of no use" for path in drop_old_vectors(library, catalog)
        ]
    if harmed := damaged_regions(library):
        _compact_regions(library, catalog)
        repaired.append(
            f"region cache: {harmed} records are damaged; `xsearch index` makes them again"
        )
    present = sa.and_(files.c.missing_since.is_(None), files.c.role != "sidecar")
    return CheckReport(
        files=_count(catalog, files, present),
        items=_live_items(catalog),
        vectors=_count(catalog, embeddings),
        lost=lost,
        repaired=tuple(repaired),
        problems=tuple(problems),
    )


def drop_damaged(library: Path, catalog: Catalog, encoder: EncoderRow) -> None:
    """Forget those vectors of an encoder that are not what was written: they are made anew."""
    _check_vectors(library, catalog, encoder, [], None)


def _check_vectors(
    library: Path,
    catalog: Catalog,
    encoder: EncoderRow,
    repaired: list[str],
    progress: ProgressCallback | None,
) -> int:
    path = _path(library, encoder)
    size = path.stat().st_size if path.exists() else 0
    width = encoder.dim * 2
    named = encoder.rows * width
    if size > named:
        # VectorWriter cuts on opening: these rows belong to no committed change.
        VectorWriter(path, encoder.rows, encoder.dim).close()
        repaired.append(
            f"{path.name}: {(size - named + width - 1) // width} rows of an unfinished run cut off"
        )
    whole = min(size // width, encoder.rows)
    bad = [
        item
        for row, item in _damaged(catalog, encoder, open_rows(path, whole, encoder.dim), progress)
        if row >= 0
    ]
    if bad:
        _forget_vectors(catalog, encoder, bad)
        again = "index" if encoder.state == "active" else "reindex"
        repaired.append(
            f"{path.name}: {len(bad)} vectors are damaged or missing; `xsearch {again}` embeds "
            "their items again"
        )
    if whole < encoder.rows:
        # The rows cut off will be used again: nothing derived may remember what they were.
        drop_stale(library, set())
        drop_stale_backgrounds(library, set())
        with catalog.transaction() as connection:
            connection.execute(
                encoders.update().where(encoders.c.id == encoder.id).values(rows=whole)
            )
        VectorWriter(path, whole, encoder.dim).close()
    return len(bad)


def _damaged(
    catalog: Catalog,
    encoder: EncoderRow,
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float16]],
    progress: ProgressCallback | None,
) -> Iterator[tuple[int, int]]:
    """Rows whose bytes are not those that were written, with their items."""
    for start in range(0, max(encoder.rows, 1), _ROWS):
        with catalog.reading() as connection:
            named = connection.execute(
                sa.select(embeddings.c.row, embeddings.c.item_id, embeddings.c.crc).where(
                    embeddings.c.encoder_id == encoder.id,
                    embeddings.c.row >= start,
                    embeddings.c.row < start + _ROWS,
                )
            ).all()
        marks = checksums(vectors[start : start + _ROWS])
        for row, item, crc in named:
            if row - start >= len(marks) or marks[row - start] != crc:
                yield row, item
        if progress:
            progress(Progress("check", min(start + _ROWS, encoder.rows), encoder.rows))
    beyond = sa.select(embeddings.c.row, embeddings.c.item_id).where(
        embeddings.c.encoder_id == encoder.id, embeddings.c.row >= encoder.rows
    )
    with catalog.reading() as connection:
        yield from [(row, item) for row, item in connection.execute(beyond)]


def _forget_vectors(catalog: Catalog, encoder: EncoderRow, ids: list[int]) -> None:
    """Forget some embeddings; the next run makes them again."""
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        with catalog.transaction() as connection:
            connection.execute(
                embeddings.delete().where(
                    embeddings.c.encoder_id == encoder.id, embeddings.c.item_id.in_(part)
                )
            )


def _without_vectors(catalog: Catalog, encoder: EncoderRow) -> list[str]:
    """Says how many live items have no vector."""
    with catalog.reading() as connection:
        count = connection.scalar(missing_items(encoder.id, sa.func.count()))
    if not count:
        return []
    return [
        f"{count} items have no vector of {encoder.name} and are not found: run `xsearch index`"
    ]


def _path(library: Path, encoder: EncoderRow) -> Path:
    return vector_path(library, encoder.fingerprint, encoder.generation)


def _bytes(library: Path) -> int:
    return bytes_of(library.rglob("*"))
