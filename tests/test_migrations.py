"""Schema versions: what migrations make, and how libraries of other versions are opened."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import alembic.autogenerate
import alembic.config
import alembic.migration
import alembic.script
import pytest
import sqlalchemy as sa
from children import Nursery, Say, await_file, nursery
from support import ColourEncoder, open_colour, write_pictures
from test_disk import own_mounts, remount, small_disk

import xsearch
import xsearch.migrations
from xsearch.indexer import schema, tables
from xsearch.indexer.lock import writer_lock
from xsearch.indexer.sqlite import CREATE_WORDS

NEXT = '''
"""A column more."""

import os, time
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("items", sa.Column("note", sa.Text))
    op.execute("UPDATE items SET note = 'seen'")
    marker, go_on = os.environ.get("TEST_MARKER"), os.environ.get("TEST_GO_ON")
    connection = op.get_bind()
    in_memory = not connection.exec_driver_sql("PRAGMA database_list").fetchone()[2]
    if marker and not in_memory:
        open(marker, "w").close()
        while not os.path.exists(go_on):
            time.sleep(0.002)
    op.create_index("ix_items_note", "items", ["note"])
'''


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The migrations of a version after this one."""
    folder = tmp_path_factory.mktemp("next") / "migrations"
    shutil.copytree(Path(xsearch.migrations.__file__).parent, folder)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    (folder / "versions" / "v0005_next.py").write_text(NEXT)
    return folder


def become_next(folder: Path | str) -> None:
    schema.HEAD, schema.LOCATION = "0005", str(folder)


@pytest.fixture
def upgraded(next_version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, this program is the next version."""
    monkeypatch.setattr(schema, "HEAD", "0005")
    monkeypatch.setattr(schema, "LOCATION", str(next_version))


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A library of this version, with five pictures; older than the next."""
    write_pictures(tmp_path / "photos", 5)
    with open_colour(tmp_path / "older") as library:
        library.index(tmp_path / "photos")
    return tmp_path / "older"


def version_of(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "catalog.db")) as catalog:
        return catalog.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def columns_of(catalog: Path) -> set[str]:
    with closing(sqlite3.connect(catalog)) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(items)")}


# What migrations make


def test_the_program_knows_the_newest_migration() -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", schema.LOCATION)
    scripts = alembic.script.ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [schema.HEAD]
    assert all(script.revision.isdigit() for script in scripts.walk_revisions())


def test_migrations_make_the_tables_that_the_program_uses(tmp_path: Path) -> None:
    migrated, created = tmp_path / "migrated.db", tmp_path / "created.db"
    schema.upgrade(migrated)
    with sa.create_engine(f"sqlite:///{migrated}").connect() as connection:
        context = alembic.migration.MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "table" or not is_of_words(name),
            },
        )
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []
    tables.metadata.create_all(sa.create_engine(f"sqlite:///{created}"))
    # What Alembic does not compare: partial indices, AUTOINCREMENT, NOT NULL, the keys.
    assert shape(migrated) == shape(created)


def test_migrations_make_the_words_index_as_the_program_does(tmp_path: Path) -> None:
    schema.upgrade(tmp_path / "migrated.db")
    with closing(sqlite3.connect(tmp_path / "migrated.db")) as catalog:
        (made,) = catalog.execute("SELECT sql FROM sqlite_master WHERE name = 'words'").fetchone()
    assert made == CREATE_WORDS


def is_of_words(name: str) -> bool:
    """Whether a table is the words index, or one of those that FTS5 keeps it in."""
    return name == "words" or name.startswith("words_")


