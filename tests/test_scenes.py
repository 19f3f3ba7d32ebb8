"""The made-up world: what is said of it is read here anew, and measured against the things."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.data.scenes import (
    COLOURS,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    KINDS,
    SHAPES,
    SPLITS,
    Scene,
    Split,
    Thing,
    scene,
)

seeds = st.integers(0, 2**40)
splits = st.sampled_from(SPLITS)

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
SIZES = {"small": "small", "little": "small", "big": "big", "large": "big"}
NAME = re.compile(
    rf"(?P<number>an?|{'|'.join(NUMBERS)}) ((?P<size>{'|'.join(SIZES)}) )?"
    rf"((?P<colour>{'|'.join(COLOURS)}) )?(?P<shape>{'|'.join(SHAPES)})(es|s)?\b"
)
RELATIONS = {
    "left of": "left",
    "right of": "right",
    "above": "above",
    "higher than": "above",
    "below": "below",
    "under": "below",
    "lower than": "below",
    "bigger than": "bigger",
    "larger than": "bigger",
    "smaller than": "smaller",
}
PLACE = re.compile(
    r"(in|at|near|on) the [a-z ]*?(top|bottom|upper|lower|left|right|middle|centre).*"
)


def names(text: str) -> list[re.Match[str]]:
    """The phrases of a caption, the subject of a relation first."""
    found = list(NAME.finditer(text.lower()))
    relation = relation_of(text)
    if relation and text.lower().index(relation) < found[0].start():
        found.reverse()
    return found


def relation_of(text: str) -> str | None:
    return next((words for words in RELATIONS if words in text.lower()), None)


def fitting(name: re.Match[str], things: tuple[Thing, ...]) -> list[Thing]:
    return [
        thing
        for thing in things
        if thing.shape == name["shape"]
        and name["colour"] in (None, thing.colour)
        and (name["size"] is None or SIZES[name["size"]] == thing.size)
    ]


def middle(thing: Thing) -> tuple[float, float]:
    x0, y0, x1, y1 = thing.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def area(thing: Thing) -> float:
    x0, y0, x1, y1 = thing.box
    return (x1 - x0) * (y1 - y0)


def is_so(relation: str, one: Thing, other: Thing, doubt: float) -> bool:
    """Whether a relation holds; what is below `doubt` of the picture's side is not seen."""
    (x, y), (other_x, other_y) = middle(one), middle(other)
    match relation:
        case "left":
            return other_x - x > doubt
        case "right":
            return x - other_x > doubt
        case "above":
            return other_y - y > doubt
        case "below":
            return y - other_y > doubt
        case "bigger":
            return area(one) > (1 + 4 * doubt) * area(other)
        case _:
            return area(other) > (1 + 4 * doubt) * area(one)


def is_in(place: str, thing: Thing, slack: float) -> bool:
    """Whether a thing is in a place of which the edge thirds are, widened by `slack`."""
    x, y = middle(thing)
    if "middle" in place or "centre" in place:
        return max(abs(x - 0.5), abs(y - 0.5)) < 0.1 + slack
    near = {
        "top": y,
        "upper": y,
        "bottom": 1 - y,
        "lower": 1 - y,
        "left": x,
        "right": 1 - x,
    }
    return all(near[word] < 0.33 + slack for word in re.findall(r"\w+", place) if word in near)


def is_true(text: str, things: tuple[Thing, ...], *, strictly: bool) -> bool:
    """What a reader would say: strictly, only what cannot be doubted is true."""
    found = names(text)
    groups = [fitting(name, things) for name in found]
    for name, group in zip(found, groups, strict=True):
        if not group or NUMBERS.get(name["number"], len(group)) != len(group):
            return False
    if relation := relation_of(text):
        doubt = 0.1 if strictly else 0.04
        return any(
            is_so(RELATIONS[relation], one, other, doubt)
            for one in groups[0]
            for other in groups[1]
        )
    if place := PLACE.search(text.lower()):
        return any(is_in(place[0], one, 0 if strictly else 0.1) for one in groups[0])
    return True


def captions(made: Scene) -> list[str]:
    wrong = [each.text for wrongs in made.wrongs for each in wrongs]
    return [said.text for said in made.statements] + wrong


def new_combinations(text: str) -> list[tuple[str, ...]]:
    """The held-out combinations that a caption says."""
    found = names(text)
    new: list[tuple[str, ...]] = [
        (name["colour"], name["shape"])
        for name in found
        if (name["colour"], name["shape"]) in HELD_OUT_PAIRS
    ]
    if relation := relation_of(text):
        said = (RELATIONS[relation], found[0]["shape"], found[1]["shape"])
        new += [said] if said in HELD_OUT_RELATIONS else []
    return new


