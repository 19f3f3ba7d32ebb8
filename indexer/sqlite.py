"""All that only SQLite has: connecting, pragmas, read-only media, backup, FTS5; no other may."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from xsearch.core.errors import LibraryError, LibraryReadOnlyError, StorageError

if TYPE_CHECKING:
    import numpy as np
    import sqlalchemy as sa
    from numpy.typing import NDArray

_BUSY_MS = 10_000
_PARAMETERS = 500
# What SQLite and its driver say of a file that is no sound catalog, in small letters.
_DAMAGED = (
    "malformed",
    "not a database",
    "unable to open",
    "vtable constructor failed",
    "could not decode to utf-8",
)

# The words index: a document for each item, under the item's id. Its words come cut and folded
# (`xsearch.core.words`), so that blanks are all that the tokenizer has to see; it stems English
# words (Porter, 1980). As migrations make it, which a test compares.
CREATE_WORDS = "CREATE VIRTUAL TABLE words USING fts5(text, tokenize='porter ascii')"
WITH_WORDS = "SELECT rowid AS id FROM words WHERE words MATCH ?"
# FTS5 counts its own rows by reading every document; this table of its has a small row for each.
COUNT_WORDS = "SELECT count(*) FROM words_docsize"

T = TypeVar("T")


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a catalog for reading; usable from any thread, one at a time.

    A catalog on read-only media or a full disk is opened too: SQLite cannot make its shared
    memory file there, so that a cleanly closed catalog is opened as immutable, and one with a
    write-ahead log beside it is copied to a temporary folder first.

    Raises:
        LibraryError: the file is no database or damaged.
    """
    try:
        return _open(f"{_uri(path)}?mode=rw")
    except sqlite3.DatabaseError as error:
        if not _cannot_write_beside(error):
            raise _damaged(path, error) from error
    import shutil
    import tempfile

    log = path.with_name(path.name + "-wal")
    try:
        if log.exists() and log.stat().st_size:
            with tempfile.TemporaryDirectory(prefix="xsearch-") as folder:
                copy = Path(folder) / path.name
                shutil.copyfile(path, copy)
                shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
                # Into memory, so that nothing of it outlives the connection.
                with closing(_open(f"{_uri(copy)}?mode=rw")) as source:
                    return in_memory_copy(source)
        return _open(f"{_uri(path)}?mode=ro&immutable=1")
    except (sqlite3.DatabaseError, OSError) as error:
        raise _damaged(path, error) from error


def in_memory_copy(source: sqlite3.Connection) -> sqlite3.Connection:
    """A private copy of a catalog in memory, as of its last commit."""
    copy = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    source.backup(copy)
    return copy


