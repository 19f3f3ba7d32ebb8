"""Writing the catalog: one writer, short transactions, each leaving a complete library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from xsearch.core.encoder import EncoderInfo
from xsearch.core.paths import from_stored, to_stored
from xsearch.indexer import schema, sqlite
from xsearch.indexer.disk import refused
from xsearch.indexer.documents import VERSION, refresh_documents
from xsearch.indexer.indices.choice import Wishes, stored_wishes
from xsearch.indexer.liveness import captioned, now, refresh_liveness
from xsearch.indexer.reader import CATALOG, EncoderRow, check_fingerprint
from xsearch.indexer.tables import (
    captions,
    encoders,
    files,
    library,
    roots,
    runs,
)
from xsearch.indexer.vectors import sync_folder, unused_generation

_CHUNK = 500
_ENCODERS = sa.select(
    encoders.c.id,
    encoders.c.name,
    encoders.c.source,
    encoders.c.fingerprint,
    encoders.c.dim,
    encoders.c.runtime,
    encoders.c.precision,
    encoders.c.generation,
    encoders.c.rows,
    encoders.c.state,
)


@dataclass(frozen=True, slots=True)
class RootRow:
    """A root: a folder (`name` is '') or one file in a folder."""

    id: int
    path: Path
    name: str
    exclude_dirs: tuple[str, ...]
    include_hidden: bool


@dataclass(frozen=True, slots=True)
class FileRow:
    """What the catalog knows of a file; compared with what its folder lists."""

    id: int
    name: str
    role: str
    size: int
    mtime_ns: int
    racy: bool
    content_hash: bytes | None
    item_id: int | None
    state: str
    error_code: str | None
    error: str | None
    gone: bool


class Catalog:
    """The catalog of one library, opened for writing; the caller holds the writer's lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CATALOG
        # The lock may have been waited for since the library was opened.
        schema.migrate(self.path)
        self._engine = sqlite.create_engine(self.path)
        try:
            self._connection = self._engine.connect()
        except sa.exc.DBAPIError as error:
            raise sqlite.explain(error, self.path) from error

    def close(self) -> None:
        """Close the connection; SQLite then folds its log into the catalog."""
        self._connection.close()
        self._engine.dispose()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All or nothing; readers are told by a new revision.

        Raises:
            StorageError, LibraryReadOnlyError: the disk refused; nothing was changed.
        """
        try:
            with self._connection.begin():
                yield self._connection
                self._connection.execute(library.update().values(revision=library.c.revision + 1))
        except sa.exc.DBAPIError as error:
            raise sqlite.explain(error, self.path) from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Several reads without leaving a transaction open behind them."""
        try:
            with self._connection.begin():
                yield self._connection
        except sa.exc.DBAPIError as error:
            raise sqlite.explain(error, self.path) from error

    # Encoders

    def use_encoder(self, info: EncoderInfo) -> EncoderRow:
        """The library's encoder; the first one used becomes it.

        Raises:
            EncoderMismatchError: the library's is another.
        """
        current = self.encoder()
        if current is None:
            current = self.add_encoder(info)
            self.activate(current, switch=True)
        check_fingerprint(current, info, self.path.parent)
        return current

    def encoder(self, fingerprint: str | None = None) -> EncoderRow | None:
        """The encoder of a fingerprint, or the library's own, as last committed."""
        query = _ENCODERS
        if fingerprint is None:
            query = query.join(library, library.c.encoder_id == encoders.c.id)
        else:
            query = query.where(encoders.c.fingerprint == fingerprint)
        found = self._encoders(query)
        return found[0] if found else None

    def encoders(self, *states: str) -> list[EncoderRow]:
        """The encoders in these states, in the order in which they came."""
        return self._encoders(_ENCODERS.where(encoders.c.state.in_(states)))

    def _encoders(self, query: sa.Select[Any]) -> list[EncoderRow]:
        with self.reading() as connection:
            rows = connection.execute(query.order_by(encoders.c.id)).all()
        return [EncoderRow(row[0], row[1], from_stored(row[2]), *row[3:]) for row in rows]

    def add_encoder(self, info: EncoderInfo) -> EncoderRow:
        """Begin with an encoder, or go on with one whose vectors are incomplete or out of date.

        It is not searched with until it is activated; an active one stays so. Where it is loaded
        from is recorded anew.
        """
        values = {
            "name": info.name,
            "source": to_stored(info.source),
            "runtime": info.runtime,
            "precision": info.precision,
        }
        row = self.encoder(info.fingerprint)
        with self.transaction() as connection:
            if row is None:
                new = {
                    "fingerprint": info.fingerprint,
                    "dim": info.dim,
                    "generation": unused_generation(self.path.parent, info.fingerprint),
                    "rows": 0,
                    "created_at": now(),
                    "state": "building",
                }
                connection.execute(encoders.insert().values(values | new))
            else:
                state = "active" if row.state == "active" else "building"
                changed = encoders.update().where(encoders.c.id == row.id)
                connection.execute(changed.values(values | {"state": state}))
        row = self.encoder(info.fingerprint)
        assert row is not None
        return row

    def activate(self, row: EncoderRow, *, switch: bool, keep: bool = True) -> None:
        """Search with an encoder from now on; `switch` makes it the library's own.

        Without `keep`, the one that was the library's own until then is retired.
        """
        with self.transaction() as connection:
            chosen = encoders.update().where(encoders.c.id == row.id)
            connection.execute(chosen.values(state="active"))
            if switch:
                own = sa.select(library.c.encoder_id).scalar_subquery()
                if not keep:
                    old = encoders.update().where(encoders.c.id == own, encoders.c.id != row.id)
                    connection.execute(old.values(state="retired"))
                connection.execute(library.update().values(encoder_id=row.id))

    def retire(self, row: EncoderRow) -> None:
        """Stop searching with an encoder, which is not the library's own; compaction drops it."""
        with self.transaction() as connection:
            chosen = encoders.update().where(encoders.c.id == row.id)
            connection.execute(chosen.values(state="retired"))

    # Indices

    def wishes(self) -> Wishes:
        """What was asked of the library's indices."""
        with self.reading() as connection:
            row = connection.execute(
                sa.select(library.c.index_kind, library.c.memory_budget, library.c.recall)
            ).one()
        return stored_wishes(*row)

    def wish(self, wishes: Wishes) -> None:
        """Remember what is asked of the library's indices."""
        with self.transaction() as connection:
            connection.execute(
                library.update().values(
                    index_kind=wishes.structure, memory_budget=wishes.memory, recall=wishes.recall
                )
            )

    # Runs

    def start_run(self, command: str, version: str) -> int:
        """Record that a run began; an earlier one that never ended was interrupted."""
        with self.transaction() as connection:
            connection.execute(
                runs.update().where(runs.c.state == "running").values(state="interrupted")
            )
            values = {
                "command": command,
                "version": version,
                "started_at": now(),
                "state": "running",
            }
            return _inserted(connection, runs.insert().values(values))

    def finish_run(self, run: int, state: str, report: dict[str, Any]) -> None:
        """Record how a run ended: `done`, `interrupted` or `failed`."""
        with self.transaction() as connection:
            connection.execute(
                runs.update()
                .where(runs.c.id == run)
                .values(state=state, finished_at=now(), report=report)
            )

    # Roots

    def roots(self) -> list[RootRow]:
        """All roots, those nearer to the file system's top first."""
        query = sa.select(
            roots.c.id, roots.c.path, roots.c.name, roots.c.exclude_dirs, roots.c.include_hidden
        )
        with self.reading() as connection:
            found = [
                RootRow(id_, Path(from_stored(path)), from_stored(name), tuple(dirs), hidden)
                for id_, path, name, dirs, hidden in connection.execute(query)
            ]
        return sorted(found, key=lambda root: (len(root.path.parts), str(root.path), root.name))

    def add_root(
        self,
        path: Path,
        name: str,
        exclude_dirs: Sequence[str],
        include_hidden: bool,
        absorbed: Iterable[RootRow] = (),
    ) -> RootRow:
        """Add a root; the files of `absorbed` roots, which lie inside it, become its own."""
        with self.transaction() as connection:
            values = {
                "path": to_stored(str(path)),
                "name": to_stored(name),
                "exclude_dirs": list(exclude_dirs),
                "include_hidden": include_hidden,
                "added_at": now(),
            }
            id_ = _inserted(connection, roots.insert().values(values))
            for inner in absorbed:
                # What is gone may stand where another inner root has files.
                gone = sa.and_(files.c.root_id == inner.id, files.c.missing_since.is_not(None))
                held = captions.c.file_id.in_(sa.select(files.c.id).where(gone))
                connection.execute(captions.delete().where(held))
                connection.execute(files.delete().where(gone))
                prefix = to_stored(inner.path.relative_to(path).as_posix())
                prefix = "" if prefix == "." else prefix
                joined = (
                    files.c.folder
                    if not prefix
                    else sa.case(
                        (files.c.folder == "", prefix),
                        else_=sa.literal(prefix + "/") + files.c.folder,
                    )
                )
                connection.execute(
                    files.update()
                    .where(files.c.root_id == inner.id)
                    .values(root_id=id_, folder=joined)
                )
                connection.execute(roots.delete().where(roots.c.id == inner.id))
            _refresh_names(connection, id_)
        return RootRow(id_, path, name, tuple(exclude_dirs), include_hidden)

    def relocate_root(self, root: RootRow, path: Path) -> None:
        """A root that now lies elsewhere: one row changes, unless its folder's name did."""
        with self.transaction() as connection:
            connection.execute(
                roots.update().where(roots.c.id == root.id).values(path=to_stored(str(path)))
            )
            if path.name != root.path.name:
                _refresh_names(connection, root.id)

    def set_rules(self, root: RootRow, exclude_dirs: Sequence[str], include_hidden: bool) -> None:
        """Remember what scans of a root leave out."""
        with self.transaction() as connection:
            connection.execute(
                roots.update()
                .where(roots.c.id == root.id)
                .values(exclude_dirs=list(exclude_dirs), include_hidden=include_hidden)
            )

    def mark_scanned(self, ids: Iterable[int]) -> None:
        """Remember when roots were last scanned to the end."""
        with self.transaction() as connection:
            connection.execute(
                roots.update().where(roots.c.id.in_(list(ids))).values(scanned_at=now())
            )

    # Files

    def folder_files(self, root: int, folder: str) -> dict[str, FileRow]:
        """The files that the catalog knows in one folder, by name."""
        query = sa.select(
            files.c.id,
            files.c.name,
            files.c.role,
            files.c.size,
            files.c.mtime_ns,
            files.c.racy,
            files.c.content_hash,
            files.c.item_id,
            files.c.state,
            files.c.error_code,
            files.c.error,
            files.c.missing_since.is_not(None),
        ).where(files.c.root_id == root, files.c.folder == to_stored(folder))
        with self.reading() as connection:
            found = {}
            for id_, stored, *rest in connection.execute(query).all():
                name = from_stored(stored)
                found[name] = FileRow(id_, name, *rest)
            return found

    def folders(self, root: int, start: str) -> list[str]:
        """The folders with files that are not gone, at or below `start`."""
        query = sa.select(files.c.folder).where(
            files.c.root_id == root, files.c.missing_since.is_(None)
        )
        if start:
            stored = to_stored(start)
            query = query.where(
                sa.or_(
                    files.c.folder == stored,
                    files.c.folder.startswith(stored + "/", autoescape=True),
                )
            )
        with self.reading() as connection:
            return [from_stored(folder) for (folder,) in connection.execute(query.distinct())]

    def known_files(self, root: int) -> list[tuple[str, int, int]]:
        """A root's files: path from the root, size in bytes, mtime in nanoseconds."""
        query = sa.select(files.c.folder, files.c.name, files.c.size, files.c.mtime_ns).where(
            files.c.root_id == root, files.c.missing_since.is_(None)
        )
        with self.reading() as connection:
            return [
                (from_stored(f"{folder}/{name}" if folder else name), size, mtime)
                for folder, name, size, mtime in connection.execute(query)
            ]

    def mark_gone(self, ids: Sequence[int]) -> tuple[int, int]:
        """Mark files as gone; returns how many pictures and text files, and how many texts."""
        gone = texts = 0
        for start in range(0, len(ids), _CHUNK):
            part = ids[start : start + _CHUNK]
            with self.transaction() as connection:
                rows = connection.execute(
                    sa.select(files.c.item_id, files.c.role).where(files.c.id.in_(part))
                ).all()
                gone += sum(role != "sidecar" for _, role in rows)
                connection.execute(
                    files.update().where(files.c.id.in_(part)).values(missing_since=now())
                )
                touched = {item for item, _ in rows if item is not None}
                touched |= captioned(connection, captions.c.file_id.in_(part))
                texts += refresh_liveness(connection, touched).texts_deleted
        return gone, texts


