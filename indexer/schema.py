"""Which version a catalog's schema has, and bringing it to this program's version."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import LibraryError, LibraryTooNewError
from xsearch.indexer import sqlite

if TYPE_CHECKING:
    import sqlalchemy as sa

# The newest revision in `migrations/versions`; revisions are numbered, so that an older
# program can tell a newer library from a damaged one. A test compares it with Alembic's head.
HEAD = "0004"
LOCATION = "xsearch.migrations:"

# Alembic keeps the migration under way in a global of its own.
_one_at_a_time = threading.Lock()


def stored_version(connection: sqlite3.Connection) -> str | None:
    """The schema version of an open catalog; None for one that was never made."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    return str(row[0]) if row else None


def is_current(version: str | None, path: Path) -> bool:
    """True for this program's schema, False for an older one.

    Raises:
        LibraryTooNewError: a newer version of xsearch made this library.
        LibraryError: the file is a database, but no catalog.
    """
    if version == HEAD:
        return True
    if version is None:
        raise LibraryError(
            f"{path}: this is no catalog of xsearch. Name another folder with --library."
        )
    if version > HEAD:
        raise LibraryTooNewError(
            f"{path.parent}: made by a newer version of xsearch (schema {version}, this one "
            f"knows up to {HEAD}). Upgrade with: pip install -U xsearch-engine"
        )
    return False


def migrate(path: Path) -> None:
    """Bring a catalog up to date where it is older; the caller holds the writer's lock.

    An older catalog is backed up first, beside itself, as `catalog.<version>.backup.db`. The
    change is one transaction: readers see the old schema until it is complete.

    Raises:
        LibraryTooNewError, LibraryError: it cannot be used by this program.
        StorageError, LibraryReadOnlyError: the disk refused a write; nothing was changed.
    """
    with closing(sqlite.connect_reader(path)) as connection:
        version = stored_version(connection)
    if is_current(version, path):
        return
    try:
        sqlite.backup(path, path.with_name(f"catalog.{version}.backup.db"))
    except sqlite3.Error as error:
        raise sqlite.explain(error, path) from error
    upgrade(path)


def upgrade(path: Path) -> None:
    """Run all migrations that a catalog lacks; on a new file, create it.

    Raises:
        StorageError, LibraryReadOnlyError: the disk refused a write; nothing was changed.
    """
    import sqlalchemy as sa

    engine = sqlite.create_engine(path)
    try:
        _upgrade(engine)
    except sa.exc.DBAPIError as error:
        raise sqlite.explain(error, path) from error
    finally:
        engine.dispose()


def migrated_copy(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A private, up-to-date copy in memory of an older catalog that cannot be migrated now."""
    copy = sqlite.in_memory_copy(connection)
    _upgrade(sqlite.engine_over(copy))
    return copy


def _upgrade(engine: sa.Engine) -> None:
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", LOCATION)
    with _one_at_a_time, engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, HEAD)
