"""Items are found by words: how texts are cut, and that documents follow every change."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import age, open_colour, picture, write_picture, write_pictures, write_text

import xsearch
from xsearch.core.words import joined, split_humps, tokens
from xsearch.indexer import documents
from xsearch.indexer.reader import Reader, Snapshot
from xsearch.retrieval.words import MAX_TERMS, WordHits, find, terms

COMMAND = "xsearch.indexer.words"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[xsearch.Library]:
    with open_colour(tmp_path / "library") as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def hits(library: xsearch.Library, text: str, *phrases: str) -> WordHits | None:
    reader = Reader(library.path)
    try:
        with reader.snapshot() as snapshot:
            return find(snapshot, text, phrases)
    finally:
        reader.close()


def found(library: xsearch.Library, text: str, *phrases: str) -> set[str]:
    """What is found by words: texts, and the names of pictures' first files."""
    answer = hits(library, text, *phrases)
    assert answer is not None
    return named(library, answer.ids)


def named(library: xsearch.Library, ids: Iterable[int]) -> set[str]:
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        names = dict(
            catalog.execute(
                "SELECT i.id, coalesce(i.text, (SELECT name FROM files WHERE item_id = i.id"
                " AND missing_since IS NULL ORDER BY id)) FROM items i"
            ).fetchall()
        )
    return {names[int(id_)] for id_ in ids}


def assert_true(library: xsearch.Library) -> None:
    """Every document is what it would be if it were made now."""
    before = all_documents(library)
    report = library.check()
    assert report.ok and not [what for what in report.repaired if "words" in what]
    assert all_documents(library) == before


def all_documents(library: xsearch.Library) -> dict[int, str]:
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        return dict(catalog.execute("SELECT rowid, text FROM words").fetchall())


# How texts are cut


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IMG_2041.jpg", "img 2041 jpg"),
        ("img2041", "img 2041"),
        ("Müller, Straße: été!", "muller strasse ete"),
        ("e\u0301te\u0301", "ete"),
        ("ＦＵＬＬ ①", "full 1"),
        ("草地上的狗", "草 地 上 的 狗"),
        ("カﾞ ガ が", "ガ ガ が"),
        ("학교에서", "학 교 에 서"),
        ("ไทย", "ไ ท ย"),
        ("手机iPhone12壳", "手 机 iphone 12 壳"),
        ("हिन्दी २०१९", "हिन्दी 2019"),
        ("كِتَابٌ آب", "كتاب اب"),
        ("❤️ 👍🏽", "❤ 👍"),
        ("кой", "кои"),
        ("\ud800 \ue000 \0 -- \x1f", ""),
    ],
)
def test_a_text_is_cut_into_words(text: str, words: str) -> None:
    assert " ".join(tokens(text)) == words


@settings(deadline=None)
@given(st.text())
def test_cutting_words_again_changes_nothing(text: str) -> None:
    once = tokens(text)
    assert tokens(" ".join(once)) == once
    assert not any(char.isspace() or char in '"\ue000\0' for word in once for char in word)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BlueSkyHDRPhoto", "Blue Sky HDR Photo"),
        ("iPhone", "i Phone"),
        ("ÉtéÀParis", "Été À Paris"),
        ("blue sky", "blue sky"),
        ("DSC_0001", "DSC_0001"),
        ("", ""),
    ],
)
def test_capitals_inside_a_name_begin_words(name: str, words: str) -> None:
    assert split_humps(name) == words


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a dog on the grass", [("dog",), ("grass",)]),
        ("to be or not to be", [("to",), ("be",), ("or",), ("not",)]),
        ("don't dogs", [("dogs",)]),
        ("IMG2041 img_2041", [("img", "2041"), ("img",), ("2041",)]),
        ("狗", [("狗",)]),
        ("草地上的狗", [("草", "地"), ("地", "上"), ("狗",)]),
        ("的", [("的",)]),
        ("학교에서", [("학", "교"), ("교", "에"), ("에", "서")]),
        ("dog Dog DOG", [("dog",)]),
        ("?!", []),
    ],
)
def test_a_query_is_looked_up_by_its_content_words(
    query: str, expected: list[tuple[str, ...]]
) -> None:
    assert terms(query) == expected


