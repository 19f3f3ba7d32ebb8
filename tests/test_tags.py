"""Tags: stored with their probability, replaced whole or not at all, gone with their pictures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Nursery, Say, await_file, nursery
from support import ColourEncoder, ids, open_colour, write_picture, write_pictures, write_text
from test_cli import Shell, rows

import xsearch
from xsearch.core.reports import Progress
from xsearch.demo import write_demo_photos
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.lock import writer_lock
from xsearch.indexer.tags import replace_scores

COUNT = 9
LABELS = ["red", "green", "blue"]


@pytest.fixture
def filled(library: xsearch.Library, photos: Path) -> xsearch.Library:
    """A library of nine pictures and a text."""
    write_pictures(photos, COUNT)
    write_text(photos / "000.txt", "a text is never tagged")
    library.index(photos)
    return library


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def stored(library: xsearch.Library) -> set[tuple[int, str, float | None]]:
    """What the table holds, deleted pictures included."""
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        return set(catalog.execute("SELECT item_id, name, score FROM tags"))


def counts(library: xsearch.Library) -> dict[str, int]:
    return {tag.name: tag.pictures for tag in library.tags()}


def names_of(found: list[xsearch.Tagged]) -> set[str]:
    return {one.path.name for one in found if one.path}


# What a run stores


def test_a_run_stores_each_label_that_fits_with_its_probability(filled: xsearch.Library) -> None:
    report = filled.tag(LABELS, min_score=0.0)
    assert (report.pictures, report.tagged, report.stored) == (COUNT, COUNT, True)
    assert report.tags == counts(filled) == dict.fromkeys(LABELS, COUNT)
    for one in filled.classify(LABELS, multi=True):
        for label in one.labels:
            assert (one.id, label.name) in {(id_, name) for id_, name, _ in stored(filled)}
            (found,) = [tag for tag in filled.tagged(label.name) if tag.id == one.id]
            assert found.score == pytest.approx(label.probability, abs=1e-6)
            assert found.path == one.path


def test_labels_below_the_least_probability_are_left_out(filled: xsearch.Library) -> None:
    every = [
        label.probability for one in filled.classify("red", multi=True) for label in one.labels
    ]
    edge = sorted(every)[COUNT // 2]
    assert filled.tag("red", min_score=edge).tagged == sum(value >= edge for value in every) == 5
    found = [tag.score for tag in filled.tagged("red")]
    assert found == sorted((value for value in every if value >= edge), reverse=True)
    assert filled.tag("red", min_score=1.0).tags == {"red": 0}
    assert filled.tags() == []


def test_a_picture_has_at_most_so_many_tags_the_most_probable_ones(filled: xsearch.Library) -> None:
    best = {one.id: one.labels[0].name for one in filled.classify(LABELS, multi=True)}
    filled.tag(LABELS, min_score=0.0, top=1)
    assert {id_: name for id_, name, _ in stored(filled)} == best
    filled.tag(LABELS, min_score=0.0, top=7)
    assert len(stored(filled)) == 3 * COUNT


def test_a_dry_run_counts_and_stores_nothing_and_waits_for_nobody(filled: xsearch.Library) -> None:
    with writer_lock(filled.path, "xsearch index", wait=0):
        report = filled.tag(LABELS, min_score=0.0, dry_run=True, wait=0)
        assert (report.tagged, report.stored) == (COUNT, False)
        with pytest.raises(xsearch.LibraryLockedError):
            filled.tag(LABELS, wait=0)
    assert stored(filled) == set()


def test_progress_ends_with_all_pictures(filled: xsearch.Library) -> None:
    told: list[Progress] = []
    filled.tag(LABELS, progress=told.append)
    assert (told[-1].stage, told[-1].done, told[-1].total) == ("tag", COUNT, COUNT)


def test_chunks_give_what_one_piece_gives(
    filled: xsearch.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.tag(LABELS, min_score=0.0, top=2)
    whole = stored(filled)
    monkeypatch.setattr("xsearch.labels.ROWS", 2)
    filled.tag(LABELS, min_score=0.0, top=2)
    found = {(id_, name): score for id_, name, score in stored(filled)}
    assert found == pytest.approx({(id_, name): score for id_, name, score in whole}, abs=1e-6)
    assert [one.id for one in filled.classify("red")] == sorted(ids(filled).values())


def test_a_library_without_pictures_has_nothing_to_tag(library: xsearch.Library) -> None:
    report = library.tag(LABELS)
    assert (report.pictures, report.tagged, report.tags) == (0, 0, dict.fromkeys(LABELS, 0))
    assert list(library.classify(LABELS)) == [] and library.tags() == []


@pytest.mark.parametrize(
    "wrong", [{"labels": []}, {"labels": "a", "min_score": 1.5}, {"labels": "a", "top": 0}]
)
def test_wrong_use_is_refused(filled: xsearch.Library, wrong: dict[str, Any]) -> None:
    with pytest.raises(xsearch.UsageError):
        filled.tag(**wrong)


# Again


def test_a_second_run_replaces_the_first_of_the_same_labels(filled: xsearch.Library) -> None:
    filled.tag(["red", "green"], min_score=0.0)
    filled.tag(["green", "blue"], min_score=1.0)
    assert counts(filled) == {"red": COUNT}
    filled.tag(["red"], min_score=0.0)
    filled.tag(["red"], min_score=0.0)
    assert len(stored(filled)) == COUNT


def test_new_pictures_get_their_tags_with_the_next_run(
    filled: xsearch.Library, photos: Path
) -> None:
    filled.tag("red", min_score=0.0)
    write_pictures(photos, 2, first=COUNT)
    filled.index()
    assert counts(filled) == {"red": COUNT}
    filled.tag("red", min_score=0.0)
    assert counts(filled) == {"red": COUNT + 2}


def test_tags_given_by_hand_are_never_replaced(filled: xsearch.Library, photos: Path) -> None:
    assert filled.add_tag(" my  red ", photos / "003.jpg") == 1
    assert filled.add_tag("red", [photos / "001.jpg", photos / "002.jpg"]) == 2
    filled.tag(["red", "my red"], min_score=0.0)
    assert {tag.name: (tag.pictures, tag.by_hand) for tag in filled.tags()} == {
        "my red": (COUNT, 1),
        "red": (COUNT, 2),
    }
    assert names_of(filled.tagged("red")[:2]) == {"001.jpg", "002.jpg"}
    filled.tag(["red", "my red"], min_score=1.0)
    assert counts(filled) == {"my red": 1, "red": 2}
    assert {score for _, _, score in stored(filled)} == {None}


def test_a_tag_of_a_run_becomes_one_by_hand(filled: xsearch.Library, photos: Path) -> None:
    filled.tag("red", min_score=0.0)
    assert filled.add_tag("red", photos) == filled.add_tag("red", photos) == COUNT
    assert [(tag.pictures, tag.by_hand) for tag in filled.tags()] == [(COUNT, COUNT)]


# By hand


def test_folders_roots_and_what_contains_them_are_tagged_whole(
    library: xsearch.Library, tmp_path: Path
) -> None:
    one, other = tmp_path / "some" / "one", tmp_path / "some" / "other"
    write_pictures(one / "a_b", 2)
    write_pictures(one / "axb", 2, first=2)
    write_pictures(other, 1, first=4)
    single = write_picture(tmp_path / "single.jpg", 5)
    library.index([one, other, single])
    assert library.add_tag("under", one / "a_b") == 2
    assert library.add_tag("root", one) == 4
    assert library.add_tag("both", tmp_path / "some") == 5
    assert library.add_tag("single", single) == 1
    assert library.add_tag("all", [tmp_path, single]) == 6
    assert library.remove_tag("all", one / "axb") == 2
    assert library.remove_tag("all") == 4 and library.remove_tag("all") == 0
    assert counts(library) == {"both": 5, "root": 4, "single": 1, "under": 2}


def test_a_place_without_pictures_is_named_and_nothing_is_tagged(
    filled: xsearch.Library, photos: Path
) -> None:
    for nothing in (photos / "nowhere.jpg", photos / "000.txt", photos.parent / "elsewhere"):
        with pytest.raises(xsearch.SourceError, match=nothing.name):
            filled.add_tag("x", [photos / "001.jpg", nothing])
        with pytest.raises(xsearch.SourceError, match=nothing.name):
            filled.remove_tag("x", nothing)
    assert filled.tags() == []
    with pytest.raises(xsearch.UsageError):
        filled.add_tag(" ", photos)


def test_pictures_of_equal_content_have_their_tags_in_common(
    library: xsearch.Library, photos: Path
) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_picture(photos / name, 1)
    library.index(photos)
    assert library.add_tag("x", photos) == 1
    assert library.remove_tag("x", photos / "b.jpg") == 1


# Nothing by halves


def test_what_interrupts_a_run_leaves_the_tags_as_they_were(filled: xsearch.Library) -> None:
    filled.tag(["red", "green"], min_score=0.0)
    before = stored(filled)

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.tag(LABELS, min_score=0.5, progress=stop)
    assert stored(filled) == before
    filled.tag(LABELS, min_score=1.0, wait=0)
    assert stored(filled) == set()


def job_replace(say: Say, library: str, go_on: str) -> None:
    """Replace the scores of two labels; stops between them until told to go on."""

    def found() -> Iterator[tuple[Any, Any, str]]:
        yield np.array([1, 2]), np.array([0.25, 0.75], np.float32), "red"
        say("half")
        await_file(Path(go_on))
        yield np.array([1]), np.array([0.5], np.float32), "green"

    with writer_lock(Path(library), "xsearch tag", wait=0), Catalog(Path(library)) as catalog:
        replace_scores(catalog, ["red", "green"], found())


def test_a_killed_run_leaves_the_tags_as_they_were(
    filled: xsearch.Library, children: Nursery, tmp_path: Path
) -> None:
    filled.tag(["red", "green"], min_score=0.0)
    before, shown = stored(filled), counts(filled)
    arguments = {"library": filled.path, "go_on": tmp_path / "go on"}
    child = children.start("test_tags.job_replace", **arguments)
    child.until("half")
    assert stored(filled) == before and counts(filled) == shown
    child.kill()
    assert stored(filled) == before and counts(filled) == shown
    (tmp_path / "go on").touch()
    children.start("test_tags.job_replace", **arguments).result()
    assert stored(filled) == {(1, "red", 0.25), (2, "red", 0.75), (1, "green", 0.5)}
    assert filled.check().ok


# Pictures that go, encoders that change


def test_tags_of_deleted_pictures_are_not_shown_and_go_when_space_is_given_back(
    filled: xsearch.Library, photos: Path
) -> None:
    filled.tag("red", min_score=0.0)
    filled.add_tag("mine", photos / "004.jpg")
    kept = (photos / "004.jpg").read_bytes()
    (photos / "004.jpg").unlink()
    filled.index()
    assert counts(filled) == {"red": COUNT - 1}
    assert len(filled.tagged("red")) == COUNT - 1 and filled.tagged("mine") == []
    (photos / "004.jpg").write_bytes(kept)
    filled.index()
    assert counts(filled) == {"mine": 1, "red": COUNT}
    (photos / "004.jpg").unlink()
    filled.index()
    filled.tag("red", min_score=0.0)
    assert counts(filled) == {"red": COUNT - 1}
    filled.compact()
    assert len(stored(filled)) == COUNT - 1
    assert filled.check().ok


def test_a_removed_root_takes_its_tags_along(filled: xsearch.Library, photos: Path) -> None:
    filled.tag("red", min_score=0.0)
    filled.remove(photos)
    assert filled.tags() == []
    filled.compact()
    assert stored(filled) == set()


def test_tags_survive_a_move_a_compaction_and_another_encoder(
    filled: xsearch.Library, photos: Path
) -> None:
    filled.tag("red", min_score=0.0)
    filled.add_tag("mine", photos / "001.jpg")
    (photos / "001.jpg").rename(photos / "moved.jpg")
    filled.index()
    filled.compact()
    before = stored(filled)
    with xsearch.open(filled.path) as opened:
        opened.reindex(ColourEncoder("0ther", "other", 2))
        opened.compact()
        assert stored(opened) == before
        assert names_of(opened.tagged("mine")) == {"moved.jpg"}
    with xsearch.open(filled.path, encoder=ColourEncoder("0ther", "other", 2)) as opened:
        assert opened.tag("red", min_score=0.0).tagged == COUNT
        assert {row for row in stored(opened) if row[1] == "mine"} <= before
        assert stored(opened) != before


def test_of_two_encoders_the_one_that_was_asked_for_decides(filled: xsearch.Library) -> None:
    other = ColourEncoder("0ther", "other", 2)
    filled.reindex(other, switch=False)
    own = {one.id: one.none for one in filled.classify(LABELS)}
    with xsearch.open(filled.path, encoder=other) as opened:
        theirs = {one.id: one.none for one in opened.classify(LABELS)}
    assert own.keys() == theirs.keys() and own != theirs


def test_an_encoder_without_vectors_is_refused(filled: xsearch.Library) -> None:
    with (
        open_colour(filled.path, "another") as opened,
        pytest.raises(xsearch.EncoderMismatchError),
    ):
        opened.tag("red")


def test_the_library_may_be_used_while_its_pictures_are_classified(
    filled: xsearch.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xsearch.labels.ROWS", 2)
    seen = 0
    for one in filled.classify(LABELS, top=1):
        filled.search("red", k=1)
        filled.compact()
        assert one.path is not None and one.path.exists() and len(one.labels) == 1
        seen += 1
    assert seen == COUNT


# The built-in encoder, and the command


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell whose user has indexed the sample photographs."""
    folder = tmp_path_factory.mktemp("tags")
    shell = Shell(folder / "home", folder / "here")
    write_demo_photos(shell.here / "photos")
    shell.run("index", "photos")
    return shell


