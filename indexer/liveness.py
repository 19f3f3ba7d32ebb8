"""Which items live: those that some file still holds; and which of them have no vector yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from xsearch.indexer.documents import refresh_documents
from xsearch.indexer.sqlite import in_parts
from xsearch.indexer.tables import captions, embeddings, files, items


def now() -> datetime:
    """The time now, as the catalog stores it: UTC, naive."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Liveness:
    """How many text items a change brought back or took away."""

    texts_revived: int
    texts_deleted: int


def refresh_liveness(connection: sa.Connection, touched: set[int]) -> Liveness:
    """Mark items that no file holds any more as deleted, and those that one holds again as not.

    A picture lives while one of its files does; its own texts live while it does; a line or a
    row of a text file lives while that file does. Their documents in the words index follow, and
    so `touched` names every picture, too, whose files or captions have changed.
    """
    if not touched:
        return Liveness(0, 0)
    texts = set(touched)
    for part in in_parts(sorted(touched)):
        texts |= set(
            connection.scalars(sa.select(captions.c.item_id).where(captions.c.image_id.in_(part)))
        )
    picture = sa.exists().where(
        files.c.item_id == items.c.id, files.c.missing_since.is_(None), files.c.state == "ok"
    )
    owner = items.alias("owner")
    place = (
        sa.select(sa.literal(1))
        .select_from(
            captions.outerjoin(files, files.c.id == captions.c.file_id).outerjoin(
                owner, owner.c.id == captions.c.image_id
            )
        )
        .where(
            captions.c.item_id == items.c.id,
            files.c.missing_since.is_(None),
            sa.or_(
                captions.c.source.in_(("line", "row")),
                sa.and_(owner.c.id.is_not(None), owner.c.deleted_at.is_(None)),
            ),
        )
    )
    _set_deleted(connection, sorted(touched), "image", picture)
    changes = _set_deleted(connection, sorted(texts), "text", sa.exists(place))
    refresh_documents(connection, texts)
    return changes


def captioned(connection: sa.Connection, where: sa.ColumnElement[bool]) -> set[int]:
    """The items of some captions: their texts, and the pictures that these belong to."""
    found = connection.execute(sa.select(captions.c.item_id, captions.c.image_id).where(where))
    return {id_ for row in found for id_ in row if id_ is not None}


def _set_deleted(
    connection: sa.Connection, ids: list[int], kind: str, alive: sa.Exists
) -> Liveness:
    revived = deleted = 0
    for part in in_parts(ids):
        chosen = items.update().where(items.c.id.in_(part), items.c.kind == kind)
        revived += connection.execute(
            chosen.where(items.c.deleted_at.is_not(None), alive).values(deleted_at=None)
        ).rowcount
        deleted += connection.execute(
            chosen.where(items.c.deleted_at.is_(None), ~alive).values(deleted_at=now())
        ).rowcount
    return Liveness(revived, deleted)


def missing_items(encoder: int, *what: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Selects of the live items that have no vector of an encoder."""
    made = sa.and_(embeddings.c.item_id == items.c.id, embeddings.c.encoder_id == encoder)
    return (
        sa.select(*what)
        .select_from(items.outerjoin(embeddings, made))
        .where(items.c.deleted_at.is_(None), embeddings.c.item_id.is_(None))
    )