def test_of_a_long_query_only_so_many_terms_are_looked_up() -> None:
    assert len(terms(" ".join(f"word{'x' * at}" for at in range(1_000)))) == MAX_TERMS


# What is found


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xsearch.Library]:
    """A library of some texts in several languages, which no test changes."""
    folder = tmp_path_factory.mktemp("texts")
    lines = (
        *("A brown dog runs on the grass", "Two dogs running", "The cat sat", "to be or not to be"),
        *(
            "一只狗在草地上奔跑",
            "猫",
            "東京タワーの夜景",
            "학교에서 만나요",
            "แมวกินปลา",
            "Ein Hund im Grünen",
        ),
        *("running shoes, brown", "invoice img2041", "a party 🎉", "日本語"),
    )
    path = write_text(folder / "texts.txt", "\n".join(lines))
    with open_colour(folder / "library") as library:
        library.index(path)
        yield library


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("dog", {"A brown dog runs on the grass", "Two dogs running"}),
        ("DOGS", {"A brown dog runs on the grass", "Two dogs running"}),
        ("the", {"A brown dog runs on the grass", "The cat sat"}),
        ("grunen", {"Ein Hund im Grünen"}),
        ("狗", {"一只狗在草地上奔跑"}),
        ("草地", {"一只狗在草地上奔跑"}),
        ("地草", set()),
        ("猫", {"猫"}),
        ("夜景", {"東京タワーの夜景"}),
        ("タワー", {"東京タワーの夜景"}),
        ("語", {"日本語"}),
        ("학교", {"학교에서 만나요"}),
        ("ปลา", {"แมวกินปลา"}),
        ("🎉", {"a party 🎉"}),
        ("IMG_2041", {"invoice img2041"}),
        ("2041", {"invoice img2041"}),
        ("204", set()),
        ("zebra", set()),
    ],
)
def test_words_are_found(texts: xsearch.Library, query: str, expected: set[str]) -> None:
    assert found(texts, query) == expected


def test_more_and_rarer_words_cover_more_of_a_query(texts: xsearch.Library) -> None:
    answer = hits(texts, "brown dog shoes")
    assert answer is not None and answer.ids.dtype == np.int64
    assert answer.coverage.dtype == np.float32 and (np.diff(answer.ids) > 0).all()
    coverage = {
        text: float(share)
        for id_, share in zip(answer.ids.tolist(), answer.coverage, strict=True)
        for text in named(texts, [id_])
    }
    both, rare = "A brown dog runs on the grass", "running shoes, brown"
    assert 1 > coverage[rare] > coverage[both] > coverage["Two dogs running"] > 0
    whole = hits(texts, "brown dog")
    assert whole is not None and whole.coverage.max() == 1
    unknown = hits(texts, "cat zebra")
    assert unknown is not None and 0 < unknown.coverage.max() < 0.5


def test_a_phrase_must_be_there_as_it_stands(texts: xsearch.Library) -> None:
    assert found(texts, "", "brown dog") == {"A brown dog runs on the grass"}
    assert found(texts, "", "dog brown") == set()
    assert found(texts, "dogs running", "the GRASS") == {"A brown dog runs on the grass"}
    assert found(texts, "", "to be or not") == {"to be or not to be"}
    assert found(texts, "", "brown", "shoes") == {"running shoes, brown"}
    assert found(texts, "", "一只狗", "奔跑") == {"一只狗在草地上奔跑"}


def test_a_query_without_words_is_none(texts: xsearch.Library) -> None:
    for query in ("", " ", "?!", "\ud800", "\0", "--", '"', "*", "()"):
        assert hits(texts, query) is None
        assert hits(texts, query, query) is None


@pytest.mark.parametrize(
    "query",
    ['"', "dog*", "NEAR(dog cat)", "dog AND cat", "NOT dog", "text:dog", "^dog", "{dog}", "dog'--"],
)
def test_a_query_is_never_taken_for_syntax(texts: xsearch.Library, query: str) -> None:
    answer = hits(texts, query)
    assert (answer is None) == ("dog" not in query)
    if answer is not None:
        assert {"Two dogs running", "A brown dog runs on the grass"} <= named(texts, answer.ids)
    hits(texts, query, query)


