"""Concepts mined from captions."""

from __future__ import annotations

import random

import numpy as np
import pytest

from xsearch.core.errors import UsageError
from xsearch.training.concepts import mine_concepts

CAPTIONS = [
    ["a dog on the grass", "the brown dog"],
    ["a dog in the snow"],
    ["two cats on the grass"],
    ["a boat"],
]
STOP = {"a", "the", "on", "in", "two"}


def keywords(text: str) -> list[str]:
    return [word.rstrip("s") for word in text.split() if word not in STOP]


def test_frequent_content_words_become_concepts() -> None:
    found = mine_concepts(CAPTIONS, keywords, size=3, least=1)
    # A word counts once a picture; "gras" and "dog" describe two, the others one.
    assert found.words == ("dog", "gra", "boat")
    assert found.frequencies == (0.5, 0.5, 0.25)


def test_targets_say_what_any_caption_of_a_picture_names() -> None:
    found = mine_concepts(CAPTIONS, keywords, size=3, least=1)
    wanted = [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert np.array_equal(found.targets([*CAPTIONS, ["a zebra"]], keywords), wanted)
    assert found.targets([], keywords).shape == (0, 3)


def test_rare_words_are_no_concepts_nor_is_one_of_every_picture() -> None:
    captions = [["photo cat"], ["photo cat"], ["photo dog"]]
    assert mine_concepts(captions, keywords, least=2).words == ("cat",)


def test_the_order_of_pictures_does_not_matter() -> None:
    shuffled = list(CAPTIONS)
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert mine_concepts(shuffled, keywords, least=1) == mine_concepts(
            CAPTIONS, keywords, least=1
        )


@pytest.mark.parametrize("captions", [[], [["a dog"]], [["the"], ["a"]]])
def test_captions_without_concepts_are_refused(captions: list) -> None:
    with pytest.raises(UsageError, match="no concepts"):
        mine_concepts(captions, keywords, least=1)
