"""What the words index holds of each item, kept true in the transaction that changes the item.

A text is found by its words; a picture by the names of its files and folders, its captions, its
tags, its camera and lens, its keywords and the text that can be read in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import sqlalchemy as sa

from xsearch.core.paths import from_stored
from xsearch.core.words import joined, split_humps
from xsearch.indexer.sqlite import drop_words, in_parts, stored_words, write_words
from xsearch.indexer.tables import captions, files, images, items, ocr, roots, tags

# How documents are made. Another number has the next `index` make them all anew.
VERSION = 1


def refresh_documents(connection: sa.Connection, touched: Iterable[int]) -> int:
    """Bring the documents of items up to date; returns how many were not.

    An item that is deleted has none. Documents that would stay the same are not written.
    """
    changes = stale_documents(connection, touched)
    drop_words(connection, [id_ for id_, text in changes.items() if text is None])
    write_words(connection, {id_: text for id_, text in changes.items() if text is not None})
    return len(changes)


def stale_documents(connection: sa.Connection, ids: Iterable[int]) -> dict[int, str | None]:
    """Of some items, those whose documents are out of date, with what these should be."""
    changes: dict[int, str | None] = {}
    for part in in_parts(sorted(set(ids))):
        wanted = _documents(connection, part)
        stored = stored_words(connection, part)
        changes |= {id_: None for id_ in stored if id_ not in wanted}
        changes |= {id_: text for id_, text in wanted.items() if stored.get(id_) != text}
    return changes


def _documents(connection: sa.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The documents of those items that are not deleted."""
    query = sa.select(items.c.id, items.c.text).where(
        items.c.id.in_(ids), items.c.deleted_at.is_(None)
    )
    found = {row.id: row.text for row in connection.execute(query)}
    pictures = _texts_of_pictures(connection, [id_ for id_, text in found.items() if text is None])
    return {id_: joined(pictures[id_] if text is None else (text,)) for id_, text in found.items()}


def _texts_of_pictures(connection: sa.Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    texts: dict[int, list[str]] = defaultdict(list)
    if not ids:
        return texts
    place = (
        sa.select(files.c.item_id, roots.c.path, files.c.folder, files.c.name)
        .join(roots, roots.c.id == files.c.root_id)
        .where(files.c.item_id.in_(ids), files.c.missing_since.is_(None), files.c.state == "ok")
        .order_by(files.c.id)
    )
    for id_, root, folder, name in connection.execute(place):
        parts = (PurePath(from_stored(root)).name, *folder.split("/"))
        for part in (name.rpartition(".")[0] or name, *reversed(parts)):
            texts[id_] += dict.fromkeys((part, split_humps(part)))
    caption = (
        sa.select(captions.c.image_id, items.c.text)
        .join(items, items.c.id == captions.c.item_id)
        .outerjoin(files, files.c.id == captions.c.file_id)
        .where(captions.c.image_id.in_(ids), files.c.missing_since.is_(None))
        .order_by(captions.c.id)
    )
    tag = sa.select(tags.c.item_id, tags.c.name).where(tags.c.item_id.in_(ids))
    for query in (caption, tag.order_by(tags.c.name)):
        for id_, text in connection.execute(query):
            texts[id_].append(text)
    said = (
        sa.select(images.c.item_id, images.c.keywords, images.c.camera, images.c.lens, ocr.c.text)
        .outerjoin(ocr, ocr.c.item_id == images.c.item_id)
        .where(images.c.item_id.in_(ids))
    )
    for id_, keywords, *others in connection.execute(said):
        texts[id_] += (*(keywords or ()), *filter(None, others))
    return texts
