"""Linking rows of text files to the pictures that they name, whichever was indexed first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from xsearch.core.paths import from_stored, to_stored
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.documents import refresh_documents
from xsearch.indexer.tables import captions, files, items, roots

_CHUNK = 1_000


def link_captions(catalog: Catalog) -> int:
    """Link every row whose picture is in the library by now; returns how many.

    A row names its picture by a path, relative to the folder of its own file.
    """
    folders = [root for root in catalog.roots() if not root.name]
    single = {str(root.path / root.name): root.id for root in catalog.roots() if root.name}
    linked, last = 0, 0
    while True:
        with catalog.reading() as connection:
            rows = connection.execute(_unlinked(last)).all()
        if not rows:
            return linked
        last = rows[-1][0]
        found: dict[int, int] = {}
        with catalog.reading() as connection:
            for id_, reference, base in rows:
                # Joined as text: the reference may hold bytes that are no UTF-8.
                path = Path(os.path.normpath(Path(from_stored(base)) / from_stored(reference)))
                places = [(single[str(path)], ".")] if str(path) in single else []
                places += [
                    (root.id, path.parent.relative_to(root.path).as_posix())
                    for root in folders
                    if path.parent.is_relative_to(root.path)
                ]
                for root, folder in places:
                    item = connection.scalar(_item_at(root, folder, path.name))
                    if item is not None:
                        found[id_] = item
                        break
        if found:
            with catalog.transaction() as connection:
                for id_, item in found.items():
                    connection.execute(
                        captions.update().where(captions.c.id == id_).values(image_id=item)
                    )
                refresh_documents(connection, found.values())
        linked += len(found)


def _unlinked(last: int) -> sa.Select[Any]:
    picture = items.alias("picture")
    return (
        sa.select(captions.c.id, captions.c.image_ref, roots.c.path)
        .join(files, files.c.id == captions.c.file_id)
        .join(roots, roots.c.id == files.c.root_id)
        .outerjoin(picture, picture.c.id == captions.c.image_id)
        .where(
            captions.c.id > last,
            captions.c.image_ref.is_not(None),
            sa.or_(captions.c.image_id.is_(None), picture.c.deleted_at.is_not(None)),
        )
        .order_by(captions.c.id)
        .limit(_CHUNK)
    )


def _item_at(root: int, folder: str, name: str) -> sa.Select[Any]:
    return sa.select(files.c.item_id).where(
        files.c.root_id == root,
        files.c.folder == ("" if folder == "." else to_stored(folder)),
        files.c.name == to_stored(name),
        files.c.missing_since.is_(None),
        files.c.item_id.is_not(None),
    )
