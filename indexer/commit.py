"""Writing a batch of outcomes: vectors first and flushed, then one transaction that names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from xsearch.core.hashing import hash_text
from xsearch.core.paths import from_stored, to_stored
from xsearch.core.reports import FailedFile
from xsearch.core.values import ImageMetadata
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.liveness import captioned, now, refresh_liveness
from xsearch.indexer.outcomes import Candidate, FileFailed, FileState, ImageRead, Outcome, TextsRead
from xsearch.indexer.reader import EncoderRow
from xsearch.indexer.sources import source_of
from xsearch.indexer.sqlite import in_parts
from xsearch.indexer.tables import captions, embeddings, encoders, files, images, items, roots
from xsearch.indexer.vectors import VectorWriter, checksums, to_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    EmbedTexts = Callable[[list[str]], NDArray[np.float32]]


@dataclass(slots=True)
class Counts:
    """What committed batches did, by file; texts by item."""

    added: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    texts: int = 0
    texts_removed: int = 0
    skipped: int = 0
    decoded: int = 0
    embedded: int = 0
    imported: int = 0
    ocr: int = 0
    failures: list[FailedFile] = field(default_factory=list)


class Committer:
    """Turns outcomes into committed rows; the caller holds the writer's lock."""

    def __init__(
        self, catalog: Catalog, encoder: EncoderRow, vectors: VectorWriter, embed: EmbedTexts
    ) -> None:
        self._catalog = catalog
        self._encoder = encoder
        self._vectors = vectors
        self._embed = embed
        self._mounted: dict[int, bool] = {}
        # Rows of files that were found elsewhere: they are not gone from where they were.
        self.moved_rows: set[int] = set()

    def commit(self, outcomes: list[Outcome], counts: Counts) -> None:
        """Write everything in `outcomes`, or nothing; `counts` grows once it is committed.

        Raises:
            StorageError: the disk refused a write; earlier commits stay.
        """
        if not outcomes:
            return
        texts = self._new_texts(outcomes)
        pictures = [found for found in outcomes if isinstance(found, ImageRead)]
        new = [found.vector for found in pictures if found.vector is not None]
        parts = ([np.stack(new)] if new else []) + ([self._embed(list(texts))] if texts else [])
        rows = to_rows(np.concatenate(parts)) if parts else None
        first = self._vectors.rows
        if rows is not None:
            self._vectors.append(rows)
        marks = [] if rows is None else checksums(rows)
        done = Counts()
        with self._catalog.transaction() as connection:
            batch = _Batch(connection, self._encoder.id, first, marks, self._is_gone)
            batch.write(outcomes, texts, done)
            if rows is not None:
                connection.execute(
                    encoders.update()
                    .where(encoders.c.id == self._encoder.id)
                    .values(rows=self._vectors.rows)
                )
        done.imported = sum(found.imported for found in pictures)
        done.embedded = len(marks) - done.imported
        self.moved_rows |= batch.moved_rows
        _add(counts, done)

    def _new_texts(self, outcomes: list[Outcome]) -> dict[str, bytes]:
        """Texts of the outcomes that have no vector yet, each with its hash."""
        wanted: dict[bytes, str] = {}
        for outcome in outcomes:
            for text in _texts(outcome):
                wanted.setdefault(hash_text(text), text)
        with self._catalog.reading() as connection:
            for part in in_parts(list(wanted)):
                known = connection.scalars(
                    sa.select(items.c.content_hash)
                    .join(embeddings, embeddings.c.item_id == items.c.id)
                    .where(
                        items.c.kind == "text",
                        items.c.content_hash.in_(part),
                        embeddings.c.encoder_id == self._encoder.id,
                    )
                )
                for digest in known.all():
                    del wanted[digest]
        return {text: digest for digest, text in wanted.items()}

    def _is_gone(self, root: int, base: str, path: str, beside: str) -> bool:
        """Whether a file of the catalog has really left its place, so that its row can move.

        Never true while its root cannot be reached. On file systems that ignore case, a name
        that differs from `beside` only by case is looked up as its folder spells it.
        """
        if root not in self._mounted:
            try:
                with os.scandir(base) as entries:
                    self._mounted[root] = next(entries, None) is not None
            except OSError:
                self._mounted[root] = False
        if not self._mounted[root]:
            return False
        if not os.path.lexists(path):
            return True
        if path.casefold() != beside.casefold():
            return False
        place = Path(path)
        return all(entry.name != place.name for entry in place.parent.iterdir())


