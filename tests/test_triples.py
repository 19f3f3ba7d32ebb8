"""Queries of a picture and words, made out of captions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.data.keywords import keywords
from xsearch.data.triples import Triple, make_triples


def twice(*texts: str) -> list[str]:
    """Captions that people agree on."""
    return [text for text in texts for _ in range(2)]


# Far more pictures of something else: what fits a query is at most 2 % of all.
OTHERS = [twice(f"Boat number{at} at the harbour") for at in range(100)]

GRASS = twice("A brown dog runs on the grass")
SNOW = twice("A brown dog runs in the snow")


def made(*pictures: list[str], each: int = 3) -> list[Triple]:
    """Triples of some pictures, with many others behind them."""
    found = make_triples([*pictures, *OTHERS], each=each)
    return [one for one in found if one.reference < len(pictures)]


def test_two_pictures_that_differ_in_one_thing_are_two_queries() -> None:
    assert made(GRASS, SNOW) == [
        Triple(0, "in the snow", "snow", 1, (1,)),
        Triple(1, "on the grass", "grass", 0, (0,)),
    ]


@pytest.mark.parametrize(
    ("caption", "text", "words"),
    [
        ("A black dog runs on the grass", "a black dog", "black"),
        ("A black and brown dog runs on the grass", "a black and brown dog", "black"),
        ("A brown dog runs on the grass and is carrying a stick", "carrying a stick", None),
        ("The brown dog on the grass is Jumping", "jumping", "jumping"),
    ],
)
def test_the_text_is_the_phrase_around_the_new_words(
    caption: str, text: str, words: str | None
) -> None:
    (found,) = (one for one in made(GRASS, twice(caption)) if one.reference == 0)
    assert found.text == text
    assert found.words == (words or "carrying stick")


def test_words_that_mean_the_same_are_no_difference() -> None:
    assert not made(GRASS, twice("A brown hound runs on the grass"))
    assert not made(GRASS, twice("Brown dogs running on the grass"))


def test_what_says_nothing_is_no_difference() -> None:
    assert not made(GRASS, twice("A brown dog runs on the grass in the background"))


def test_a_target_that_nobody_agrees_on_is_none() -> None:
    assert [one.target for one in made(GRASS, SNOW[:1])] == []


def test_pictures_with_little_in_common_make_no_query() -> None:
    assert not made(GRASS, twice("A dog sleeps on a red sofa"))


def test_what_any_caption_of_the_reference_says_is_not_new() -> None:
    assert not [one for one in made([*GRASS, "It snows : snow"], SNOW) if one.reference == 0]


def test_every_picture_that_fits_is_relevant_but_never_the_reference() -> None:
    also = ["A brown dog is running", "Snow everywhere"]
    (found,) = (one for one in made(GRASS, SNOW, also) if one.reference == 0)
    assert (found.target, found.relevant) == (1, (1, 2))


def test_queries_that_too_much_fits_are_left_out() -> None:
    many = [SNOW] * 3
    assert [one for one in made(GRASS, *many[:2]) if one.reference == 0]
    assert not [one for one in made(GRASS, *many) if one.reference == 0]


def test_the_most_alike_targets_come_first_and_their_number_is_bounded() -> None:
    reference = twice("A brown dog runs on the grass", "It has a red collar")
    near = twice("A brown dog runs in the snow", "It has a red collar")
    far = twice("A brown dog runs on the beach")
    assert [one.target for one in made(reference, far, near, each=2) if not one.reference] == [2, 1]
    assert [one.target for one in made(reference, far, near, each=1) if not one.reference] == [2]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12))
def test_any_text_can_be_a_caption(text: str) -> None:
    for one in made(GRASS, twice(f"A brown dog runs {text}"), twice(text)):
        assert set(one.words.split()) <= set(one.text.split())


def test_words_of_other_letters_are_whole() -> None:
    (found,) = (
        one for one in made(GRASS, twice("A brown dog runs to a café")) if not one.reference
    )
    assert (found.text, found.words) == ("to a café", "café")


def test_no_captions_make_no_queries() -> None:
    assert make_triples([]) == []
    assert make_triples([[], ["", "."], ["the"]]) == []


KINDS = (
    ("brown", "black", "white", "spotted"),
    ("dog", "cat", "horse", "bird"),
    ("runs", "sleeps", "jumps", "eats"),
    ("on the grass", "in the snow", "near a fence", "under a tree"),
)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_every_triple_keeps_its_promises(seed: int) -> None:
    drawn = random.Random(seed)
    pictures = [
        twice(f"A {' '.join(map(drawn.choice, KINDS))}", f"A {' '.join(map(drawn.choice, KINDS))}")
        for _ in range(60)
    ]
    found = make_triples(pictures)
    assert found
    assert found == make_triples(pictures)
    for one in found:
        said = set(keywords(" ".join(pictures[one.reference]), "en"))
        new = keywords(one.words, "en")
        assert new and not said & set(new)
        assert set(new) <= set(keywords(one.text, "en"))
        assert one.reference not in one.relevant
        assert one.target in one.relevant
        assert list(one.relevant) == sorted(set(one.relevant))
        for picture in one.relevant:
            assert set(new) <= set(keywords(" ".join(pictures[picture]), "en"))