def test_sample_photographs_are_tagged_with_what_they_show(indexed: Shell) -> None:
    wanted = ["--labels", "cat,cup of coffee,motorcycle,swimming pool"]
    dry = indexed.run("tag", *wanted, "--dry-run", "--json")
    assert indexed.run("tag", "--list").stdout == ""
    (report,) = rows(indexed.run("tag", *wanted, "--json"))
    assert report["tags"] == {"cat": 1, "cup of coffee": 1, "motorcycle": 1, "swimming pool": 0}
    assert rows(dry)[0]["tags"] == report["tags"] and not rows(dry)[0]["stored"]
    (cat,) = rows(indexed.run("tag", "--show", "cat", "--json"))
    assert cat["path"] == str(indexed.here / "photos" / "chelsea.png")
    assert 0.5 <= float(str(cat["score"])) <= 1
    shown = indexed.run("tag", "--show", "cup of coffee").stdout.split()
    assert shown[1:] == ["photos/coffee.png"]


def test_tags_by_hand_on_the_command_line(indexed: Shell) -> None:
    done = indexed.run("tag", "--add", "best of", "photos/moon.png", "photos/page.png")
    assert done.stdout == "tagged: 2 pictures (the files themselves are untouched)\n"
    header, line = indexed.run("tag", "--list").stdout.splitlines()[:2]
    assert header.split() == ["tag", "pictures", "by", "hand"]
    assert line.split() == ["best", "of", "2", "2"]
    assert "hand  photos/moon.png" in indexed.run("tag", "--show", "best of").stdout.splitlines()
    (one,) = rows(indexed.run("tag", "--remove", "best of", "photos/moon.png", "--json"))
    assert one == {"removed": 1}
    listed = rows(indexed.run("tag", "--list", "--json"))
    assert {"name": "best of", "pictures": 1, "by_hand": 1} in listed
    assert "1 picture " in indexed.run("tag", "--remove", "best of").stdout
    assert "--list" in indexed.run("tag", "--show", "best of").stderr


def test_a_table_says_how_many_pictures_have_each_tag(indexed: Shell) -> None:
    options = ["--min-score", "0.9", "--top", "1", "--template", "a photo of a {}."]
    done = indexed.run("tag", "--labels", '"cat, sitting",rocket', *options, "--dry-run")
    header, first, second, last = done.stdout.splitlines()
    assert header.split() == ["tag", "pictures"]
    assert first.startswith("cat, sitting") and second.startswith("rocket")
    assert "of 15 pictures would be tagged" in last


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((), 2, "one thing"),
        (("--labels", "a", "--list"), 2, "one thing"),
        (("--labels", "a", "photos"), 2, "--add or --remove"),
        (("--add", "x"), 2, "which pictures"),
        (("--add", "x", "nowhere"), 1, "nowhere"),
        (("--labels", ","), 2, "no labels"),
    ],
)
def test_wrong_use_of_the_command_is_one_line(
    indexed: Shell, words: tuple[str, ...], code: int, why: str
) -> None:
    (line,) = indexed.run("tag", *words, code=code).stderr.splitlines()
    assert why in line