def test_a_very_long_phrase_is_looked_up(texts: xsearch.Library) -> None:
    assert found(texts, "", "brown dog " * 20_000) == set()
    assert found(texts, "", "x" * 100_000) == set()


class _Memory:
    """A words index in memory, with one document."""

    def __init__(self, text: str) -> None:
        from xsearch.indexer.sqlite import CREATE_WORDS

        self.connection = sqlite3.connect(":memory:")
        self.connection.execute(CREATE_WORDS)
        rows = [(7, joined([text])), (8, joined(["another document"]))]
        self.connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", rows)

    def find(self, text: str, *phrases: str) -> WordHits | None:
        return find(Snapshot(self.connection), text, phrases)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20))
def test_any_text_finds_the_document_that_holds_it(text: str, before: str, after: str) -> None:
    memory = _Memory(f"{before} {text} {after}")
    words = tokens(text)
    answer = memory.find(text)
    assert (answer is None) == (not words)
    if answer is not None:
        assert answer.ids[0] == 7 and answer.coverage[0] == 1
    phrase = memory.find("", text)
    assert (phrase is None) == (not words)
    if phrase is not None:
        assert 7 in phrase.ids.tolist()


# What documents are made of


def test_a_picture_is_found_by_the_names_of_its_file_and_folders(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "Italy 2019" / "oldTown" / "BlueSky_IMG2041.jpg", 1)
    write_picture(photos / "other.jpg", 2)
    library.index(photos)
    for query in (
        "italy",
        "2019",
        "old town",
        "blue sky",
        "bluesky",
        "img_2041",
        "IMG2041",
        "2041",
    ):
        assert "BlueSky_IMG2041.jpg" in found(library, query), query
    assert found(library, "photos") == {"BlueSky_IMG2041.jpg", "other.jpg"}
    assert hits(library, "", "2019 old") is not None and not found(library, "", "2019 old")
    assert found(library, "jpg") == set()
    assert_true(library)


def test_a_picture_is_found_by_what_its_file_says(library: xsearch.Library, photos: Path) -> None:
    exif = piexif.dump(
        {
            "0th": {
                piexif.ImageIFD.Make: b"Canon",
                piexif.ImageIFD.Model: b"EOS 5D",
                piexif.ImageIFD.ImageDescription: b"two boats in the harbour",
                piexif.ImageIFD.XPKeywords: "Ferien;Grüne Küste".encode("utf-16-le"),
            },
            "Exif": {piexif.ExifIFD.LensModel: b"Sigma 24mm"},
        }
    )
    photos.mkdir()
    picture(1).save(photos / "a.jpg", exif=exif)
    write_picture(photos / "b.jpg", 2)
    library.index(photos)
    for query in ("canon eos", "sigma", "kuste", "ferien"):
        assert found(library, query) == {"a.jpg"}, query
    assert found(library, "boat") == {"a.jpg", "two boats in the harbour"}
    assert found(library, "", "ferien grüne") == set()
    assert_true(library)


def test_a_picture_is_found_by_its_sidecar_while_that_is_there(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "a.jpg", 1)
    sidecar = write_text(photos / "a.txt", "a windmill\na canal")
    library.index(photos)
    assert found(library, "windmill") == {"a.jpg", "a windmill"}
    age(write_text(sidecar, "a lighthouse\na canal"), 10)
    library.index(photos)
    assert found(library, "windmill") == set()
    assert found(library, "lighthouse") == {"a.jpg", "a lighthouse"}
    assert_true(library)
    sidecar.unlink()
    library.index(photos)
    assert found(library, "lighthouse canal") == set()
    assert_true(library)
    write_text(sidecar, "a lighthouse\na canal")
    library.index(photos)
    assert found(library, "lighthouse") == {"a.jpg", "a lighthouse"}
    assert_true(library)


