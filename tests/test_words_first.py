"""When words count as much as meaning: names of files, quoted phrases, and words that all have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import open_colour, paths_of, write_picture, write_text

import xsearch

LONG = "our trip to the old harbour"


@pytest.fixture(scope="module")
def holiday(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xsearch.Library]:
    """Sixty pictures in one folder, one with a long name, one with a caption."""
    photos = tmp_path_factory.mktemp("holiday") / "summer"
    for seed in range(58):
        write_picture(photos / f"{seed:03}.png", seed)
    write_picture(photos / f"{LONG}.png", 70)
    write_picture(photos / "captioned.png", 71)
    write_text(photos / "captioned.txt", "a red boat beside a blue boat")
    with open_colour(photos.parent / "library") as library:
        library.index(photos)
        yield library


def first(library: xsearch.Library, query: str | xsearch.Query) -> str:
    (path,) = paths_of(library.search(query, 1))
    assert path is not None
    return path.name


@pytest.mark.parametrize("asked", [f"{LONG}.png", f"{LONG}.JPG", f"  {LONG}.png"])
def test_the_name_of_a_file_finds_it_first_however_long(
    holiday: xsearch.Library, asked: str
) -> None:
    assert first(holiday, asked) == f"{LONG}.png"


def test_a_quoted_phrase_finds_what_has_it_first(holiday: xsearch.Library) -> None:
    asked = xsearch.parse('"red boat beside a blue boat"')
    assert first(holiday, asked) == "captioned.png"
    # The same words in another order are no such phrase.
    (other,) = holiday.search(xsearch.parse('"blue boat beside a red boat"'), 1, mode="hybrid")
    plain = holiday.search("blue boat beside a red boat", 1, mode="meaning")[0]
    assert other.id == plain.id


def test_a_word_that_one_item_has_comes_before_what_meaning_finds(
    holiday: xsearch.Library,
) -> None:
    assert first(holiday, "harbour") == f"{LONG}.png"


def test_the_name_of_the_folder_that_holds_everything_says_nothing(
    holiday: xsearch.Library,
) -> None:
    hybrid, meaning = (holiday.search("summer", 10, mode=mode) for mode in ("hybrid", "meaning"))
    assert [(hit.id, hit.score) for hit in hybrid] == [(hit.id, hit.score) for hit in meaning]
    assert len(holiday.search("summer", 100, mode="words")) == 60