@given(splits, seeds)
@settings(deadline=None)
def test_true_captions_are_true_beyond_doubt_and_wrong_ones_surely_false(
    split: Split, seed: int
) -> None:
    made = scene(split, seed)
    assert 2 <= len(made.statements) <= 3
    for said, wrongs in zip(made.statements, made.wrongs, strict=True):
        assert is_true(said.text, made.things, strictly=True), said.text
        assert 2 <= len(wrongs) <= 4
        assert len({wrong.kind for wrong in wrongs}) == len(wrongs)
        for wrong in wrongs:
            assert not is_true(wrong.text, made.things, strictly=False), wrong.text


@given(splits, seeds)
@settings(deadline=None)
def test_mentions_tell_which_words_name_which_things(split: Split, seed: int) -> None:
    made = scene(split, seed)
    for said in made.statements:
        found = NAME.finditer(said.text.lower())
        for mention, name in zip(said.mentions, found, strict=True):
            words = said.text[mention.start : mention.end].lower()
            assert words == name[0].split(" ", 1)[1]
            assert said.text[slice(*mention.noun)] == words.split()[-1]
            assert mention.noun[1] == mention.end
            assert [made.things[at] for at in mention.things] == fitting(name, made.things)
            assert len(mention.things) == NUMBERS.get(name["number"], 1)


@given(splits, seeds)
@settings(deadline=None)
def test_things_are_apart_within_the_picture_and_clearly_big_or_small(
    split: Split, seed: int
) -> None:
    things = scene(split, seed).things
    assert 3 <= len(things) <= 7
    for thing in things:
        assert 0 < thing.box[0] < thing.box[2] < 1
        assert 0 < thing.box[1] < thing.box[3] < 1
        longest = 260 * max(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1])
        assert 75 < longest < 110 if thing.size == "big" else 35 < longest < 57
    for one, other in combinations(things, 2):
        gaps = [
            max(one.box[axis], other.box[axis]) - min(one.box[axis + 2], other.box[axis + 2])
            for axis in (0, 1)
        ]
        assert max(gaps) > 0.02


@given(st.sampled_from(["train", "val"]), seeds)
@settings(deadline=None)
def test_training_never_meets_what_is_held_out(split: Split, seed: int) -> None:
    made = scene(split, seed)
    assert not {(thing.colour, thing.shape) for thing in made.things} & HELD_OUT_PAIRS
    for text in captions(made):
        assert not new_combinations(text), text


@given(seeds)
@settings(deadline=None)
def test_every_true_caption_of_the_test_split_says_something_held_out(seed: int) -> None:
    for said in scene("test", seed).statements:
        assert new_combinations(said.text), said.text


@given(seeds)
@settings(deadline=None)
def test_being_unheard_of_never_speaks_for_a_true_caption(seed: int) -> None:
    made = scene("test", seed)
    for said, wrongs in zip(made.statements, made.wrongs, strict=True):
        for wrong in wrongs:
            assert len(new_combinations(wrong.text)) <= len(new_combinations(said.text))


def test_each_held_out_combination_is_tested() -> None:
    said = {
        new
        for seed in range(500)
        for statement in scene("test", seed).statements
        for new in new_combinations(statement.text)
    }
    assert said == HELD_OUT_PAIRS | HELD_OUT_RELATIONS


def test_each_shape_and_colour_has_one_or_two_pairs_held_out() -> None:
    for part, every in enumerate((COLOURS, SHAPES)):
        counts = Counter(pair[part] for pair in HELD_OUT_PAIRS)
        assert set(counts) == set(every)
        assert set(counts.values()) <= {1, 2}


def test_a_relation_is_held_out_with_its_reverse_and_its_converse() -> None:
    converse = {"left": "right", "above": "below", "bigger": "smaller"}
    converse |= {other: one for one, other in converse.items()}
    for relation, one, other in HELD_OUT_RELATIONS:
        assert (relation, other, one) in HELD_OUT_RELATIONS
        assert (converse[relation], other, one) in HELD_OUT_RELATIONS


def words_of(text: str) -> list[str]:
    """Words without articles and endings, sorted."""
    words = re.findall(r"\w+", text.lower())
    stems = [word.removesuffix("es") if word == "crosses" else word for word in words]
    return sorted(
        stem[:-1] if stem[:-1] in SHAPES else stem
        for stem in stems
        if stem not in ("a", "an", "is", "are")
    )


@given(splits, seeds)
@settings(deadline=None)
def test_a_wrong_caption_changes_one_thing(split: Split, seed: int) -> None:
    made = scene(split, seed)
    for said, wrongs in zip(made.statements, made.wrongs, strict=True):
        for wrong in wrongs:
            before, after = Counter(words_of(said.text)), Counter(words_of(wrong.text))
            gone, new = (before - after).total(), (after - before).total()
            if wrong.kind.startswith("swap"):
                assert gone == new == 0, (said.text, wrong)
                assert wrong.text != said.text
            elif wrong.kind != "replace-relation":
                exchanged = len(NAME.findall(said.text.lower())) == 2 and gone == 0
                assert gone == new == 1 or (wrong.kind == "replace-count" and exchanged)
            else:
                assert [name[0] for name in names(said.text)] == [
                    name[0] for name in names(wrong.text)
                ]