class _Batch:
    """One transaction's work."""

    def __init__(
        self,
        connection: sa.Connection,
        encoder: int,
        first_row: int,
        marks: list[int],
        is_gone: Callable[[int, str, str, str], bool],
    ) -> None:
        self._connection = connection
        self._encoder = encoder
        self._next = first_row
        self._first = first_row
        self._marks = marks
        self._is_gone = is_gone
        self._touched: set[int] = set()
        self._text_ids: dict[str, int] = {}
        self.moved_rows: set[int] = set()

    def write(self, outcomes: list[Outcome], texts: dict[str, bytes], done: Counts) -> None:
        """Items of pictures take the first vector rows, in order; texts those after them."""
        ids: dict[int, int] = {}
        for at, outcome in enumerate(outcomes):
            if isinstance(outcome, ImageRead):
                ids[at] = self._image_item(outcome)
        self._new_text_items(texts)
        for at, outcome in enumerate(outcomes):
            if isinstance(outcome, ImageRead):
                done.decoded += outcome.metadata is not None
                self._place_image(outcome, ids[at], done)
            elif isinstance(outcome, FileFailed):
                done.decoded += outcome.decoded
                self._place_failure(outcome, done)
            elif outcome.candidate.role == "sidecar":
                self._place_sidecar(outcome)
            else:
                self._place_texts(outcome, done)
        liveness = refresh_liveness(self._connection, self._touched)
        done.texts += liveness.texts_revived
        done.texts_removed += liveness.texts_deleted

    # Items

    def _item(self, kind: str, digest: bytes) -> int | None:
        query = sa.select(items.c.id).where(items.c.kind == kind, items.c.content_hash == digest)
        return self._connection.scalar(query)

    def _embedding(self, item: int) -> None:
        values = {
            "encoder_id": self._encoder,
            "item_id": item,
            "row": self._next,
            "crc": self._marks[self._next - self._first],
        }
        self._connection.execute(embeddings.insert().values(values))
        self._next += 1

    def _insert(self, statement: sa.Insert) -> int:
        key = self._connection.execute(statement).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _image_item(self, read: ImageRead) -> int:
        digest = read.state.digest
        id_ = self._item("image", digest)
        if id_ is None:
            values = {"kind": "image", "content_hash": digest, "created_at": now()}
            id_ = self._insert(items.insert().values(values))
        if read.vector is not None:
            self._embedding(id_)
        if read.metadata is not None:
            self._describe(id_, read.metadata, read.perceptual_hash)
        return id_

    def _describe(self, item: int, found: ImageMetadata, perceptual_hash: int | None) -> None:
        self._connection.execute(images.delete().where(images.c.item_id == item))
        values = {
            "item_id": item,
            "width": found.width,
            "height": found.height,
            "format": found.format,
            "orientation": found.orientation,
            "taken_at": found.taken_at.replace(tzinfo=None) if found.taken_at else None,
            "taken_offset": _offset_minutes(found.taken_at),
            "camera": found.camera,
            "lens": found.lens,
            "latitude": found.latitude,
            "longitude": found.longitude,
            "perceptual_hash": perceptual_hash,
            "keywords": list(found.keywords) or None,
        }
        self._connection.execute(images.insert().values(values))

    def _new_text_items(self, texts: dict[str, bytes]) -> None:
        for text, digest in texts.items():
            id_ = self._item("text", digest)
            if id_ is None:
                # Alive once a caption holds it; a sidecar whose picture failed holds none.
                values = {
                    "kind": "text",
                    "content_hash": digest,
                    "text": text,
                    "created_at": now(),
                    "deleted_at": now(),
                }
                id_ = self._insert(items.insert().values(values))
                self._touched.add(id_)
            self._embedding(id_)
            self._text_ids[text] = id_

    def _text_item(self, text: str) -> int:
        if text not in self._text_ids:
            id_ = self._item("text", hash_text(text))
            assert id_ is not None
            self._text_ids[text] = id_
        return self._text_ids[text]

    # Files

    def _place_image(self, read: ImageRead, item: int, done: Counts) -> None:
        candidate = read.candidate
        self._touched.add(item)
        if read.metadata is not None:
            self._caption_item(item, read.metadata)
        returns = candidate.file_id is None or candidate.was_gone
        sibling = self._gone_sibling(item, candidate) if returns else None
        if sibling is not None:
            done.moved += 1
            self.moved_rows.add(sibling)
            if candidate.file_id is None:
                self._update_file(sibling, candidate, read.state, item)
            else:
                self._connection.execute(files.delete().where(files.c.id == sibling))
                self._update_file(candidate.file_id, candidate, read.state, item)
            return
        self._upsert_file(candidate, read.state, item)
        if returns:
            done.added += 1
        elif candidate.was_ok and candidate.old_item == item:
            done.unchanged += 1
        else:
            done.updated += 1

    def _caption_item(self, item: int, found: ImageMetadata) -> None:
        """Replace the texts that stand inside the picture's own file."""
        self._drop_captions(sa.and_(captions.c.image_id == item, captions.c.file_id.is_(None)))
        for position, caption in enumerate(found.captions):
            self._add_caption(
                self._text_item(caption.text), item, None, caption.source, position, None
            )

    def _gone_sibling(self, item: int, candidate: Candidate) -> int | None:
        """Another file of the same content that has left its place: this one is that, moved."""
        query = (
            sa.select(files.c.id, roots.c.id, roots.c.path, files.c.folder, files.c.name)
            .join(roots, roots.c.id == files.c.root_id)
            .where(files.c.item_id == item, files.c.missing_since.is_(None))
            .order_by(files.c.id)
        )
        for id_, root, base, folder, name in self._connection.execute(query).all():
            if id_ == candidate.file_id:
                continue
            base = from_stored(base)
            path = os.path.join(base, from_stored(folder), from_stored(name))  # noqa: PTH118
            if self._is_gone(root, base, path, candidate.path):
                return int(id_)
        return None

    def _place_failure(self, failed: FileFailed, done: Counts) -> None:
        candidate = failed.candidate
        state = failed.state or FileState(b"", candidate.size, candidate.mtime_ns, False)
        file_id = self._upsert_file(candidate, state, None)
        self._connection.execute(
            files.update()
            .where(files.c.id == file_id)
            .values(state="failed", error_code=failed.code, error=failed.reason)
        )
        if candidate.role != "image":
            self._drop_captions(captions.c.file_id == file_id)
        done.failures.append(FailedFile(Path(candidate.path), failed.reason))

    def _upsert_file(self, candidate: Candidate, state: FileState, item: int | None) -> int:
        if candidate.old_item is not None:
            self._touched.add(candidate.old_item)
        if candidate.role == "image" and candidate.old_item != item:
            self._reread_sidecars(candidate)
        if candidate.file_id is not None:
            self._update_file(candidate.file_id, candidate, state, item)
            return candidate.file_id
        # A failed or partly read text file may have left a row in this very run.
        known: int | None = self._connection.scalar(
            sa.select(files.c.id).where(
                files.c.root_id == candidate.root,
                files.c.folder == to_stored(candidate.folder),
                files.c.name == to_stored(candidate.name),
            )
        )
        if known is not None:
            self._update_file(known, candidate, state, item)
            return known
        return self._insert(files.insert().values(_file_values(candidate, state, item)))

    def _reread_sidecars(self, candidate: Candidate) -> None:
        """Texts beside a picture belong to what it shows now: read them, in this run or the next.

        In this run they follow the picture; should it end before them, this mark remains.
        """
        stems = (candidate.name, candidate.name.rpartition(".")[0])
        names = [to_stored(stem + suffix) for stem in stems for suffix in (".txt", ".TXT")]
        self._connection.execute(
            files.update()
            .where(
                files.c.root_id == candidate.root,
                files.c.folder == to_stored(candidate.folder),
                files.c.name.in_(names),
                files.c.role == "sidecar",
            )
            .values(racy=True)
        )

    def _update_file(
        self, file_id: int, candidate: Candidate, state: FileState, item: int | None
    ) -> None:
        self._connection.execute(
            files.update().where(files.c.id == file_id).values(_file_values(candidate, state, item))
        )

    # Texts

    def _place_sidecar(self, read: TextsRead) -> None:
        candidate = read.candidate
        assert read.state is not None
        file_id = self._upsert_file(candidate, read.state, None)
        owners = self._connection.scalars(
            sa.select(files.c.item_id)
            .where(
                files.c.root_id == candidate.root,
                files.c.folder == to_stored(candidate.folder),
                files.c.name.in_([to_stored(name) for name in candidate.images]),
                files.c.item_id.is_not(None),
            )
            .order_by(files.c.name)
        ).all()
        self._touched |= set(owners)
        before = self._captions_of(file_id)
        wanted = [(self._text_item(row.text), owner) for owner in owners for row in read.rows]
        if before == wanted:
            return
        self._drop_captions(captions.c.file_id == file_id)
        for position, (item, owner) in enumerate(wanted):
            self._add_caption(item, owner, file_id, "sidecar", position, None)

    def _captions_of(self, file_id: int) -> list[tuple[int, int | None]]:
        query = (
            sa.select(captions.c.item_id, captions.c.image_id)
            .where(captions.c.file_id == file_id)
            .order_by(captions.c.position)
        )
        return [(item, image) for item, image in self._connection.execute(query)]

    def _place_texts(self, read: TextsRead, done: Counts) -> None:
        """One piece of a text file; only its last makes the file count as read."""
        candidate = read.candidate
        unfinished = FileState(b"", candidate.size, -1, True)
        file_id = self._upsert_file(candidate, read.state or unfinished, None)
        source = source_of(candidate.name)
        span = captions.c.position >= read.start
        if read.state is None:
            span &= captions.c.position <= read.rows[-1].position
        self._drop_captions(sa.and_(captions.c.file_id == file_id, span))
        for row in read.rows:
            item = self._text_item(row.text)
            self._add_caption(item, None, file_id, source, row.position, row.image)
        if read.state is None:
            return
        if candidate.file_id is None or candidate.was_gone:
            done.added += 1
        elif candidate.was_ok and candidate.old_hash == read.state.digest.hex():
            done.unchanged += 1
        else:
            done.updated += 1

    def _add_caption(
        self,
        item: int,
        image: int | None,
        file_id: int | None,
        source: str,
        position: int,
        image_ref: str | None,
    ) -> None:
        values = {
            "item_id": item,
            "image_id": image,
            "file_id": file_id,
            "source": source,
            "position": position,
            "image_ref": to_stored(image_ref) if image_ref else None,
        }
        self._connection.execute(captions.insert().values(values))
        self._touched.add(item)

    def _drop_captions(self, where: sa.ColumnElement[bool]) -> None:
        self._touched |= captioned(self._connection, where)
        self._connection.execute(captions.delete().where(where))


def _file_values(candidate: Candidate, state: FileState, item: int | None) -> dict[str, Any]:
    return {
        "root_id": candidate.root,
        "folder": to_stored(candidate.folder),
        "name": to_stored(candidate.name),
        "role": candidate.role,
        "size": state.size,
        "mtime_ns": state.mtime_ns,
        "racy": state.racy,
        "content_hash": state.digest or None,
        "item_id": item,
        "state": "ok",
        "error_code": None,
        "error": None,
        "missing_since": None,
    }


def _offset_minutes(taken_at: datetime | None) -> int | None:
    offset = taken_at.utcoffset() if taken_at else None
    return None if offset is None else round(offset.total_seconds() / 60)


def _texts(outcome: Outcome) -> Iterable[str]:
    if isinstance(outcome, TextsRead):
        return (row.text for row in outcome.rows)
    if isinstance(outcome, ImageRead) and outcome.metadata is not None:
        return (caption.text for caption in outcome.metadata.captions)
    return ()


def _add(counts: Counts, done: Counts) -> None:
    for name in Counts.__dataclass_fields__:
        if name == "failures":
            counts.failures.extend(done.failures)
        else:
            setattr(counts, name, getattr(counts, name) + getattr(done, name))
