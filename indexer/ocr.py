"""Reading the text in pictures, each picture once, where that is asked for: `index --ocr`.

The engine is RapidOCR with the models that its package holds (PP-OCR: Chinese, English and more),
so that nothing is downloaded.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import sqlalchemy as sa

from xsearch.core.extras import require
from xsearch.core.ordered import map_in_order
from xsearch.core.paths import displayable
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.content import read_picture
from xsearch.indexer.disk import Reachable
from xsearch.indexer.documents import refresh_documents
from xsearch.indexer.found import FoundFile, found_file
from xsearch.indexer.tables import files, items, ocr, roots

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.indexer.run import IndexOptions

# The engine looks at pictures of at most 2,000 pixels; more are of no use to it.
_SIDE = 1_500
_CHUNK = 256


class TextReader(Protocol):
    """Reads text in pictures; `name` is what is recorded of it."""

    name: str

    def read(self, image: Image.Image) -> str:
        """The text in an upright RGB picture, a line for each line; empty where there is none."""


def load_reader() -> TextReader:
    """The engine of the extra `ocr`.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _Rapid()


class _Rapid:
    def __init__(self) -> None:
        engine = require("rapidocr.main", "ocr", "reading text in pictures")
        self.name = f"rapidocr {version('rapidocr')}"
        self._engine = engine.RapidOCR(params={"Global.log_level": "error"})

    def read(self, image: Image.Image) -> str:
        # It takes arrays for what OpenCV reads: blue first.
        found = self._engine(np.asarray(image)[:, :, ::-1])
        return "\n".join(found.txts or ())


@dataclass(frozen=True, slots=True)
class _Unread:
    """A picture that was not looked at: its content, and its files, each under its root."""

    id: int
    content_hash: bytes
    files: tuple[FoundFile, ...]


def read_texts(
    catalog: Catalog, reader: TextReader, options: IndexOptions, progress: ProgressCallback
) -> tuple[int, int]:
    """Read the text of every live picture that was not looked at; the caller holds the lock.

    Pictures are decoded in threads, ahead of the engine. What cannot be read now is left for the
    next run.

    Returns:
        How many pictures were looked at, and how many could not be.

    Raises:
        StorageError: the disk refused a write; what was committed stays.
    """
    with catalog.reading() as connection:
        total = int(connection.execute(_unread(sa.func.count())).scalar_one())
    done = failed = 0
    found: list[tuple[int, str]] = []
    last_commit = time.monotonic()
    reachable = Reachable()
    decoded = map_in_order(
        lambda picture: read_picture(
            picture.files,
            picture.content_hash,
            reachable,
            min_side=_SIDE,
            max_pixels=options.max_pixels,
        ),
        _pictures(catalog),
        workers=options.threads,
        window=options.threads + 1,
    )
    try:
        for picture, image in decoded:
            if image is None:
                failed += 1
            else:
                text = reader.read(image)
                found.append((picture.id, text))
                done += 1
            shown = displayable(picture.files[0].path) if picture.files else None
            progress(Progress("ocr", done + failed, total, shown))
            if time.monotonic() - last_commit >= options.commit_seconds:
                _commit(catalog, found, reader.name)
                last_commit = time.monotonic()
    except KeyboardInterrupt:
        _commit(catalog, found, reader.name)
        raise
    _commit(catalog, found, reader.name)
    return done, failed


def _unread(*what: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(*what)
        .select_from(items.outerjoin(ocr, ocr.c.item_id == items.c.id))
        .where(items.c.kind == "image", items.c.deleted_at.is_(None), ocr.c.item_id.is_(None))
    )


def _pictures(catalog: Catalog) -> Iterator[_Unread]:
    last = 0
    while True:
        with catalog.reading() as connection:
            query = _unread(items.c.id, items.c.content_hash).where(items.c.id > last)
            part = connection.execute(query.order_by(items.c.id).limit(_CHUNK)).all()
            place = (
                sa.select(files.c.item_id, roots.c.path, files.c.folder, files.c.name)
                .join(roots, roots.c.id == files.c.root_id)
                .where(files.c.item_id.in_([id_ for id_, _ in part]))
                .where(files.c.missing_since.is_(None), files.c.state == "ok")
                .order_by(files.c.id)
            )
            places = [(id_, found_file(*stored)) for id_, *stored in connection.execute(place)]
        if not part:
            return
        last = part[-1][0]
        held: dict[int, list[FoundFile]] = defaultdict(list)
        for id_, file in places:
            held[id_].append(file)
        for id_, digest in part:
            yield _Unread(id_, digest, tuple(held[id_]))


def _commit(catalog: Catalog, found: list[tuple[int, str]], engine: str) -> None:
    rows = found.copy()
    found.clear()
    if rows:
        with catalog.transaction() as connection:
            values = [{"item_id": id_, "text": text, "engine": engine} for id_, text in rows]
            connection.execute(ocr.insert(), values)
            refresh_documents(connection, [id_ for id_, _ in rows])