def test_a_sidecar_that_comes_back_unchanged_is_found_again(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    write_picture(photos / "a.jpg", 1)
    sidecar = write_text(photos / "a.txt", "a windmill")
    library.index(photos)
    away = tmp_path / "a.txt"
    sidecar.rename(away)
    library.index(photos)
    assert found(library, "windmill") == set()
    away.rename(sidecar)
    library.index(photos)
    assert found(library, "windmill") == {"a.jpg", "a windmill"}
    assert_true(library)


def test_a_picture_is_found_by_the_row_that_names_it(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    table = write_text(tmp_path / "table.csv", "text,image\na red barn,photos/a.jpg\n")
    library.index(table)
    assert found(library, "barn") == {"a red barn"}
    write_picture(photos / "a.jpg", 1)
    library.index(photos)
    assert found(library, "barn") == {"a red barn", "a.jpg"}
    assert_true(library)
    table.unlink()
    library.remove(table)
    assert found(library, "barn") == set()
    assert_true(library)


def test_a_moved_file_is_found_by_its_new_name_alone(
    library: xsearch.Library, photos: Path
) -> None:
    path = write_picture(photos / "spring" / "tulip.jpg", 1)
    library.index(photos)
    (photos / "autumn").mkdir()
    path.rename(photos / "autumn" / "leaf.jpg")
    report = library.index(photos)
    assert report.moved == 1 and report.embedded == 0
    assert found(library, "tulip spring") == set()
    assert found(library, "leaf") == found(library, "autumn") == {"leaf.jpg"}
    assert_true(library)


def test_a_picture_is_found_by_each_of_its_files(library: xsearch.Library, photos: Path) -> None:
    first = write_picture(photos / "first.jpg", 1)
    shutil.copy2(first, photos / "second.jpg")
    library.index(photos)
    assert found(library, "first") == found(library, "second") == {"first.jpg"}
    first.unlink()
    library.index(photos)
    assert found(library, "first") == set()
    assert found(library, "second") == {"second.jpg"}
    assert_true(library)


def test_an_edited_picture_is_another(library: xsearch.Library, photos: Path) -> None:
    path = write_picture(photos / "a.jpg", 1)
    library.index(photos)
    age(write_picture(path, 2), 10)
    library.index(photos)
    answer = hits(library, "a photos")
    assert answer is not None and len(answer.ids) == 1
    assert_true(library)


def test_what_is_deleted_has_no_document(library: xsearch.Library, photos: Path) -> None:
    paths = write_pictures(photos, 3)
    library.index(photos)
    paths[0].unlink()
    library.index(photos)
    assert len(all_documents(library)) == 2
    library.compact()
    assert found(library, "photos") == {"001.jpg", "002.jpg"}
    assert_true(library)
    library.remove(photos)
    assert all_documents(library) == {}
    library.compact()
    assert_true(library)


def test_a_root_that_was_renamed_is_found_by_its_new_name(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    photos.rename(tmp_path / "pictures")
    assert library.index(tmp_path / "pictures").embedded == 0
    assert found(library, "photos") == set()
    assert len(found(library, "pictures")) == 3
    assert_true(library)


def test_a_root_inside_a_new_one_is_found_by_its_path_from_there(
    library: xsearch.Library, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "family" / "holiday" / "rome", 2)
    library.index(tmp_path / "family" / "holiday" / "rome")
    assert found(library, "family") == set()
    library.index(tmp_path / "family")
    assert len(found(library, "family")) == len(found(library, "holiday")) == 2
    assert_true(library)


def test_tags_are_words(library: xsearch.Library, photos: Path) -> None:
    paths = write_pictures(photos, 3)
    library.index(photos)
    library.add_tag("Lighthouse", [paths[0], paths[1]])
    assert found(library, "lighthouses") == {"000.jpg", "001.jpg"}
    library.remove_tag("Lighthouse", [paths[0]])
    assert found(library, "lighthouse") == {"001.jpg"}
    assert_true(library)
    library.remove_tag("Lighthouse")
    assert found(library, "lighthouse") == set()
    assert_true(library)


def test_tags_of_labels_are_words_until_the_next_run_says_otherwise(
    library: xsearch.Library, photos: Path
) -> None:
    from xsearch.indexer.catalog import Catalog
    from xsearch.indexer.tags import replace_scores

    write_pictures(photos, 3)
    library.index(photos)
    (first, second, third) = sorted(all_documents(library))

    def run(*ids: int) -> None:
        scores = np.full(len(ids), 0.9, np.float32)
        with Catalog(library.path) as catalog:
            replace_scores(catalog, ["boat"], [(np.array(ids, np.int64), scores, "boat")])

    run(first, second)
    assert found(library, "boat") == {"000.jpg", "001.jpg"}
    run(second, third)
    assert found(library, "boat") == {"001.jpg", "002.jpg"}
    assert_true(library)
    run()
    assert found(library, "boat") == set()
    assert_true(library)


# The index as a whole


def forget_documents(library: xsearch.Library, where: str = "true") -> None:
    """Make the library one of before there was a words index, or one half way through."""
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog, catalog:
        catalog.execute(f"DELETE FROM words WHERE {where}")
        catalog.execute("UPDATE library SET words_version = NULL")


def test_the_next_run_makes_the_documents_of_an_older_library(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 5)
    library.index(photos)
    before = all_documents(library)
    forget_documents(library)
    assert found(library, "photos") == set()
    assert library.index().unchanged == 5
    assert all_documents(library) == before
    assert_true(library)


def test_making_documents_goes_on_where_it_was_interrupted(
    library: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{COMMAND}._CHUNK", 2)
    write_pictures(photos, 7)
    library.index(photos)
    before = all_documents(library)
    forget_documents(library)

    def interrupt(progress: xsearch.Progress) -> None:
        if progress.stage == "words" and progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.index(progress=interrupt)
    assert all_documents(library) == dict(list(before.items())[:4])
    written = []
    monkeypatch.setattr(
        f"{COMMAND}.refresh_documents",
        lambda connection, ids: written.extend(ids) or documents.refresh_documents(connection, ids),
    )
    library.index()
    assert all_documents(library) == before
    assert sorted(written) == list(before)[4:]


def test_another_way_of_making_documents_makes_them_anew(
    library: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 2)
    library.index(photos)
    monkeypatch.setattr(documents, "joined", lambda fields: "new")
    library.index()
    assert "new" not in all_documents(library).values()
    monkeypatch.setattr(f"{COMMAND}.VERSION", documents.VERSION + 1)
    library.index()
    assert set(all_documents(library).values()) == {"new"}


def test_check_puts_documents_right_and_says_so(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    before = all_documents(library)
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE words SET text = 'nonsense' WHERE rowid = 1")
        catalog.execute("DELETE FROM words WHERE rowid = 2")
        catalog.execute("INSERT INTO words (rowid, text) VALUES (99, 'nobody')")
    report = library.check()
    assert "the words index: 3 documents were out of date" in report.repaired
    assert all_documents(library) == before
    assert_true(library)


def test_check_makes_a_damaged_index_anew(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    before = all_documents(library)
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE words_content SET c0 = 'zebra' WHERE id = 1")
    report = library.check()
    assert "the words index was damaged, and was made anew" in report.repaired
    assert all_documents(library) == before and len(found(library, "photos")) == 3
    assert_true(library)


def test_an_unchanged_library_is_not_written_to_by_a_comparison(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 3)
    library.index(photos)
    library.check()
    reader = Reader(library.path)
    with reader.snapshot() as snapshot:
        before = snapshot.revision()
    library.check()
    with reader.snapshot() as snapshot:
        assert snapshot.revision() == before
    reader.close()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("nrdtcx"), st.integers(0, 2)), min_size=3, max_size=7))
def test_documents_are_true_after_any_changes(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    photos = folder / "photos"
    photos.mkdir()
    with open_colour(folder / "library") as library:
        library.index(photos)
        for at, (change, which) in enumerate(changes):
            path = photos / f"p{which}.png"
            if change == "n":
                age(write_picture(path, 100 * which + at), at)
            elif change == "t":
                age(write_text(path.with_suffix(".txt"), f"caption {at % 3}"), at)
            elif change == "c" and path.exists():
                shutil.copy2(path, photos / f"copy{which}.png")
            elif change == "r" and path.exists():
                (photos / "sub").mkdir(exist_ok=True)
                path.replace(photos / "sub" / f"moved{at % 2}.png")
            elif change == "d":
                path.unlink(missing_ok=True)
            elif change == "x":
                path.with_suffix(".txt").unlink(missing_ok=True)
            library.index(photos)
        write_picture(photos / "last.png", 9_999)
        library.index(photos)
        assert_true(library)
        assert found(library, "last") == {"last.png"}