def _refresh_names(connection: sa.Connection, root: int) -> None:
    """Have the pictures under a root found by what its folders are called now."""
    held = files.c.item_id.is_not(None)
    chosen = sa.select(files.c.item_id).where(files.c.root_id == root, held)
    refresh_documents(connection, connection.scalars(chosen).all())


def _inserted(connection: sa.Connection, statement: sa.Insert) -> int:
    key = connection.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])


def create(folder: Path) -> None:
    """Make an empty library in a folder where there is none; the caller holds its lock.

    The catalog appears under its name only once it is complete and on the disk.

    Raises:
        StorageError: the disk is full.
    """
    path = folder / CATALOG
    if path.exists():
        return  # Made by another process while this one waited for the lock.
    partial = folder / "catalog.partial.db"
    try:
        for leftover in folder.glob(f"{partial.name}*"):
            leftover.unlink()
        schema.upgrade(partial)
        engine = sqlite.create_engine(partial)
        try:
            with engine.begin() as connection:
                values = {"id": 1, "revision": 1, "created_at": now(), "words_version": VERSION}
                connection.execute(library.insert().values(values))
        except sa.exc.DBAPIError as error:
            raise sqlite.explain(error, path) from error
        finally:
            engine.dispose()
        sqlite.fold_log(partial)
        partial.replace(path)
        sync_folder(folder)
    except OSError as error:
        raise refused(folder, error) from error
