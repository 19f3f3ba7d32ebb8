"""The words index as a whole: making it for a library that has none, comparing it, tidying it."""

from __future__ import annotations

import sqlalchemy as sa

from xsearch.core.reports import Progress, ProgressCallback
from xsearch.indexer import sqlite
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.documents import VERSION, refresh_documents, stale_documents
from xsearch.indexer.tables import items, library

_CHUNK = 2_000


def complete(catalog: Catalog, progress: ProgressCallback) -> None:
    """Make all documents where those that are there were made otherwise, or not all are there.

    In short transactions: interrupted, it goes on from what is there.

    Raises:
        StorageError: the disk refused a write; what was committed stays.
    """
    if _version(catalog) != VERSION:
        _refresh_all(catalog, progress)


def compare(catalog: Catalog, progress: ProgressCallback) -> str | None:
    """Compare every document with what it is made of, and the index with them; repair both.

    Returns what was wrong, or None.
    """
    known = _version(catalog) == VERSION
    with catalog.reading() as connection:
        sound = sqlite.words_are_sound(connection)
    if not sound:
        with catalog.transaction() as connection:
            sqlite.make_words_anew(connection)
            connection.execute(library.update().values(words_version=None))
    changed = _refresh_all(catalog, progress)
    if not sound:
        return "the words index was damaged, and was made anew"
    return f"the words index: {changed:,} documents were out of date" if known and changed else None


def _version(catalog: Catalog) -> int | None:
    with catalog.reading() as connection:
        return connection.scalar(sa.select(library.c.words_version))


def _refresh_all(catalog: Catalog, progress: ProgressCallback) -> int:
    with catalog.reading() as connection:
        total = int(connection.execute(sa.select(sa.func.count()).select_from(items)).scalar_one())
    changed = last = done = 0
    while True:
        with catalog.reading() as connection:
            query = sa.select(items.c.id).where(items.c.id > last).order_by(items.c.id)
            part = connection.scalars(query.limit(_CHUNK)).all()
            stale = stale_documents(connection, part)
        if not part:
            break
        if stale:
            with catalog.transaction() as connection:
                changed += refresh_documents(connection, stale)
        last, done = part[-1], done + len(part)
        progress(Progress("words", done, total))
    with catalog.reading() as connection:
        strays = sqlite.words_without_item(connection)
    if strays or _version(catalog) != VERSION:
        with catalog.transaction() as connection:
            sqlite.drop_words(connection, strays)
            connection.execute(library.update().values(words_version=VERSION))
    return changed + len(strays)
