"""Searching by words and meaning together, with examples, cuts and variety, in real libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from support import (
    ALL,
    ColourEncoder,
    age,
    ids,
    open_colour,
    paths_of,
    picture,
    write_picture,
    write_pictures,
    write_text,
)

import xsearch
from xsearch.core.encoder import TextEmbeddings
from xsearch.core.values import Hit
from xsearch.indexer.lock import writer_lock
from xsearch.retrieval.candidates import WORDS_SCORE
from xsearch.retrieval.rank import good_matches
from xsearch.retrieval.search import NOTHING
from xsearch.searching import LIKE, UNLIKE

Query, Part, Image, Item = xsearch.Query, xsearch.Part, xsearch.Image, xsearch.Item


def names(hits: Sequence[Hit]) -> list[str]:
    return [path.name for path in paths_of(hits) if path]


def vector_of(seed: int) -> np.ndarray:
    encoder = ColourEncoder()
    return encoder.embed_images(encoder.preprocess(picture(seed))[None])[0]


def text_vector(text: str) -> np.ndarray:
    return ColourEncoder().embed_texts([text]).vectors[0]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


CAPTIONS = {
    "dog.png": "a brown dog in deep grass",
    "chinese.png": "草地上的狗在跑步",
    "asleep.png": "one dog sleeps",
    "meadow.png": "brown grass, nothing else",
}


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xsearch.Library]:
    """Pictures that are known by a name, folder, caption, tag or keyword among forty that are not.

    Their files' own names say nothing but what a test looks for. Nothing changes it.
    """
    photos = tmp_path_factory.mktemp("album") / "photos"
    write_picture(photos / "zebra.png", 1)
    write_picture(photos / "Lofoten/IMG_2041.png", 2)
    for at, text in enumerate(CAPTIONS.values(), 3):
        write_picture(photos / "captioned" / f"{at}.png", at)
        write_text(photos / "captioned" / f"{at}.txt", text)
    write_picture(photos / "tagged.png", 7)
    exif = {"0th": {piexif.ImageIFD.XPKeywords: "Sonnenblume".encode("utf-16-le")}}
    keyed = write_picture(photos / "keyed.jpg", 8)
    piexif.insert(piexif.dump(exif), str(keyed))
    age(keyed)
    for seed in range(100, 140):
        write_picture(photos / f"{seed}.png", seed)
    with open_colour(photos.parent / "library") as library:
        library.index(photos)
        library.add_tag("birthday", photos / "tagged.png")
        yield library


DOG, CHINESE, ASLEEP, MEADOW = (f"{at}.png" for at in range(3, 7))


# By words


@pytest.mark.parametrize("mode", ["hybrid", "words"])
@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("zebra", "zebra.png"),
        ("a Zebra", "zebra.png"),
        ("img2041", "IMG_2041.png"),
        ("lofoten", "IMG_2041.png"),
        ("sleeps", ASLEEP),
        ("deep grass", DOG),
        ("birthday", "tagged.png"),
        ("sonnenblume", "keyed.jpg"),
        ("草地", CHINESE),
        ("狗", CHINESE),
    ],
)
def test_a_picture_is_found_by_what_is_written_of_it(
    album: xsearch.Library, mode: Any, asked: str, name: str
) -> None:
    assert names(album.search(asked, k=1, mode=mode)) == [name]
    assert album.search(asked, k=1, mode=mode)[0].score >= WORDS_SCORE


def test_meaning_alone_passes_over_words(album: xsearch.Library) -> None:
    found = [hit.similarity for hit in album.search("zebra", ALL, mode="meaning", correct=False)]
    assert found == sorted(found, reverse=True)
    assert len(found) == 48
    by_words = album.search("zebra", 1)[0]
    assert album.search("zebra", 1, mode="meaning")[0].id != by_words.id
    alone = {hit.id: hit.score for hit in album.search("zebra", ALL, mode="meaning")}
    # What words and meaning say of one picture are two pieces of evidence.
    expected = 1 - (1 - alone[by_words.id]) * (1 - WORDS_SCORE)
    assert by_words.score == pytest.approx(expected)


def test_words_alone_find_parts_too_and_put_more_of_them_first(album: xsearch.Library) -> None:
    assert names(album.search("brown dog grass", mode="words")) == [DOG, MEADOW, ASLEEP]
    assert set(names(album.search("dog", mode="words"))) == {DOG, ASLEEP}
    assert album.search("giraffe", mode="words") == []
    assert names(album.search("brown dog grass", 2, mode="words")) == [DOG, MEADOW]


def test_of_pictures_with_the_same_words_the_nearest_comes_first(album: xsearch.Library) -> None:
    every = names(album.search("dog", ALL, mode="meaning"))
    assert names(album.search("dog", mode="words")) == [
        name for name in every if name in (DOG, ASLEEP)
    ]


def test_beside_meaning_some_of_the_words_are_no_evidence(album: xsearch.Library) -> None:
    for asked in ("brown zebra", "sleeps lofoten"):
        assert album.search(asked, ALL) == album.search(asked, ALL, mode="meaning")
        assert len(album.search(asked, ALL, mode="words")) >= 2
    assert set(names(album.search("dog", 2))) == {DOG, ASLEEP}


def test_all_items_come_back_beside_those_with_the_words(album: xsearch.Library) -> None:
    hits = album.search("dog", ALL)
    assert sorted(hit.id for hit in hits) == sorted(ids(album).values())
    assert [hit.rank for hit in hits] == list(range(1, 49))


def test_a_phrase_must_stand_there_as_it_is_quoted(album: xsearch.Library) -> None:
    def found(text: str) -> list[str]:
        return names(album.search(xsearch.parse(text), mode="words"))

    assert found('"brown dog"') == found('"deep grass" dog') == [DOG]
    assert found('"dog brown"') == found('"brown grass" zebra dog "deep"') == []
    assert set(found("dog brown")) == {DOG, ASLEEP, MEADOW}
    # Beside meaning, too.
    assert names(album.search(xsearch.parse('"brown grass"'), 1)) == [MEADOW]


def test_what_is_subtracted_leaves_its_pictures_out_of_those_found_by_words(
    album: xsearch.Library,
) -> None:
    for asked in (
        Query("dog") - "brown",
        xsearch.parse("dog - brown"),
        xsearch.parse("dog without brown"),
    ):
        assert names(album.search(asked, mode="words")) == [ASLEEP]
    # Only what has all of the words that are subtracted.
    both = album.search(Query("dog") - "brown giraffe", mode="words")
    assert set(names(both)) == {DOG, ASLEEP}


def test_a_text_is_found_by_its_words(album: xsearch.Library) -> None:
    hits = album.search("brown grass", mode="words", target="text")
    assert {hit.text for hit in hits} == {CAPTIONS["meadow.png"], CAPTIONS["dog.png"]}
    assert {hit.kind for hit in hits} == {"text"}
    assert album.search("one dog", 1, target="text")[0].text == CAPTIONS["asleep.png"]
    assert album.search("zebra", mode="words", target="text") == []


def test_words_need_words(album: xsearch.Library) -> None:
    for pictures in (Image(picture(1)), Image(picture(1)) - "dog", Item(ids(album)[DOG])):
        with pytest.raises(xsearch.UsageError, match="only pictures"):
            album.search(pictures, mode="words")
    # Signs that are no words find nothing by words, and something by meaning.
    assert album.search("?!", mode="words") == []
    assert len(album.search("?!", 3)) == 3


def test_a_renamed_file_is_found_by_its_new_name_at_once(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 5)
    library.index(photos)
    before = library.search("giraffe", ALL, mode="meaning")
    assert library.search("giraffe", mode="words") == []
    (photos / "003.jpg").rename(photos / "giraffe.jpg")
    assert library.index(photos).moved == 1
    (hit,) = library.search("giraffe", mode="words")
    assert hit.path == photos / "giraffe.jpg"
    assert library.search("giraffe", 1)[0].id == hit.id
    assert library.search("003", mode="words") == []
    after = library.search("giraffe", ALL, mode="meaning")
    assert [(one.id, one.score) for one in after] == [(one.id, one.score) for one in before]


class KnowingEncoder(ColourEncoder):
    """One whose texts, where they end in a number, mean the picture of that seed."""

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        made = super().embed_texts(texts)
        for row, text in enumerate(texts):
            if text.split()[-1].isdecimal():
                made.vectors[row] = vector_of(int(text.split()[-1]))
        return made


def test_where_meaning_is_sure_the_words_of_a_long_query_change_nothing(
    tmp_path: Path, photos: Path
) -> None:
    for seed in range(20):
        write_picture(photos / f"{seed}.png", seed)
    write_text(photos / "5.txt", "we saw tall giraffes grazing 11")
    with xsearch.open(tmp_path / "knowing", encoder=KnowingEncoder("4nowin")) as library:
        library.index(photos)
        sure = "tall giraffes grazing 11"
        assert names(library.search(sure, 1)) == ["11.png"]
        by_meaning = library.search(sure, ALL, mode="meaning")
        assert [hit.id for hit in library.search(sure, ALL)] == [hit.id for hit in by_meaning]
        # Of one or two words, which whoever wrote them meant, they count.
        assert set(names(library.search("giraffes 11", 2))) == {"5.png", "11.png"}
        assert names(library.search("giraffes", 1)) == ["5.png"]


def test_where_no_picture_fits_the_words_of_a_long_query_count(album: xsearch.Library) -> None:
    asked = "brown dog in deep grass"
    assert album.search(asked, 1, mode="meaning")[0].score < 0.25
    assert names(album.search(asked, 1)) == [DOG]


# Cuts


def test_hits_below_the_least_score_are_left_out(album: xsearch.Library) -> None:
    for mode in ("hybrid", "meaning", "words"):
        hits = album.search("brown dog", ALL, mode=mode)  # type: ignore[arg-type]
        for least in (0.0, 0.01, sorted(hit.score for hit in hits)[len(hits) // 2], 0.6, 1.0):
            cut = album.search("brown dog", ALL, mode=mode, min_score=least)  # type: ignore[arg-type]
            assert [hit.id for hit in cut] == [hit.id for hit in hits if hit.score >= least]
            assert [hit.rank for hit in cut] == list(range(1, len(cut) + 1))


def test_a_cut_shows_the_good_matches_and_no_more(album: xsearch.Library) -> None:
    for asked in ("dog", "brown dog", "zebra", Image(picture(3)), "quartz"):
        hits = album.search(asked, ALL)
        good = good_matches(np.array(sorted((hit.score for hit in hits), reverse=True)), NOTHING)
        assert len(album.search(asked, ALL, auto_cut=True)) == good
        assert len(album.search(asked, 1, auto_cut=True)) == min(1, good)
    assert album.search("quartz", auto_cut=True) == []
    assert names(album.search(Image(picture(3)), auto_cut=True)) == [DOG]
    assert names(album.search("zebra", auto_cut=True)) == ["zebra.png"]
    assert set(names(album.search("dog", auto_cut=True))) == {DOG, ASLEEP}


def test_a_cut_and_a_least_score_both_hold(album: xsearch.Library) -> None:
    assert album.search("zebra", auto_cut=True, min_score=1.0) == []
    assert names(album.search("zebra", auto_cut=True, min_score=0.1)) == ["zebra.png"]


# What is not wanted, and variety


@pytest.mark.parametrize("mode", ["hybrid", "meaning", "words"])
def test_what_is_excluded_makes_room_for_the_next(album: xsearch.Library, mode: Any) -> None:
    every = album.search("brown dog", ALL, mode=mode)
    unwanted = [hit.id for hit in every[:2]]
    for narrowed in (None, xsearch.Filters(type=("png", "jpeg"))):
        hits = album.search("brown dog", 5, mode=mode, excluded=unwanted, filters=narrowed)
        assert [hit.id for hit in hits] == [hit.id for hit in every[2:7]]
    assert album.search("brown dog", mode=mode, excluded=[10**9]) == every[:10]


@pytest.fixture
def burst(library: xsearch.Library, photos: Path) -> xsearch.Library:
    """Fifteen shots of one scene and thirty other pictures."""
    for at in range(15):
        write_picture(photos / f"burst{at}.png", 1, (64, 48 + 4 * at))
    for seed in range(100, 130):
        write_picture(photos / f"{seed}.png", seed)
    library.index(photos)
    return library


def test_ten_shots_of_one_scene_do_not_fill_the_page(burst: xsearch.Library) -> None:
    asked = Image(picture(1))
    assert all(name.startswith("burst") for name in names(burst.search(asked)))
    for diversity in (0.5, 0.7):
        found = names(burst.search(asked, diversity=diversity))
        assert len(found) == 10
        assert found[0].startswith("burst")
        assert sum(name.startswith("burst") for name in found) <= 2
    # Everything is still there for those who ask for all.
    assert len(burst.search(asked, ALL, diversity=0.5)) == 45


def test_no_variety_is_the_order_itself(burst: xsearch.Library) -> None:
    every = names(burst.search("anything", ALL))
    assert names(burst.search("anything", ALL, diversity=0.0)) == every
    varied = names(burst.search("anything", ALL, diversity=0.3))
    assert varied != every
    assert sorted(varied) == sorted(every)


def test_k_differing_hits_come_back_though_files_of_many_are_gone(
    burst: xsearch.Library, photos: Path
) -> None:
    for path in paths_of(burst.search("anything", 20, diversity=0.5))[:18]:
        assert path
        path.unlink()
    hits = burst.search("anything", 10, diversity=0.5)
    assert len(hits) == 10
    assert all(path and path.exists() for path in paths_of(hits))


# Examples


def similarities(library: xsearch.Library, query: Any, **options: Any) -> dict[str, float]:
    hits = library.search(query, ALL, mode="meaning", correct=False, **options)
    return {hit.path.name: hit.similarity for hit in hits if hit.path}


def assert_asks_for(album: xsearch.Library, found: dict[str, float], vector: np.ndarray) -> None:
    """The similarities of hits are the cosines to a vector."""
    for seed in (*range(100, 140), 1, 3):
        name = "zebra.png" if seed == 1 else f"{seed}.png"
        assert found[name] == pytest.approx(float(vector_of(seed) @ unit(vector)), abs=2e-3)


def test_good_and_bad_examples_move_the_query(album: xsearch.Library) -> None:
    known = ids(album)
    good, bad = [100, 101], [102, 103, 104]
    moved = similarities(
        album,
        "a picture",
        like=(known[f"{seed}.png"] for seed in good),
        unlike=[known[f"{seed}.png"] for seed in bad],
    )
    means = [np.mean([vector_of(seed) for seed in seeds], axis=0) for seeds in (good, bad)]
    assert_asks_for(album, moved, text_vector("a picture") + LIKE * means[0] - UNLIKE * means[1])
    plain = similarities(album, "a picture")
    assert all(moved[f"{seed}.png"] > plain[f"{seed}.png"] for seed in good)


def test_examples_go_with_a_picture_and_with_words(album: xsearch.Library) -> None:
    known = ids(album)
    like = similarities(album, Image(picture(1)), like=[known[DOG]])
    assert_asks_for(album, like, vector_of(1) + LIKE * vector_of(3))
    # Ids are no words to look for.
    assert names(album.search("zebra", 1, like=[known["100.png"]])) == ["zebra.png"]


@pytest.mark.parametrize("where", ["like", "unlike"])
@pytest.mark.parametrize("wrong", [10**9, 0, -1, 2**63, "7", 1.5])
def test_an_example_that_is_not_there_is_an_error(
    album: xsearch.Library, where: str, wrong: Any
) -> None:
    with pytest.raises(xsearch.UsageError, match=str(wrong)):
        album.search("a picture", **{where: [wrong]})


def test_similar_pictures_are_those_near_one_without_itself(album: xsearch.Library) -> None:
    every = album.search(Item(ids(album)[DOG]), ALL)
    assert names(every[:1]) == [DOG]
    assert every[0].similarity == pytest.approx(1, abs=1e-3)
    expected = [(hit.id, hit.similarity) for hit in every[1:]]
    root = album.path.parent / "photos"
    for one in (ids(album)[DOG], root / "captioned" / DOG, str(root / "captioned" / DOG)):
        hits = album.similar(one, ALL)
        assert [(hit.id, hit.similarity) for hit in hits] == expected
        assert [hit.rank for hit in hits] == list(range(1, 48))
        assert [hit.id for hit in album.similar(one, 3)] == [hit.id for hit in hits[:3]]
    for wrong in (10**9, 0, -5):
        with pytest.raises(xsearch.UsageError, match=str(wrong)):
            album.similar(wrong)
    with pytest.raises(xsearch.SourceError, match="nope"):
        album.similar(root / "nope.png")


def test_a_known_picture_is_not_read_to_find_what_is_like_it(
    library: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 6)
    library.index(photos)
    new = write_picture(photos.parent / "new.png", 2)
    expected = library.similar(photos / "002.jpg")
    (photos / "002.jpg").write_bytes(b"no picture any more")
    assert library.similar(photos / "002.jpg") == expected
    assert photos / "002.jpg" not in paths_of(expected)
    # Any other file is read, and the one that it is like is shown.
    write_picture(photos / "002.jpg", 2)
    assert library.similar(new)[0].path == photos / "002.jpg"
    monkeypatch.chdir(photos)
    assert library.similar("002.jpg") == expected


def test_no_files_are_read_for_a_query_of_items(
    album: xsearch.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a picture was read")

    known = ids(album)
    monkeypatch.setattr("xsearch.core.images.decode", refuse)
    hits = album.search(Item(known["zebra.png"]) + Item(known[DOG]), 2)
    assert set(names(hits)) == {"zebra.png", DOG}
    assert album.similar(known[DOG], 1)


def test_texts_are_examples_too(album: xsearch.Library) -> None:
    (text,) = album.search("one dog sleeps", 1, target="text", mode="words")
    moved = similarities(album, Item(text.id))
    assert_asks_for(album, moved, text_vector("one dog sleeps"))


# Composed queries


def test_parts_add_up_by_their_weights(album: xsearch.Library) -> None:
    a, b = text_vector("a"), text_vector("b")
    shown = vector_of(9)
    for query, vector in (
        (Query("a") + Image(picture(9)) - "b", a + shown - b),
        (Query("a", "b"), a + b),
        (3 * Part("a") + Part("b"), 3 * a + b),
        (Query("a") - 0.5 * Part("b"), a - 0.5 * b),
        (xsearch.parse("a + 2:b"), a + 2 * b),
        (xsearch.parse("a - 0.5:b"), a - 0.5 * b),
        (Image(picture(9)) + Item(ids(album)["100.png"]), shown + vector_of(100)),
        (Part("a", 7.0), a),
    ):
        assert_asks_for(album, similarities(album, query), vector)


def test_weights_that_grow_together_change_nothing(album: xsearch.Library) -> None:
    plain = similarities(album, Query("a") - "b")
    for factor in (1e-9, 0.1, 100, 1e300):
        assert similarities(album, factor * (Query("a") - "b")) == pytest.approx(plain, abs=1e-5)
        assert similarities(album, factor * Part("a")) == similarities(album, "a")


@pytest.mark.parametrize("mode", ["hybrid", "meaning", "words"])
def test_parts_that_cancel_out_are_an_error(album: xsearch.Library, mode: Any) -> None:
    for nothing in (Query("dog") - "dog", 2 * Query("dog") - "dog" - "dog"):
        with pytest.raises(xsearch.UsageError, match="cancel"):
            album.search(nothing, mode=mode)
    with pytest.raises(xsearch.UsageError, match="cancel"):
        album.search(Image(picture(1)) - Image(picture(1)))


def test_a_query_that_only_subtracts_is_an_error(album: xsearch.Library) -> None:
    with pytest.raises(xsearch.UsageError, match="only subtracts"):
        album.search(-Query("dog"))


def test_examples_may_not_take_away_all_that_is_asked(album: xsearch.Library) -> None:
    zebra = ids(album)["zebra.png"]
    hits = album.search(Item(zebra), 1, unlike=[zebra])
    assert names(hits) == ["zebra.png"]


# Arguments


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "video"}, "target.*video"),
        ({"mode": "magic"}, "mode.*magic"),
        ({"k": -1}, "-1"),
        ({"min_score": -0.1}, "min_score.*-0.1"),
        ({"min_score": 1.1}, "min_score.*1.1"),
        ({"min_score": float("nan")}, "min_score.*nan"),
        ({"diversity": 2}, "diversity.*2"),
        ({"diversity": -1}, "diversity.*-1"),
        ({"filters": xsearch.Filters(orientation="round")}, "round"),
    ],
)
def test_a_value_that_cannot_be_meant_is_an_error_of_one_line(
    album: xsearch.Library, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(xsearch.UsageError, match=says) as caught:
        album.search("dog", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("nothing", ["", "  ", 17, None, ["dog"]])
def test_what_is_no_query_is_an_error(album: xsearch.Library, nothing: Any) -> None:
    with pytest.raises(xsearch.UsageError, match="query"):
        album.search(nothing)


def test_searching_waits_for_no_writer(album: xsearch.Library) -> None:
    with writer_lock(album.path, "a test", 0):
        assert names(album.search("zebra", 1, like=[ids(album)[DOG]])) == ["zebra.png"]
