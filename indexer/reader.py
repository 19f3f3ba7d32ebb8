"""Reading a library: consistent snapshots of the catalog that never wait for a writer.

A cold query spends more time importing SQLAlchemy (0.2 s) than on all else together, so this
path speaks to the database driver itself, in SQL that any database understands. What writes
goes through SQLAlchemy (`xsearch.indexer.catalog`).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xsearch.core.errors import (
    EncoderMismatchError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    LibraryReadOnlyError,
    StorageError,
)
from xsearch.core.paths import displayable, from_stored
from xsearch.indexer import schema, sqlite
from xsearch.indexer.found import FoundFile, FoundItem, ids_at, image_files, in_marks, items_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.core.encoder import EncoderInfo
    from xsearch.core.values import Kind
    from xsearch.indexer.indices.choice import Wishes

T = TypeVar("T")

CATALOG = "catalog.db"
_RETRIES = 5
_ENCODERS = (
    "SELECT e.id, e.name, e.source, e.fingerprint, e.dim, e.runtime, e.precision,"
    " e.generation, e.rows, e.state FROM encoders e"
)
_MISSING = (
    "FROM items i LEFT JOIN embeddings e ON e.item_id = i.id"
    " AND e.encoder_id = (SELECT id FROM encoders WHERE fingerprint = ?)"
    " WHERE i.deleted_at IS NULL AND e.item_id IS NULL"
)


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """An encoder of which a library holds vectors, and where they end; `state` as in the tables."""

    id: int
    name: str
    source: str
    fingerprint: str
    dim: int
    runtime: str
    precision: str
    generation: int
    rows: int
    state: str


@dataclass(frozen=True, slots=True)
class MissingItem:
    """A live item without a vector: a text, or a picture's content hash and files."""

    id: int
    content_hash: bytes
    text: str | None
    files: tuple[FoundFile, ...]


class Snapshot:
    """The catalog as of one commit. Row numbers are those of the encoder's generation."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row; None where there is none."""
        row = self._connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def integers(self, sql: str, parameters: Sequence[Any] = ()) -> NDArray[np.int64]:
        """The one integer column `id` of a query, see `sqlite.integers`."""
        return sqlite.integers(self._connection, sql, parameters)

    def rows_by_item(self, encoder: int) -> NDArray[np.int64]:
        """Which row each item has, -1 where it has none: int64, by id."""
        import numpy as np

        pairs = sqlite.integer_pairs(
            self._connection,
            "SELECT item_id AS a, row AS b FROM embeddings WHERE encoder_id = ?",
            (encoder,),
        )
        rows = np.full(1 + pairs[:, 0].max(initial=-1), -1, np.int64)
        rows[pairs[:, 0]] = pairs[:, 1]
        return rows

    def revision(self) -> int:
        """A number that grows with every committed change."""
        return int(self.one("SELECT revision FROM library"))

    def encoder(self, fingerprint: str | None = None) -> EncoderRow | None:
        """The encoder of a fingerprint, or the library's own; None where there is none."""
        if fingerprint is None:
            rows = self.all(f"{_ENCODERS} JOIN library l ON l.encoder_id = e.id")
        else:
            rows = self.all(f"{_ENCODERS} WHERE e.fingerprint = ?", (fingerprint,))
        return _encoder(rows[0]) if rows else None

    def encoders(self) -> list[EncoderRow]:
        """Every encoder that the library has or had vectors of, in the order they came."""
        return [_encoder(row) for row in self.all(f"{_ENCODERS} ORDER BY e.id")]

    def wishes(self) -> Wishes:
        """What was asked of the library's indices."""
        from xsearch.indexer.indices.choice import stored_wishes

        return stored_wishes(*self.all("SELECT index_kind, memory_budget, recall FROM library")[0])

    def rows_of(self, encoder: int, kind: Kind, first: int = 0) -> list[int]:
        """Vector rows of one kind of item, from row `first` on, ascending."""
        return [
            row[0]
            for row in self.all(
                "SELECT e.row FROM embeddings e JOIN items i ON i.id = e.item_id"
                " WHERE e.encoder_id = ? AND e.row >= ? AND i.kind = ? ORDER BY e.row",
                (encoder, first, kind),
            )
        ]

    def deleted_rows(self, encoder: int) -> list[int]:
        """Vector rows of items marked as deleted.

        A cross join keeps the order of the tables: the deleted items, few and indexed, come first.
        """
        return sorted(
            row[0]
            for row in self.all(
                "SELECT e.row FROM items i CROSS JOIN embeddings e"
                " WHERE e.item_id = i.id AND i.deleted_at IS NOT NULL AND e.encoder_id = ?",
                (encoder,),
            )
        )

    def rows_at(self, encoder: int, items: Sequence[int]) -> dict[int, int]:
        """The vector rows of some items, by item; those that have none are left out."""
        found: dict[int, int] = {}
        for marks, part in in_marks(items):
            found.update(
                self.all(
                    "SELECT item_id, row FROM embeddings"
                    f" WHERE encoder_id = ? AND item_id IN ({marks})",
                    (encoder, *part),
                )
            )
        return found

    def has_image(self, encoder: int, content_hash: bytes) -> bool:
        """Whether a picture of this content is in the catalog and embedded."""
        return bool(
            self.all(
                "SELECT 1 FROM items i JOIN embeddings e ON e.item_id = i.id"
                " WHERE i.kind = 'image' AND i.content_hash = ? AND e.encoder_id = ?",
                (content_hash, encoder),
            )
        )

    def count_missing(self, fingerprint: str) -> int:
        """How many live items have no vector of an encoder."""
        return int(self.one(f"SELECT count(*) {_MISSING}", (fingerprint,)))

    def missing(self, fingerprint: str, after: int, limit: int) -> list[MissingItem]:
        """Live items without a vector of an encoder, the first after an id, by id."""
        rows = self.all(
            f"SELECT i.id, i.content_hash, i.text {_MISSING} AND i.id > ? ORDER BY i.id LIMIT ?",
            (fingerprint, after, limit),
        )
        files = image_files(self, [id_ for id_, _, text in rows if text is None])
        return [MissingItem(id_, digest, text, files.get(id_, ())) for id_, digest, text in rows]

    def items_at(self, encoder: int, rows: Sequence[int]) -> dict[int, FoundItem]:
        """The items at some vector rows, with their files."""
        ids = ids_at(self, encoder, rows)
        items = items_of(self, list(ids.values()))
        return {row: items[id_] for row, id_ in ids.items() if id_ in items}