def shape(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as catalog:
        names = [
            (kind, name, "AUTOINCREMENT" in (sql or ""), (sql or "").partition(" WHERE ")[2])
            for kind, name, sql in catalog.execute("SELECT type, name, sql FROM sqlite_master")
            if not name.startswith(("alembic", "sqlite_autoindex_alembic", "sqlite_sequence"))
            and not is_of_words(name)
        ]
        found: dict[str, object] = {"names": sorted(names)}
        for kind, name, *_ in names:
            if kind == "table":
                found[name] = [
                    sorted(row[-6:] for row in catalog.execute(f"PRAGMA {what}({name})"))
                    for what in ("table_info", "foreign_key_list")
                ]
            else:
                found[name] = catalog.execute(f"PRAGMA index_info({name})").fetchall()
        return found


def test_migrations_never_import_the_live_tables(tmp_path: Path) -> None:
    for path in Path(xsearch.migrations.__file__).parent.rglob("*.py"):
        assert "xsearch.indexer" not in path.read_text()
        assert "from xsearch" not in path.read_text()
    script = (
        "import sys, alembic.config, alembic.command, sqlalchemy as sa\n"
        "config = alembic.config.Config()\n"
        "config.set_main_option('script_location', 'xsearch.migrations:')\n"
        f"with sa.create_engine({f'sqlite:///{tmp_path}/x.db'!r}).begin() as connection:\n"
        "    config.attributes['connection'] = connection\n"
        "    alembic.command.upgrade(config, 'head')\n"
        "print([name for name in sys.modules if name.startswith('xsearch.indexer')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# Libraries of others


def test_a_library_of_a_newer_version_is_refused_and_left_alone(older: Path) -> None:
    with closing(sqlite3.connect(older / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE alembic_version SET version_num = '9999'")
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(xsearch.LibraryTooNewError, match="pip install -U xsearch-engine"):
            open_colour(older)
    assert {path: path.read_bytes() for path in before} == before


def test_a_library_that_becomes_newer_while_it_is_open_is_not_written_to(older: Path) -> None:
    with open_colour(older) as library:
        assert len(library.search("anything")) == 5
        with closing(sqlite3.connect(older / "catalog.db")) as catalog, catalog:
            catalog.execute("UPDATE alembic_version SET version_num = '9999'")
        for write in (library.index, library.compact, library.check):
            with pytest.raises(xsearch.LibraryTooNewError):
                write()


@pytest.mark.parametrize("kind", ["no database", "another's database", "empty", "beheaded"])
def test_a_catalog_that_is_none_is_refused_and_left_alone(older: Path, kind: str) -> None:
    catalog = older / "catalog.db"
    data = catalog.read_bytes()
    if kind == "no database":
        catalog.write_bytes(b"this is a letter to my aunt\n" * 500)
    elif kind == "another's database":
        catalog.unlink()
        with closing(sqlite3.connect(catalog)) as connection:
            connection.execute("CREATE TABLE aunts (name TEXT)")
    elif kind == "empty":
        catalog.write_bytes(b"")
    else:
        catalog.write_bytes(bytes(4096) + data[4096:])
    before = catalog.read_bytes()
    with pytest.raises(xsearch.LibraryError, match=r"catalog\.db"):
        open_colour(older)
    assert catalog.read_bytes() == before


@pytest.mark.parametrize("part", [0.9, 0.6, 0.3, 0.1])
def test_a_truncated_catalog_is_an_error_that_says_so(older: Path, part: float) -> None:
    catalog = older / "catalog.db"
    data = catalog.read_bytes()
    catalog.write_bytes(data[: int(len(data) * part)])
    for act in (
        lambda library: library.search("anything"),
        lambda library: library.status(),
        lambda library: library.index(older.parent / "photos"),
        lambda library: library.compact(),
    ):
        with (
            pytest.raises(xsearch.LibraryError, match="cannot be read"),
            open_colour(older) as library,
        ):
            act(library)


@pytest.mark.parametrize("seed", range(12))
def test_garbage_in_a_catalog_is_never_more_than_an_error(older: Path, seed: int) -> None:
    import random

    chance = random.Random(seed)
    catalog = older / "catalog.db"
    data = bytearray(catalog.read_bytes())
    for _ in range(3):
        at = chance.randrange(4096, len(data) - 512)
        data[at : at + 512] = chance.randbytes(512)
    catalog.write_bytes(data)
    for act in ("search", "status", "check", "compact"):
        try:
            with open_colour(older) as library:
                arguments = ("anything",) if act == "search" else ()
                getattr(library, act)(*arguments)
        except xsearch.Error:
            pass


# Upgrading


def test_opening_an_older_library_backs_it_up_and_migrates_it(older: Path, upgraded: None) -> None:
    with open_colour(older) as library:
        assert len(library.search("anything")) == 5
        assert library.check().ok
        assert library.index().unchanged == 5
    assert version_of(older) == "0005"
    backup = older / "catalog.0004.backup.db"
    assert "note" in columns_of(older / "catalog.db")
    assert "note" not in columns_of(backup)
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (5,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_backup_brings_the_older_library_back(
    older: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "HEAD", "0005")
        patch.setattr(schema, "LOCATION", str(next_version))
        open_colour(older).close()
    with pytest.raises(xsearch.LibraryTooNewError):
        open_colour(older)
    (older / "catalog.0004.backup.db").replace(older / "catalog.db")
    with open_colour(older) as library:
        assert len(library.search("anything")) == 5
        assert library.check().ok


def job_migrate(say: Say, library: str, migrations: str, marker: str, go_on: str) -> int:
    os.environ.update(TEST_MARKER=marker, TEST_GO_ON=go_on)
    become_next(migrations)
    with open_colour(Path(library)) as opened:
        return len(opened.search("anything"))


def test_a_migration_that_is_killed_leaves_the_old_schema_whole(
    children: Nursery, older: Path, next_version: Path, tmp_path: Path
) -> None:
    marker, go_on = tmp_path / "marker", tmp_path / "go-on"
    arguments = {
        "library": older,
        "migrations": next_version,
        "marker": marker,
        "go_on": go_on,
    }
    child = children.start("test_migrations.job_migrate", **arguments)
    await_file(marker)
    child.kill()
    with open_colour(older) as library:
        assert len(library.search("anything")) == 5
        assert library.check().ok
    assert version_of(older) == "0004"
    assert "note" not in columns_of(older / "catalog.db")
    go_on.touch()
    assert children.start("test_migrations.job_migrate", **arguments).result() == 5
    assert version_of(older) == "0005"
    assert "note" in columns_of(older / "catalog.db")


def test_readers_answer_during_a_migration_and_see_what_comes_after(
    children: Nursery, older: Path, next_version: Path, upgraded: None, tmp_path: Path
) -> None:
    marker, go_on = tmp_path / "marker", tmp_path / "go-on"
    child = children.start(
        "test_migrations.job_migrate",
        library=older,
        migrations=next_version,
        marker=marker,
        go_on=go_on,
    )
    await_file(marker)
    with open_colour(older) as first, open_colour(older) as second:
        for library in (first, second, first):
            assert len(library.search("anything")) == 5
            assert library.status().items["image"] == 5
        with pytest.raises(xsearch.LibraryLockedError, match="migrating"):
            first.index(wait=0)
        go_on.touch()
        assert child.result() == 5
        write_pictures(tmp_path / "photos", 3, first=10)
        assert first.index().added == 3
        assert len(second.search("anything")) == 8
        second.compact()
        assert len(first.search("anything")) == 8
    assert version_of(older) == "0005"


def test_a_writer_that_waited_for_an_older_program_migrates_before_it_writes(
    older: Path, upgraded: None, tmp_path: Path
) -> None:
    with writer_lock(older, "xsearch index", wait=0):
        library = open_colour(older)
        assert len(library.search("anything")) == 5
    assert version_of(older) == "0004"
    write_pictures(tmp_path / "photos", 1, first=10)
    assert library.index().added == 1
    assert version_of(older) == "0005"
    assert len(library.search("anything")) == 6
    library.close()


def test_a_failing_migration_leaves_the_library_as_it_was(
    older: Path, tmp_path: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(next_version, broken)
    script = broken / "versions" / "v0005_next.py"
    script.write_text(script.read_text() + "    raise RuntimeError('no')\n")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "HEAD", "0005")
        patch.setattr(schema, "LOCATION", str(broken))
        with pytest.raises(RuntimeError):
            open_colour(older)
    with open_colour(older) as library:
        assert len(library.search("anything")) == 5
        assert library.check().ok


def job_read_only(say: Say, place: str, library: str, migrations: str) -> None:
    own_mounts()
    become_next(migrations)
    disk = Path(place)
    with small_disk(disk, "8m"):
        shutil.copytree(library, disk / "library")
        remount(disk, "ro")
        with xsearch.open(disk / "library", encoder=ColourEncoder()) as opened:
            for _ in range(2):
                assert len(opened.search("anything")) == 5
                assert opened.status().items["image"] == 5
            with pytest.raises(xsearch.LibraryReadOnlyError):
                opened.index()
            assert len(opened.search("anything")) == 5
        assert version_of(Path(library)) == "0004"


def test_an_older_library_on_read_only_media_answers(
    children: Nursery, older: Path, next_version: Path, tmp_path: Path
) -> None:
    if not children.start("test_disk.job_can_mount", place=tmp_path / "disk").result():
        pytest.skip("mounting a small file system needs root in a mount namespace of its own")
    children.start(
        "test_migrations.job_read_only",
        place=tmp_path / "disk",
        library=older,
        migrations=next_version,
    ).result()