def changes_by_others(connection: sqlite3.Connection) -> int:
    """A number that differs once another connection has committed a change."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def backup(path: Path, target: Path) -> None:
    """Copy a catalog, as of its last commit, to a new file (SQLite's backup API)."""
    with closing(connect_reader(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def create_engine(path: Path) -> sa.Engine:
    """An engine for the writer: WAL, synchronous FULL, transactions that begin at once."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    return _with_pragmas(engine, ("journal_mode=WAL", "synchronous=FULL"))


def engine_over(connection: sqlite3.Connection) -> sa.Engine:
    """An engine over one open connection, for migrating a private copy."""
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=sa.pool.StaticPool)
    return _with_pragmas(engine, ())


def _with_pragmas(engine: sa.Engine, pragmas: tuple[str, ...]) -> sa.Engine:
    import sqlalchemy as sa

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own idea of transactions leaves schema changes outside of them.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def quick_check(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the database file itself; empty when it is sound."""
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    found += [
        f"{table} {row} names a row of {other} that is not there" for table, row, other, _ in broken
    ]
    return [what for what in found if what != "ok"]


def shrink(path: Path) -> None:
    """Give the space of deleted rows back to the file system; the caller is the only writer.

    Raises:
        StorageError: the disk is full; the catalog stays as it was.
    """
    # The log is cut now or, where readers still need it, by a later writer; no use in waiting.
    _run(path, "VACUUM", "PRAGMA busy_timeout=0", "PRAGMA wal_checkpoint(TRUNCATE)")


def fold_log(path: Path) -> None:
    """Fold the write-ahead log into the catalog's one file, and flush that to the disk.

    Raises:
        StorageError: the disk is full; the catalog needs its log.
    """
    _run(path, "PRAGMA wal_checkpoint(TRUNCATE)")


def integers(
    connection: sqlite3.Connection, query: str, parameters: Sequence[Any] = ()
) -> NDArray[np.int64]:
    """The one column, called `id`, of a query of integers: ascending, each once.

    They travel as one text: fetched as rows, a hundred thousand take ten times as long.
    """
    import numpy as np

    from xsearch.indexer.ids import distinct

    (text,) = connection.execute(f"SELECT group_concat(id) FROM ({query})", parameters).fetchone()
    if text is None:
        return np.empty(0, np.int64)
    return distinct(np.fromstring(str(text), dtype=np.int64, sep=","))


def matches_glob(column: str) -> str:
    """What compares a column with a parameter, a pattern of `*`, `?`, `[...]` and `[^...]`."""
    return f"{column} GLOB ?"


def all_of(phrases: Iterable[Sequence[str]]) -> str:
    """What `WITH_WORDS` is to match: documents with all of some phrases, of words as cut."""
    return " AND ".join(f'"{" ".join(phrase)}"' for phrase in phrases)


def stored_words(connection: sa.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The documents of some items, as many as there are."""
    marks = ",".join("?" * len(ids))
    rows = connection.exec_driver_sql(
        f"SELECT rowid, text FROM words WHERE rowid IN ({marks})", tuple(ids)
    )
    return {row[0]: row[1] for row in rows}


def write_words(connection: sa.Connection, documents: Mapping[int, str]) -> None:
    """Write the documents of some items, in place of those that they have."""
    if documents:
        connection.exec_driver_sql(
            "INSERT OR REPLACE INTO words (rowid, text) VALUES (?, ?)", list(documents.items())
        )


def drop_words(connection: sa.Connection, ids: Iterable[int]) -> None:
    """Delete the documents of some items."""
    rows = [(id_,) for id_ in ids]
    if rows:
        connection.exec_driver_sql("DELETE FROM words WHERE rowid = ?", rows)


def words_without_item(connection: sa.Connection) -> list[int]:
    """Documents of items that are not there."""
    return list(
        connection.exec_driver_sql(
            "SELECT id FROM words_docsize WHERE id NOT IN (SELECT id FROM items)"
        ).scalars()
    )


def words_are_sound(connection: sa.Connection) -> bool:
    """Whether the words index is what its documents say (FTS5's own comparison)."""
    import sqlalchemy as sa

    try:
        connection.exec_driver_sql("INSERT INTO words (words) VALUES ('integrity-check')")
        return True
    except sa.exc.DatabaseError:
        return False


def make_words_anew(connection: sa.Connection) -> None:
    """Put an empty words index in place of the one that is there."""
    connection.exec_driver_sql("DROP TABLE words")
    connection.exec_driver_sql(CREATE_WORDS)


def optimise_words(connection: sa.Connection) -> None:
    """Merge all parts of the words index, which takes less space and is searched faster."""
    connection.exec_driver_sql("INSERT INTO words (words) VALUES ('optimize')")


def integer_pairs(
    connection: sqlite3.Connection, query: str, parameters: Sequence[Any] = ()
) -> NDArray[np.int64]:
    """The two columns, called `a` and `b`, of a query of integers: (n, 2), in any order."""
    import numpy as np

    (text,) = connection.execute(
        f"SELECT group_concat(a || ',' || b) FROM ({query})", parameters
    ).fetchone()
    found = np.empty(0, np.int64) if text is None else np.fromstring(text, dtype=np.int64, sep=",")
    return found.reshape(-1, 2)


def in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces of a long list, each short enough to be the parameters of one statement."""
    for start in range(0, len(values), _PARAMETERS):
        yield values[start : start + _PARAMETERS]


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            for statement in statements:
                connection.execute(statement)
        except sqlite3.DatabaseError as error:
            raise explain(error, path) from error


def explain(error: Exception, path: Path) -> Exception:
    """Turn a database error, the driver's or SQLAlchemy's, into one that says what to do.

    One that is neither the disk's fault nor the file's comes back as it is.
    """
    cause = getattr(error, "orig", None) or error
    text = str(cause).lower()
    if "disk is full" in text or "disk i/o" in text:
        return StorageError(
            f"{path.parent}: the disk refused a write ({cause}). Everything committed before is "
            "safe; free some space and run the command again."
        )
    if "readonly" in text:
        return LibraryReadOnlyError(
            f"{path.parent}: cannot be written to. It can still be searched; copy the "
            "library's folder elsewhere to change it."
        )
    if any(sign in text for sign in _DAMAGED):
        return _damaged(path, cause)
    return error


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    try:
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _uri(path: Path) -> str:
    return "file:" + quote(path.as_posix())


def _cannot_write_beside(error: sqlite3.DatabaseError) -> bool:
    text = str(error)
    return any(
        sign in text for sign in ("unable to open", "readonly", "disk I/O error", "disk is full")
    )


def _damaged(path: Path, error: Exception) -> LibraryError:
    return LibraryError(
        f"{path}: the catalog cannot be read ({error}). Restore it from a backup, or move the "
        "library's folder away and index again; your pictures are not touched."
    )
