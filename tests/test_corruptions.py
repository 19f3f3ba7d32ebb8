"""Captions made minimally wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.data.corruptions import KINDS, Kind, corruptions
from xsearch.data.lexicon import stem, stems, table
from xsearch.data.phrases import words_of
from xsearch.data.plausible import plausibility

CAPTIONS = [
    "A brown dog chases a white cat through the snow .",
    "Two men in red shirts are sitting on a bench in front of a building .",
    "A man wearing a black hat and a blue jacket is holding his camera",
    "An old woman walks down the street with a small dog .",
    "a girl in an orange dress is smiling",
    "Three children run across a grassy field .",
    "A boy is riding a bike near a fence .",
]


def every(caption: str, kind: Kind, others: Sequence[str] = (), draws: int = 150) -> set[str]:
    """All that comes of a caption in so many draws."""
    random = np.random.default_rng(0)
    return {
        each.text
        for _ in range(draws)
        for each in corruptions(caption, others, random=random, kinds=[kind])
    }


def test_one_thing_is_replaced_by_another_of_its_group() -> None:
    found = every("A man wearing a hat", "replace-object")
    assert {"A woman wearing a hat", "A man wearing a backpack"} <= found
    assert not {"A man wearing a cap", "A man wearing a dog"} & found
    assert all(len(set(text.split()) - {"A", "man", "wearing", "a", "hat"}) <= 2 for text in found)


@pytest.mark.parametrize(
    ("caption", "never"),
    [
        ("A man is running .", {"guy", "person", "boy", "male"}),
        ("A woman sits on a couch .", {"sofa", "lady", "girl"}),
        ("A dog on the beach .", {"puppy", "animal"}),
        ("A child jumps .", {"boy", "girl", "kid", "baby", "toddler"}),
    ],
)
def test_a_replacement_means_something_else(caption: str, never: set[str]) -> None:
    found = every(caption, "replace-object")
    assert found
    assert not never & {word for text in found for word in words_of(text)}


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(CAPTIONS), st.sampled_from(["A cat , a woman and two girls", "red blue"]))
def test_nothing_is_put_in_that_another_caption_mentions(caption: str, other: str) -> None:
    random, said = np.random.default_rng(1), stems(caption) | stems(other)
    for each in corruptions(caption, [other], random=random):
        if not each.kind.startswith("swap"):
            new = set(words_of(each.text)) - set(words_of(caption)) - {"a", "an", "and", "near"}
            # Pronouns follow the person.
            new -= {"her", "his", "she", "he", "him"}
            assert new, each
            assert {stem(word) for word in new} - said, each


def test_another_word_for_it_in_another_caption_blocks_it_too() -> None:
    caption = "A man sits on a bench ."
    assert "A man sits on a couch ." in every(caption, "replace-object")
    assert "A man sits on a couch ." not in every(caption, "replace-object", ["A man on a sofa"])


def test_articles_follow() -> None:
    found = every("A child in an orange shirt near a red bus", "replace-attribute")
    assert "A child in a blue shirt near a red bus" in found
    assert not any(re.search(r"\ba [aeio]|\ban [^aeiou]", text) for text in found)
    swapped = every("A boy in an orange shirt with a blue bag", "swap-attribute")
    assert swapped == {"A boy in a blue shirt with an orange bag"}
    assert "A man in an old car , a brown hat" not in every(
        "A man , a red hat", "replace-attribute"
    )


def test_a_capital_stays_at_the_start() -> None:
    found = every("Man on a bench", "replace-object")
    assert "Woman on a bench" in found
    assert all(text[0].isupper() and text[1:].islower() for text in found)
    assert "White dog runs ." in every("Dog runs .", "add-attribute", ["A black dog runs ."])


def test_plurals_and_forms_of_verbs_stay() -> None:
    assert "Two girls run ." in every("Two boys run .", "replace-object")
    assert "A dog sits on the grass ." in every("A dog runs on the grass .", "replace-relation")
    found = every("A dog is running on the grass .", "replace-relation")
    assert "A dog is sitting on the grass ." in found


def test_pronouns_follow_the_only_person() -> None:
    found = every("A boy rides his bike", "replace-object")
    assert "A girl rides her bike" in found
    assert not any("girl rides his" in text for text in found)
    two = every("A girl sits on a bench with her dog", "replace-object")
    assert "A boy sits on a bench with his dog" in two


def test_a_number_of_named_ones_stays() -> None:
    assert "Three dogs run through the snow ." in every(
        "Two dogs run through the snow .", "replace-relation"
    )
    found = every("Two dogs run through the snow , one is black .", "replace-relation")
    assert not any(text.startswith("Three") for text in found)


def test_a_part_of_a_compound_is_left_alone() -> None:
    assert not every("A dog show", "replace-object")
    assert not any("ball" in text for text in every("It jumps and sticks out", "replace-object"))
    assert not any("woman" in text for text in every("The man 's hand", "replace-object"))


@pytest.mark.parametrize(
    "caption",
    [
        "A man and a woman are walking .",
        "A man is next to a woman .",
        "A young man and woman .",
        "A dog and a cat are playing together .",
    ],
)
def test_what_holds_both_ways_is_not_swapped(caption: str) -> None:
    assert not every(caption, "swap-object")


def test_a_swap_changes_who_does_what() -> None:
    assert every("A man is chasing a woman .", "swap-object") == {"A woman is chasing a man ."}
    assert every("A dog watches a man .", "swap-object") == {"A man watches a dog ."}
    assert every("A woman in a black hat and a red coat .", "swap-object") == {
        "A woman in a black coat and a red hat ."
    }


def test_attributes_of_different_things_are_swapped() -> None:
    found = every("A brown dog chases a white cat .", "swap-attribute")
    assert found == {"A white dog chases a brown cat ."}
    assert not every("A brown dog and a white dog are playing .", "swap-attribute")
    assert not every("A red hat and a red coat .", "swap-attribute")
    assert not every("A man in a red hat and a man in a blue hat .", "swap-attribute")


def test_an_added_attribute_is_one_that_others_contradict_or_a_rare_one() -> None:
    said = every("A dog runs .", "add-attribute", ["A black dog is running"])
    assert "A white dog runs ." in said
    assert not any("black" in text for text in said)
    unsaid = every("A dog runs .", "add-attribute", ["An animal is running"])
    assert not any(colour in text for text in unsaid for colour in ("white", "brown", "black"))
    assert not every("A man without a hat", "add-attribute")


def test_an_added_thing_is_none_that_people_leave_unsaid() -> None:
    found = every("A man in a red hat", "add-object")
    assert found
    assert not any(re.search(r"shirt|shoes|pants", text) for text in found)


def test_the_same_seed_gives_the_same() -> None:
    def run() -> list[object]:
        random = np.random.default_rng(5)
        return [corruptions(caption, random=random) for caption in CAPTIONS]

    assert run() == run()


@settings(deadline=None, max_examples=50)
@given(st.text(st.sampled_from("aAn .,-'dogremwthi2é"), max_size=60), st.integers(0, 99))
def test_any_text_is_taken(text: str, seed: int) -> None:
    corruptions(text, [text], random=np.random.default_rng(seed))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(CAPTIONS), min_size=1, max_size=3), st.integers(0, 999))
def test_at_most_one_of_a_kind_and_never_the_caption(captions: list[str], seed: int) -> None:
    found = corruptions(captions[0], captions[1:], random=np.random.default_rng(seed))
    kinds = [each.kind for each in found]
    assert len(set(kinds)) == len(kinds) and set(kinds) <= set(KINDS)
    assert not {each.text for each in found} & set(captions)


def test_only_the_kinds_asked_for_come() -> None:
    random = np.random.default_rng(0)
    for caption in CAPTIONS * 20:
        found = corruptions(caption, random=random, kinds=["replace-object"])
        assert {each.kind for each in found} <= {"replace-object"}


@pytest.mark.parametrize("name", ["objects", "attributes", "relations"])
def test_no_word_may_be_replaced_by_what_it_means(name: str) -> None:
    for words, senses in table(name).senses.items():
        for sense in senses:
            for choice in sense.choices:
                assert choice.text != " ".join(words)


def test_usual_words_are_more_plausible_than_unusual_ones() -> None:
    usual = plausibility(words_of("A dog runs through the snow"))
    assert usual > plausibility(words_of("A snow runs through the dog"))
    assert usual > plausibility(words_of("A camel runs through the snow"))
