"""Kill -9 at any moment: the library opens, nothing committed is lost, and the work goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Nursery, Say, nursery
from support import ColourEncoder, open_colour, write_picture, write_text

import xsearch
from xsearch.core.reports import Progress
from xsearch.indexer.lock import writer_lock

IMAGES = 240
TEXT_FILES = 10
TEXTS = 4
KILLS = 56
KILLS_OF_ONE = 8
COMMIT_SECONDS = 0.02


# Jobs: these run in children.


def job_index(
    say: Say,
    library: str,
    paths: list[str],
    commit_seconds: float = COMMIT_SECONDS,
    tell: int | None = None,
) -> dict[str, Any]:
    """Index; says when a stage begins, and when `tell` files were read."""
    stages = set()

    def progress(now: Progress) -> None:
        if now.stage not in stages:
            stages.add(now.stage)
            say("stage", now.stage)
        if now.stage == "embed" and now.done == tell:
            say("read", now.done)

    with open_colour(Path(library)) as opened:
        report = opened.index(
            paths, commit_seconds=commit_seconds, batch_size=8, workers=2, progress=progress
        )
    return report.to_dict()


def job_compact(say: Say, library: str) -> int:
    with open_colour(Path(library)) as opened:
        say("stage", "compact")
        return opened.compact().vectors_kept


def job_create(say: Say, library: str) -> None:
    open_colour(Path(library)).close()


def job_hold_lock(say: Say, library: str) -> None:
    with writer_lock(Path(library), "xsearch index", wait=0):
        say("held")
        threading.Event().wait()


# What is on disk


def content(folder: Path) -> dict[str, Any]:
    """All a library holds, apart from ids, rows and dates: the same however it came about."""
    with closing(sqlite3.connect(f"file:{folder / 'catalog.db'}?mode=rw", uri=True)) as catalog:
        name, generation, rows, dim = catalog.execute(
            "SELECT fingerprint, generation, rows, dim FROM encoders"
        ).fetchone()
        stored = np.fromfile(folder / "vectors" / f"{name}.{generation}.f16", "<f2")
        vectors = stored[: rows * dim].reshape(rows, dim)
        return {
            "items": {
                (kind, digest, text): vectors[row].tobytes()
                for kind, digest, text, row in catalog.execute(
                    "SELECT i.kind, i.content_hash, i.text, e.row FROM items i"
                    " JOIN embeddings e ON e.item_id = i.id WHERE i.deleted_at IS NULL"
                )
            },
            "without a vector": catalog.execute(
                "SELECT count(*) FROM items WHERE deleted_at IS NULL"
                " AND id NOT IN (SELECT item_id FROM embeddings)"
            ).fetchone()[0],
            "files": sorted(
                catalog.execute(
                    "SELECT f.folder, f.name, f.role, f.size, f.mtime_ns, f.state, f.content_hash,"
                    " i.content_hash, f.missing_since FROM files f"
                    " LEFT JOIN items i ON i.id = f.item_id"
                )
            ),
            "captions": Counter(
                catalog.execute(
                    "SELECT i.text, p.content_hash, f.folder, f.name, c.source, c.position"
                    " FROM captions c JOIN items i ON i.id = c.item_id"
                    " LEFT JOIN items p ON p.id = c.image_id LEFT JOIN files f ON f.id = c.file_id"
                )
            ),
            "images": sorted(
                catalog.execute(
                    "SELECT i.content_hash, m.width, m.height, m.format, m.perceptual_hash"
                    " FROM images m JOIN items i ON i.id = m.item_id"
                )
            ),
        }


def committed(folder: Path) -> set[tuple[str, bytes]]:
    """The items that have a vector by now."""
    with closing(sqlite3.connect(f"file:{folder / 'catalog.db'}?mode=rw", uri=True)) as catalog:
        return set(
            catalog.execute(
                "SELECT kind, content_hash FROM items JOIN embeddings ON item_id = items.id"
            )
        )


def look(folder: Path, scratch: Path) -> set[tuple[str, bytes]]:
    """The items with a vector, once it is sure that nothing of them is lost.

    The library opens, it answers, and `check` finds nothing. All of that is asked of a copy:
    opening and checking repair, and the next run must cope with what the kill left.
    """
    if not folder.exists():
        return set()
    copy = scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    with open_colour(copy) as opened:
        status = opened.status()
        for kind in ("image", "text"):
            hits = opened.search("anything", k=5, target=kind)
            assert len(hits) == min(5, status.items[kind])
        report = opened.check()
        assert report.lost == 0, report
        assert report.problems == (), report
        assert report.vectors == status.vectors
        again = opened.check()
        assert again.ok
        assert again.repaired == ()
    return committed(copy)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Pictures in folders, some twice, every other with a sidecar; text files and a table."""
    base = tmp_path_factory.mktemp("source")
    photos = base / "photos"
    for at in range(IMAGES):
        # Every tenth picture is a copy of the one before: its content is there already.
        seed = at - 1 if at % 10 == 9 else at
        path = write_picture(photos / f"{at % 7}" / f"{at:03}.jpg", seed)
        if at % 2:
            write_text(path.with_suffix(".txt"), f"a sidecar of picture {at}\nshared by {at // 6}")
    texts = [
        write_text(
            base / f"texts{at}.txt",
            "\n".join(f"line {line} of text file {at}" for line in range(TEXTS)),
        )
        for at in range(TEXT_FILES)
    ]
    rows = "".join(f"row {at},photos/{at % 7}/{at:03}.jpg\n" for at in range(0, IMAGES, 12))
    table = write_text(base / "table.csv", "text,image\n" + rows)
    return [str(path) for path in (photos, *texts, table)]


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.fixture(scope="module")
def uninterrupted(
    children: Nursery, source: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], float]:
    """What a run that nobody kills leaves, and how many seconds it takes."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "library"
    start = time.monotonic()
    report = children.start("test_crash.job_index", library=folder, paths=source).result()
    seconds = time.monotonic() - start
    assert report["failed"] == 0
    found = content(folder)
    assert len(found["items"]) == report["embedded"]
    return found, seconds


def test_a_run_killed_at_any_moment_loses_nothing_and_goes_on(
    children: Nursery,
    source: list[str],
    uninterrupted: tuple[dict[str, Any], float],
    tmp_path: Path,
) -> None:
    expected, seconds = uninterrupted
    total = len(expected["items"])
    chance = random.Random(2)
    kills: list[float] = []
    stages: Counter[str] = Counter()
    libraries = 0
    while len(kills) < KILLS:
        libraries += 1
        folder = tmp_path / f"library{libraries}"
        held: set[tuple[str, bytes]] = set()
        for left in reversed(range(KILLS_OF_ONE + 1)):
            child = children.start("test_crash.job_index", library=folder, paths=source)
            if left == 0 or child.ended_within(chance.uniform(0, seconds / 2)):
                report = child.result()
                break
            child.kill()
            now = look(folder, tmp_path)
            assert held <= now
            held = now
            kills.append(len(held) / total)
            stages[(child.said("stage") or ["open"])[-1]] += 1
        # What was committed before is not embedded again.
        assert report["embedded"] == total - len(held)
        assert content(folder) == expected
        assert look(folder, tmp_path) == {(kind, digest) for kind, digest, _ in expected["items"]}
    print(f"{len(kills)} kills, {libraries} libraries, by what was under way: {dict(stages)};")
    print("committed at each:", " ".join(f"{share:.2f}" for share in sorted(kills)))
    partial = [share for share in kills if 0 < share < 1]
    assert len(partial) >= len(kills) / 3
    for third in range(3):
        assert any(third / 3 < share <= (third + 1) / 3 for share in partial), sorted(kills)


def test_a_run_killed_while_the_index_is_built_loses_nothing(
    children: Nursery,
    source: list[str],
    uninterrupted: tuple[dict[str, Any], float],
    tmp_path: Path,
) -> None:
    expected, _ = uninterrupted
    folder, complete = tmp_path / "library", tmp_path / "complete"
    children.start("test_crash.job_index", library=complete, paths=source).result()
    chance = random.Random(3)
    killed = 0
    for _ in range(12):
        # All is embedded, but nothing indexed, as after a kill right before.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(complete, folder)
        shutil.rmtree(folder / "indices")
        child = children.start("test_crash.job_index", library=folder, paths=source)
        while child.next_event() != ("stage", "index"):
            pass
        if not child.ended_within(chance.uniform(0, 0.03)):
            child.kill()
            killed += 1
        assert len(look(folder, tmp_path)) == len(expected["items"])
        children.start("test_crash.job_index", library=folder, paths=source).result()
        assert content(folder) == expected
        # What a killed run left half-written is gone.
        assert all(path.suffix == ".faiss" for path in (folder / "indices").iterdir())
    assert killed >= 4


def test_a_compaction_killed_at_any_moment_loses_nothing(
    children: Nursery, source: list[str], tmp_path: Path
) -> None:
    full, folder = tmp_path / "full", tmp_path / "library"
    children.start("test_crash.job_index", library=full, paths=source).result()
    with open_colour(full) as library:
        library.remove(Path(source[0]) / "3")
    expected = content(full)
    shutil.copytree(full, folder)
    start = time.monotonic()
    kept = children.start("test_crash.job_compact", library=folder).result()
    seconds = time.monotonic() - start
    assert kept == len(expected["items"])
    compacted = content(folder)
    assert compacted["items"] == expected["items"]
    chance = random.Random(4)
    generations = Counter()
    while generations.total() < 20 or (len(generations) < 2 and generations.total() < 100):
        shutil.rmtree(folder)
        shutil.copytree(full, folder)
        child = children.start("test_crash.job_compact", library=folder)
        if not child.ended_within(chance.uniform(0, seconds)):
            child.kill()
        assert look(folder, tmp_path) >= {(kind, digest) for kind, digest, _ in expected["items"]}
        with open_colour(folder) as library:
            generation = library.status().generation
            library.compact()
        generations[generation] += 1
        # However busy the machine is by now: kills on both sides of the switch.
        seconds *= 0.93 if generation == 2 else 1.07
        assert content(folder) == compacted
        assert len(list((folder / "vectors").iterdir())) == 1
    assert set(generations) == {1, 2}, "no kill came before the switch, or none after"


def test_a_library_killed_while_it_is_made_can_be_made_again(
    children: Nursery, tmp_path: Path
) -> None:
    start = time.monotonic()
    children.start("test_crash.job_create", library=tmp_path / "whole").result()
    seconds = time.monotonic() - start
    chance = random.Random(5)
    killed = 0
    for at in range(20):
        folder = tmp_path / f"library{at}"
        child = children.start("test_crash.job_create", library=folder)
        if not child.ended_within(chance.uniform(0, seconds)):
            child.kill()
            killed += 1
        with open_colour(folder) as library:
            assert library.search("anything") == []
            assert library.check().ok
        assert {path.name for path in folder.glob("catalog*")} <= {
            "catalog.db",
            "catalog.db-wal",
            "catalog.db-shm",
        }
    assert killed >= 5


def test_a_killed_writer_leaves_the_lock_free(children: Nursery, tmp_path: Path) -> None:
    child = children.start("test_crash.job_hold_lock", library=tmp_path)
    child.until("held")
    with pytest.raises(xsearch.LibraryLockedError, match=str(child.pid)):
        xsearch.open(tmp_path, encoder=ColourEncoder(), wait=0)
    child.kill()
    open_colour(tmp_path).close()


def test_ctrl_c_commits_what_was_read(
    children: Nursery,
    source: list[str],
    uninterrupted: tuple[dict[str, Any], float],
    tmp_path: Path,
) -> None:
    expected, _ = uninterrupted
    folder = tmp_path / "library"
    child = children.start(
        "test_crash.job_index", library=folder, paths=source, commit_seconds=1e9, tell=40
    )
    child.until("read")
    os.kill(child.pid, signal.SIGINT)
    assert child.error()[0] == "KeyboardInterrupt"
    held = look(folder, tmp_path)
    assert 40 <= len(held) < len(expected["items"])
    with open_colour(folder) as library:
        assert library.status().last_run["state"] == "interrupted"
    report = children.start("test_crash.job_index", library=folder, paths=source).result()
    assert report["embedded"] == len(expected["items"]) - len(held)
    assert content(folder) == expected