@dataclass(frozen=True, slots=True)
class _Copy:
    """A private, migrated copy of an older catalog, and what tells that it is out of date."""

    connection: sqlite3.Connection
    original: sqlite3.Connection
    changes: int


class Reader:
    """Opens snapshots of one library; usable from any number of threads.

    Raises:
        LibraryNotFoundError: there is no library in the folder.
        LibraryTooNewError, LibraryError: it cannot be read by this program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        # A catalog that is older and cannot be migrated now is read from one private copy,
        # made anew when the catalog that it is of changes.
        self._copy: _Copy | None = None
        self._copy_lock = threading.Lock()
        self._release(self._connect())

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One consistent view, kept until the block ends.

        Raises:
            LibraryError: the catalog is damaged.
        """
        if self._copy is not None:
            with self._copy_lock:
                self._renew_copy()
                if self._copy is not None:
                    yield Snapshot(self._copy.connection)
                    return
        connection = self._acquire()
        try:
            connection.execute("BEGIN")
            yield Snapshot(connection)
        except sqlite3.DatabaseError as error:
            raise sqlite.explain(error, self.folder / CATALOG) from error
        finally:
            if connection.in_transaction:
                connection.rollback()
            self._release(connection)

    def answer(self, find: Callable[[Snapshot], T]) -> T:
        """What a function makes of a snapshot and of the vectors that it names.

        It is asked again where a compaction has just replaced those.

        Raises:
            LibraryError: vectors are missing; `xsearch check` says more.
        """
        for attempt in range(_RETRIES):
            try:
                with self.snapshot() as snapshot:
                    return find(snapshot)
            except FileNotFoundError as error:
                # A compaction switched generations between the snapshot and opening its file.
                if attempt == _RETRIES - 1:
                    raise LibraryError(
                        f"{error.filename}: the vectors are missing. Run `xsearch check`, then "
                        "`xsearch index`."
                    ) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close all connections that are not in use; those in use close when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._copy_lock:
            self._drop_copy()

    def _acquire(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _release(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            copied = self._copy is not None and connection is self._copy.connection
            if not self._closed and not copied:
                self._idle.append(connection)
                return
        if not copied:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        path = self.folder / CATALOG
        if not path.is_file():
            raise LibraryNotFoundError(
                f"{self.folder}: there is no library here. Make one with: "
                f"xsearch index PATH --library {self.folder}"
            )
        connection = sqlite.connect_reader(path)
        try:
            if schema.is_current(schema.stored_version(connection), path):
                return connection
            return self._update(connection, path)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise sqlite.explain(error, path) from error
        except BaseException:
            connection.close()
            raise

    def _update(self, connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
        """Migrate an older catalog; while someone else does, or may not, read a private copy."""
        from xsearch.indexer.lock import writer_lock

        try:
            with writer_lock(self.folder, "xsearch, migrating", wait=0):
                schema.migrate(path)
        except (LibraryLockedError, LibraryReadOnlyError, StorageError):
            changes = sqlite.changes_by_others(connection)
            self._copy = _Copy(schema.migrated_copy(connection), connection, changes)
            return self._copy.connection
        connection.close()
        return sqlite.connect_reader(path)

    def _renew_copy(self) -> None:
        copy = self._copy
        if copy is not None and sqlite.changes_by_others(copy.original) != copy.changes:
            self._drop_copy()
            self._release(self._connect())

    def _drop_copy(self) -> None:
        if self._copy is not None:
            self._copy.connection.close()
            self._copy.original.close()
            self._copy = None


def check_fingerprint(row: EncoderRow, info: EncoderInfo, folder: Path) -> None:
    """Vectors of different encoders are never compared.

    Raises:
        EncoderMismatchError: `info` is not the library's encoder.
    """
    if row.fingerprint != info.fingerprint:
        raise EncoderMismatchError(_mismatch(row, info, folder))


def usable_encoder(snapshot: Snapshot, info: EncoderInfo, folder: Path) -> EncoderRow | None:
    """The row of an encoder that can be searched with; None before anything was indexed.

    Raises:
        EncoderMismatchError: the library has no vectors of it, or not all of them.
    """
    own = snapshot.encoder()
    if own is None or own.fingerprint == info.fingerprint:
        return own
    row = snapshot.encoder(info.fingerprint)
    if row is None:
        raise EncoderMismatchError(_mismatch(own, info, folder))
    if row.state != "active":
        why = "are not complete" if row.state == "building" else "are out of date"
        raise EncoderMismatchError(
            f"{folder}: its vectors of {row.name} ({row.fingerprint}) {why}. Complete them with: "
            f"xsearch reindex --encoder {word(row.source)} (with "
            "--no-switch it is only kept beside the library's own)"
        )
    return row


def _mismatch(row: EncoderRow, info: EncoderInfo, folder: Path) -> str:
    if row.source == info.source:
        return (
            f"{folder}: its vectors were made by another version of {row.name} "
            f"({row.fingerprint}) than the one that is there now ({info.fingerprint}), and the two "
            "cannot be compared. Embed it again with: xsearch reindex"
        )
    return (
        f"{folder}: its vectors were made by the encoder {row.name} ({row.fingerprint}), not by "
        f"{info.name} ({info.fingerprint}), and the two cannot be compared. Change to that encoder "
        f"with: xsearch reindex --encoder {word(info.source)} (--keep keeps both), or index into "
        "a new library with --library."
    )


def word(source: str) -> str:
    """What loads an encoder, as one word of a command line."""
    import shlex

    return shlex.quote(displayable(source))


def _encoder(row: tuple[Any, ...]) -> EncoderRow:
    id_, name, source, *rest = row
    return EncoderRow(id_, name, from_stored(source), *rest)


def last_run(snapshot: Snapshot) -> dict[str, Any] | None:
    """The newest run that the catalog records."""
    rows = snapshot.all(
        "SELECT command, version, started_at, finished_at, state, report FROM runs"
        " ORDER BY id DESC LIMIT 1"
    )
    if not rows:
        return None
    names = ("command", "version", "started_at", "finished_at", "state", "report")
    run = dict(zip(names, rows[0], strict=True))
    run["report"] = json.loads(run["report"]) if run["report"] else None
    return run
