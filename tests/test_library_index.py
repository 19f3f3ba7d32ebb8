"""The index of a library: how it grows, what is asked of it, what a kill in a merge leaves."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from children import Nursery, Say, nursery
from support import ALL, open_colour, picture, write_pictures, write_text

import xsearch
from xsearch.indexer.indices import choice, ivf, segments


def made_small(patch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few pictures are a large library."""
    patch.setattr(choice, "EXACT_ROWS", 40)
    patch.setattr(choice, "_LISTS_FROM", 100)
    patch.setattr(segments, "TAIL_ROWS", 10)
    patch.setattr(ivf, "_FEW", 0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    made_small(monkeypatch)


def found(library: xsearch.Library, seed: int) -> list[tuple[Path | None, float]]:
    hits = library.search(xsearch.Image(picture(seed)), k=ALL)
    return [(hit.path, hit.similarity) for hit in hits]


def structures(library: xsearch.Library) -> list[str]:
    return [part.structure for part in library.status().index]


def files(library: xsearch.Library) -> set[str]:
    return {path.name for path in (library.path / "indices").iterdir()}


@pytest.mark.usefixtures("small")
def test_a_library_finds_everything_while_its_index_grows(
    library: xsearch.Library, photos: Path
) -> None:
    seen = set()
    for at in range(12):
        write_pictures(photos, 12, first=12 * at)
        library.index(photos)
        parts = library.status().index
        assert parts[-1].end == 12 * (at + 1)
        assert sum(part.count for part in parts) == 12 * (at + 1)
        assert len(files(library)) == len(parts)
        seen.update(part.structure for part in parts)
        hits = found(library, 5)
        assert len(hits) == 12 * (at + 1)
        assert hits[0][0] == photos / "005.jpg"
        assert [cosine for _, cosine in hits] == sorted((c for _, c in hits), reverse=True)
        assert library.check().repaired == ()
    assert seen == {"flat", "rabitq", "ivf"}


@pytest.mark.usefixtures("small")
def test_deleted_pictures_leave_an_approximate_index_at_once(
    library: xsearch.Library, photos: Path
) -> None:
    paths = write_pictures(photos, 120)
    library.index(photos)
    before = files(library)
    for path in paths[:60]:
        path.unlink()
    library.index(photos)
    assert files(library) == before
    assert {path for path, _ in found(library, 5)} == set(paths[60:])
    library.compact()
    assert {path for path, _ in found(library, 5)} == set(paths[60:])
    assert sum(part.count for part in library.status().index) == 60


@pytest.mark.usefixtures("small")
def test_the_recall_of_an_index_is_measured_with_the_librarys_texts_and_shown(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 100)
    library.index(photos)
    (part,) = library.status().index
    assert part.wanted_recall == 0.98
    assert part.recall is not None
    assert 0.9 <= part.recall <= 1
    assert "reference texts" in part.queries
    texts = write_text(photos.parent / "texts.txt", "\n".join(f"text {at}" for at in range(60)))
    library.index([photos, texts], recall=0.9)
    images = next(part for part in library.status().index if part.kind == "image")
    assert images.wanted_recall == 0.9
    assert "other kind" in images.queries


@pytest.mark.usefixtures("small")
def test_what_was_asked_of_the_index_is_remembered_until_it_is_taken_back(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 120)
    library.index(photos, index_kind="flat")
    assert structures(library) == ["flat"]
    library.index()
    assert structures(library) == ["flat"]
    library.index(index_kind="rabitq")
    assert structures(library) == ["rabitq"]
    before = files(library)
    library.index()
    assert files(library) == before
    library.index(index_kind="auto")
    assert structures(library) == ["ivf"]
    library.index(recall=1)
    assert structures(library) == ["flat"]


@pytest.mark.parametrize(
    "asked",
    [
        {"index_kind": "tree"},
        {"recall": 2.0},
        {"recall": float("nan")},
        {"recall": "0.9"},
        {"memory_budget": -1},
        {"memory_budget": 10**17 * 1000},
        {"memory_budget": 1.5},
    ],
    ids=str,
)
def test_asking_for_what_cannot_be_meant_changes_nothing(
    library: xsearch.Library, photos: Path, asked: dict[str, object]
) -> None:
    write_pictures(photos, 2)
    with pytest.raises(xsearch.UsageError):
        library.index(photos, **asked)  # type: ignore[arg-type]
    assert library.status().vectors == 0
    with pytest.raises(xsearch.UsageError):
        library.plan(**asked)  # type: ignore[arg-type]


def test_a_budget_too_small_for_anything_is_a_warning_and_the_answer_is_right(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 20)
    report = library.index(photos, memory_budget=1)
    assert any("too small" in warning and "MiB" in warning for warning in report.warnings)
    assert len(found(library, 3)) == 20
    assert library.index(memory_budget=0).warnings == ()


def test_a_plan_changes_nothing_and_shows_what_growing_brings(
    library: xsearch.Library, photos: Path
) -> None:
    assert library.plan() == []
    write_pictures(photos, 20)
    library.index(photos)
    before = {path: path.read_bytes() for path in library.path.rglob("*.faiss")}
    plans = library.plan()
    assert [(row.kind, row.times, row.count) for row in plans] == [
        ("image", 1, 20),
        ("image", 10, 200),
        ("image", 100, 2_000),
    ]
    assert all(row.structure == "flat" and row.reasons for row in plans)
    assert {row.structure for row in library.plan(index_kind="rabitq")} == {"rabitq"}
    assert {path: path.read_bytes() for path in library.path.rglob("*.faiss")} == before
    assert library.plan() == plans


def test_a_damaged_index_is_named_by_status_and_built_again_by_the_next_run(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 20)
    library.index(photos)
    (path,) = (library.path / "indices").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert any(path.name in warning for warning in library.status().warnings)
    assert len(found(library, 3)) == 20
    library.index()
    assert path.read_bytes() == whole
    assert library.status().warnings == ()


def test_ten_percent_of_new_vectors_do_not_make_a_large_index_anew(
    library: xsearch.Library, photos: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 100)
    library.index(photos)
    (large,) = files(library)
    write_pictures(photos, 10, first=100)
    library.index(photos)
    assert large in files(library)
    assert structures(library)[-1] == "flat"
    assert np.isclose(found(library, 105)[0][1], 1, atol=1e-2)


# Kills


def job_index_small(say: Say, library: str, photos: str) -> int:
    made_small(pytest.MonkeyPatch())
    with open_colour(Path(library)) as opened:
        return opened.index(photos, progress=lambda now: say("stage", now.stage)).embedded


def job_look_small(say: Say, library: str) -> list[str]:
    made_small(pytest.MonkeyPatch())
    with open_colour(Path(library)) as opened:
        paths = [str(path) for path, _ in found(opened, 5)]
        assert opened.check().ok
        return paths


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def test_a_merge_killed_at_any_moment_costs_nothing(children: Nursery, tmp_path: Path) -> None:
    photos, before, folder = tmp_path / "photos", tmp_path / "before", tmp_path / "library"
    write_pictures(photos, 60)
    job = {"photos": photos}
    children.start("test_library_index.job_index_small", library=before, **job).result()
    write_pictures(photos, 40, first=60)
    # All is embedded; what is left to do is to merge.
    complete = tmp_path / "complete"
    shutil.copytree(before, complete)
    children.start("test_library_index.job_index_small", library=complete, **job).result()
    shutil.rmtree(complete / "indices")
    shutil.copytree(before / "indices", complete / "indices")
    chance = random.Random(7)
    killed = 0
    for _ in range(10):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(complete, folder)
        child = children.start("test_library_index.job_index_small", library=folder, **job)
        deadline = time.monotonic() + 30
        while child.next_event() != ("stage", "index"):
            assert time.monotonic() < deadline
        if not child.ended_within(chance.uniform(0, 0.3)):
            child.kill()
            killed += 1
        looked = children.start("test_library_index.job_look_small", library=folder).result()
        assert len(looked) == 100
        assert looked[0] == str(photos / "005.jpg")
        assert (
            children.start("test_library_index.job_index_small", library=folder, **job).result()
            == 0
        )
        assert all(path.suffix == ".faiss" for path in (folder / "indices").iterdir())
    assert killed >= 3