PINNED = [
    "a large yellow cross near the bottom",
    "a picture with two black triangles",
    "a little purple star to the right of a red triangle",
]

SOME: list[tuple[Split, int]] = [(split, seed) for split in SPLITS for seed in range(300)]


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [scene(split, seed) for split, seed in SOME]


def test_every_kind_of_wrong_caption_is_frequent(many: list[Scene]) -> None:
    counts = Counter(wrong.kind for made in many for wrongs in made.wrongs for wrong in wrongs)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 0.05 * counts.total()


def test_the_words_of_wrong_captions_are_mostly_true_of_something(many: list[Scene]) -> None:
    present = [
        all(
            word in {each for thing in made.things for each in (thing.shape, thing.colour)}
            for word in words_of(wrong.text)
            if word in (*SHAPES, *COLOURS)
        )
        for made in many
        for wrongs in made.wrongs
        for wrong in wrongs
    ]
    assert np.mean(present) > 0.95


def chance(many: list[Scene], score: Callable[[Scene, str], float]) -> dict[str, float]:
    """How often a score is higher for the true caption, by kind; ties count half."""
    wins: dict[str, list[float]] = {}
    for made in many:
        for said, wrongs in zip(made.statements, made.wrongs, strict=True):
            for wrong in wrongs:
                more = score(made, said.text) - score(made, wrong.text)
                wins.setdefault(wrong.kind, []).append(0.5 + 0.5 * float(np.sign(more)))
    return {kind: float(np.mean(values)) for kind, values in wins.items()}


def test_counting_what_each_word_fits_is_no_better_than_chance(many: list[Scene]) -> None:
    def bag(made: Scene, text: str) -> float:
        counts = Counter(
            word for thing in made.things for word in (thing.shape, thing.colour, thing.size)
        )
        return sum(counts[SIZES.get(word, word)] for word in words_of(text))

    for kind, share in chance(many, bag).items():
        assert abs(share - 0.5) < 0.06, (kind, share)


def test_words_alone_do_not_tell_true_from_wrong(many: list[Scene]) -> None:
    true, false = Counter[str](), Counter[str]()
    for made in many:
        for said, wrongs in zip(made.statements, made.wrongs, strict=True):
            for wrong in wrongs:
                true.update(re.findall(r"\w+", said.text.lower()))
                false.update(re.findall(r"\w+", wrong.text.lower()))
    for word in true.keys() | false.keys():
        together = true[word] + false[word]
        # Seven standard deviations of a fair coin: the captions of a scene go together.
        assert abs(true[word] - false[word]) < 7 * together**0.5, word


@given(splits, seeds)
@settings(max_examples=25, deadline=None)
def test_a_seed_always_makes_the_same_scene_and_picture(split: Split, seed: int) -> None:
    made = scene(split, seed)
    assert scene(split, seed) == made
    assert scene(split, seed).draw().tobytes() == made.draw().tobytes()
    assert scene(split, seed + 1) != made


def test_the_stream_of_scenes_stays_as_it_is() -> None:
    said = [scene(split, 7).statements[0].text for split in SPLITS]
    assert said == PINNED


REFERENCE = {
    "red": (215, 10, 10),
    "green": (15, 150, 40),
    "blue": (20, 70, 215),
    "yellow": (245, 230, 25),
    "purple": (120, 30, 150),
    "orange": (250, 118, 12),
    "black": (12, 12, 12),
    "white": (250, 250, 250),
}


def nearest(pixel: np.ndarray) -> str:
    return min(REFERENCE, key=lambda name: np.linalg.norm(pixel - np.array(REFERENCE[name])))


@given(splits, seeds)
@settings(max_examples=60, deadline=None)
def test_things_are_drawn_in_their_colours_and_fill_their_boxes(split: Split, seed: int) -> None:
    made = scene(split, seed)
    size = 260
    pixels = np.asarray(made.draw(size), np.float32)
    assert pixels.shape == (size, size, 3)
    for thing in made.things:
        x0, y0, x1, y1 = (side * size for side in thing.box)
        # Of a ring, a spot beside the hole.
        x = x0 + 0.11 * (x1 - x0) if thing.shape == "ring" else (x0 + x1) / 2
        colour = pixels[int((y0 + y1) / 2), int(x)]
        assert nearest(colour) == thing.colour
        left, top = max(int(x0) - 6, 0), max(int(y0) - 6, 0)
        around = pixels[top : int(y1) + 7, left : int(x1) + 7]
        rows, columns = np.nonzero(np.linalg.norm(around - colour, axis=2) < 30)
        drawn = (columns.min() + left, rows.min() + top, columns.max() + left, rows.max() + top)
        # An outline is of another shade, and tips fade.
        assert np.abs(np.array(drawn) - (x0, y0, x1 - 1, y1 - 1)).max() < 8


def test_pictures_come_in_any_size() -> None:
    assert scene("val", 1).draw(96).size == (96, 96)
    assert scene("val", 1).draw(96).mode == "RGB"
