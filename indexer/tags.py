"""Tags of pictures: words given by hand, or by a run that compared labels with their vectors.

A tag with a score came from a run, and the next run of the same label replaces it; one without
was given by hand, which no run touches. The writer's functions are for who holds its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from xsearch.core.errors import SourceError
from xsearch.core.paths import absolute, displayable
from xsearch.core.values import TagCount, Tagged
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.documents import refresh_documents
from xsearch.indexer.found import image_files
from xsearch.indexer.liveness import now
from xsearch.indexer.maintenance import at_or_below
from xsearch.indexer.reader import Snapshot
from xsearch.indexer.sqlite import in_parts
from xsearch.indexer.tables import files, items, tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64 = NDArray[np.int64]


def live_images(snapshot: Snapshot, encoder: int) -> tuple[Int64, Int64]:
    """Vector rows, ascending, and items of the pictures that are not deleted."""
    found = snapshot.all(
        "SELECT e.row, e.item_id FROM embeddings e JOIN items i ON i.id = e.item_id"
        " WHERE e.encoder_id = ? AND i.kind = 'image' AND i.deleted_at IS NULL ORDER BY e.row",
        (encoder,),
    )
    rows, ids = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return rows, ids


def first_files(snapshot: Snapshot, ids: Sequence[int]) -> dict[int, Path]:
    """The first file that the catalog knows of each picture."""
    return {id_: places[0].path for id_, places in image_files(snapshot, ids).items() if places}


def count_tags(snapshot: Snapshot) -> list[TagCount]:
    """All tags of pictures that are not deleted, by name."""
    rows = snapshot.all(
        "SELECT t.name, count(*), count(*) - count(t.score) FROM tags t"
        " JOIN items i ON i.id = t.item_id WHERE i.deleted_at IS NULL"
        " GROUP BY t.name ORDER BY t.name"
    )
    return [TagCount(*row) for row in rows]


def tagged(snapshot: Snapshot, name: str) -> list[Tagged]:
    """The pictures that have a tag: those tagged by hand, then the most probable ones."""
    rows = snapshot.all(
        "SELECT t.item_id, t.score FROM tags t JOIN items i ON i.id = t.item_id"
        " WHERE t.name = ? AND i.deleted_at IS NULL"
        " ORDER BY CASE WHEN t.score IS NULL THEN 0 ELSE 1 END, t.score DESC, t.item_id",
        (name,),
    )
    places = first_files(snapshot, [id_ for id_, _ in rows])
    return [Tagged(id_, places.get(id_), score) for id_, score in rows]


def replace_scores(
    catalog: Catalog, names: Sequence[str], found: Iterable[tuple[Int64, NDArray[np.float32], str]]
) -> None:
    """Replace what earlier runs said of some labels: items (n,), scores (n,) and the name.

    All or nothing: until it is done, and where it is interrupted, readers see the old tags.

    Raises:
        StorageError, LibraryReadOnlyError: the disk refused; nothing was changed.
    """
    with catalog.transaction() as connection:
        before: dict[str, Int64] = {}
        for name in names:
            scored = sa.and_(tags.c.name == name, tags.c.score.is_not(None))
            query = sa.select(tags.c.item_id).where(scored)
            before[name] = np.array(connection.scalars(query).all(), dtype=np.int64)
            connection.execute(tags.delete().where(scored))
        moment = now()
        for ids, scores, name in found:
            by_hand = connection.scalars(sa.select(tags.c.item_id).where(tags.c.name == name)).all()
            new = ~np.isin(ids, by_hand)
            rows = [
                {"item_id": id_, "name": name, "score": score, "added_at": moment}
                for id_, score in zip(ids[new].tolist(), scores[new].tolist(), strict=True)
            ]
            if rows:
                connection.execute(tags.insert(), rows)
            # Most pictures keep the tags that they had.
            before[name] = np.setxor1d(before[name], ids[new])
        refresh_documents(
            connection, {id_ for changed in before.values() for id_ in changed.tolist()}
        )


def add_tag(catalog: Catalog, name: str, paths: Sequence[Path]) -> int:
    """Tag by hand the pictures at or below some paths; returns how many.

    Raises:
        SourceError: the library has no picture at or below a path; nothing was changed.
    """
    ids = _images_at(catalog, paths)
    with catalog.transaction() as connection:
        for part in in_parts(ids):
            connection.execute(tags.delete().where(tags.c.name == name, tags.c.item_id.in_(part)))
            connection.execute(
                tags.insert(), [{"item_id": id_, "name": name, "added_at": now()} for id_ in part]
            )
        refresh_documents(connection, ids)
    return len(ids)


def remove_tag(catalog: Catalog, name: str, paths: Sequence[Path] | None = None) -> int:
    """Take a tag from the pictures at or below some paths, or from all; returns from how many.

    Raises:
        SourceError: the library has no picture at or below a path; nothing was changed.
    """
    chosen = None if paths is None else _images_at(catalog, paths)
    with catalog.transaction() as connection:
        having = set(connection.scalars(sa.select(tags.c.item_id).where(tags.c.name == name)))
        ids = sorted(having if chosen is None else having.intersection(chosen))
        for part in in_parts(ids):
            connection.execute(tags.delete().where(tags.c.name == name, tags.c.item_id.in_(part)))
        refresh_documents(connection, ids)
    return len(ids)


def _images_at(catalog: Catalog, paths: Sequence[Path]) -> list[int]:
    found: set[int] = set()
    for path in paths:
        target = absolute(path)
        here: set[int] = set()
        for root in catalog.roots():
            if (root.path / root.name).is_relative_to(target):
                where = files.c.root_id == root.id
            elif target.is_relative_to(root.path):
                where = at_or_below(root.id, target.relative_to(root.path))
            else:
                continue
            query = (
                sa.select(items.c.id)
                .join(files, files.c.item_id == items.c.id)
                .where(where, items.c.kind == "image", items.c.deleted_at.is_(None))
                .where(files.c.missing_since.is_(None))
            )
            with catalog.reading() as connection:
                here |= set(connection.scalars(query))
        if not here:
            raise SourceError(
                f"{displayable(target)}: the library has no picture there. Index it first, or see "
                "its roots with `xsearch status`."
            )
        found |= here
    return sorted(found)
