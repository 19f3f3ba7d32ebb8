"""Scenes from a seed: what is in them, what is said of them, and what is wrongly said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random

from PIL import Image

from xsearch.data.scenes.claims import (
    RELATIONS,
    SIZE_WORDS,
    WORDINGS,
    Claim,
    Phrase,
    Statement,
    related,
)
from xsearch.data.scenes.drawing import draw
from xsearch.data.scenes.layout import AREAS, Look, arrange
from xsearch.data.scenes.world import (
    COLOURS,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    SHAPES,
    SIZES,
    Split,
    Thing,
)
from xsearch.data.scenes.wrongs import Wrong, wrongs_of

_INTROS = ("", "", "there {be} ", "you can see ", "a picture of ", "a picture with ")
_SPATIAL = (
    "{0} {word} {1}",
    "{0} {word} {1}",
    "there is {0} {word} {1}",
    "{0} is {word} {1}",
    "you can see {0} {word} {1}",
    "{0} that is {word} {1}",
    "a picture of {0} {word} {1}",
)
_FRONTED = ("{word} {1} there is {0}", "{word} {1} you can see {0}")
_PLACES = (
    "{0} {word}",
    "{0} {word}",
    "there is {0} {word}",
    "{0} is {word}",
    "{word} there is {0}",
    "{word} you can see {0}",
    "a picture with {0} {word}",
)
_LISTS = {1: "{0}", 2: "{0} and {1}", 3: "{0}, {1} and {2}"}
_TRIES = 8
"""How often a caption of some sort is tried before the things are drawn anew."""
_MOST = 7
"""Things in a scene where some are counted."""
_NUMBERS = ((1, 3), (3, 1), (2, 4), (4, 2), (1, 4), (4, 1), (2, 3), (3, 2))
"""How many of one and of another: every number is as frequent, so that a true one is no likelier
than a false one."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Things, true captions, the wrong captions of each; `look` is the seed of the drawing."""

    things: tuple[Thing, ...]
    statements: tuple[Statement, ...]
    wrongs: tuple[tuple[Wrong, ...], ...]
    look: int

    def draw(self, size: int = 260) -> Image.Image:
        """The picture, RGB, size x size pixels; always the same."""
        return draw(self.things, self.look, size)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a scene is made for: the sorts of its captions; how many things look like its first
    and its second; the place of the first; the colour and the shapes of the first ones; whether
    what is held out of training is to be said.
    """

    sorts: tuple[str, ...]
    numbers: tuple[int, int]
    place: str | None
    colour: str | None
    shapes: tuple[str, ...]
    novel: bool


def scene(split: Split, seed: int) -> Scene:
    """The scene of a seed.

    `train` and `val` hold no pair of HELD_OUT_PAIRS, in no thing and no caption, and their
    captions, true or wrong, say none of HELD_OUT_RELATIONS; in `test`, every true caption has one
    or the other.
    """
    random = Random(f"{split} {seed}")
    plan = _plan(split, random)
    while True:
        # The plan stays: were it drawn anew, what is hard to place (four things) would be rare,
        # and a caption of it more often wrong than true.
        things = arrange(_looks(plan, random), random, plan.place)
        said = things and _said(plan, things, random)
        if things and said:
            statements, wrongs = zip(*said, strict=True)
            return Scene(things, statements, wrongs, random.getrandbits(62))


def _plan(split: Split, random: Random) -> _Plan:
    wanted = random.choice((2, 2, 3, 3, 3))
    if split == "test" and random.random() < 0.5:
        _, *shapes = random.choice(sorted(HELD_OUT_RELATIONS))
        return _Plan(("relation",) * wanted, (1, 1), None, None, tuple(shapes), True)
    colour, shapes = None, []
    if split == "test":
        colour, *shapes = random.choice(sorted(HELD_OUT_PAIRS))
    if random.random() < 0.25:
        numbers = random.choice(_NUMBERS)
        return _Plan(("count",) * wanted, numbers, None, colour, tuple(shapes), split == "test")
    sorts = ["relation" if random.random() < 0.65 else "list" for _ in range(wanted)]
    place = None
    if random.random() < 0.45:
        sorts[0] = "place"
        place = random.choice(list(AREAS))
    return _Plan(tuple(sorts), (1, 1), place, colour, tuple(shapes), split == "test")


def _looks(plan: _Plan, random: Random) -> list[Look]:
    """Shape, colour and size of each thing; few shapes and colours, so that most are shared."""
    wide = random.choice((3, 4))
    colours = _some(COLOURS, wide, (plan.colour,) if plan.colour else (), random)
    shapes = _some(SHAPES, wide, plan.shapes, random)
    pairs = [pair for pair in product(colours, shapes) if plan.colour or pair not in HELD_OUT_PAIRS]
    random.shuffle(pairs)
    for at, shape in enumerate(plan.shapes):
        fit = next(
            index
            for index in range(at, len(pairs))
            if pairs[index][1] == shape and plan.colour in (None, pairs[index][0])
        )
        pairs[at], pairs[fit] = pairs[fit], pairs[at]
    counted = plan.sorts[0] == "count"
    single = random.choice((1, 2) if counted else (1, 2, 3))
    chosen = pairs[:1] * plan.numbers[0] + pairs[1:2] * plan.numbers[1] + pairs[2 : 2 + single]
    chosen = chosen[:_MOST]
    sizes = [random.choice(SIZES) for _ in chosen]
    while sizes.count("big") > (2 if counted else 3):
        sizes[sizes.index("big")] = "small"
    looks = [(shape, colour, size) for (colour, shape), size in zip(chosen, sizes, strict=True)]
    if not counted and random.random() < 0.25:
        shape, colour, size = random.choice(looks)
        looks.append((shape, colour, "small" if size == "big" else "big"))
    return looks


def _some(
    every: Sequence[str], count: int, first: tuple[str, ...], random: Random
) -> tuple[str, ...]:
    """So many of them, with those given in front."""
    others = [word for word in every if word not in first]
    return (*first, *random.sample(others, count - len(first)))


def _said(
    plan: _Plan, things: Sequence[Thing], random: Random
) -> list[tuple[Statement, tuple[Wrong, ...]]] | None:
    """A true caption of each sort with its wrong ones; None where one was not found."""
    said: dict[object, tuple[Statement, tuple[Wrong, ...]]] = {}
    for sort in plan.sorts:
        for _ in range(_TRIES):
            claim = _claim(sort, plan, things, random)
            if claim is None or (claim.new_pairs() > 0 or claim.new_relation()) != plan.novel:
                continue
            meaning = claim.phrases, claim.word
            wrongs = () if meaning in said else wrongs_of(claim, things, random)
            if len(wrongs) >= 2:
                said[meaning] = claim.say(things), wrongs
                break
        else:
            return None
    return list(said.values())


def _claim(sort: str, plan: _Plan, things: Sequence[Thing], random: Random) -> Claim | None:
    """Something true of a scene; None where this try found nothing."""
    match sort:
        case "relation":
            claim = _relation(things, random)
        case "place":
            phrases = _phrases((0,), things, random)
            claim = None
            if phrases is not None:
                claim = Claim(phrases, plan.place, random.choice(_PLACES))
        case "count":
            claim = _count(plan, things, random)
        case _:
            claim = _list(things, random)
    if claim is None:
        return None
    claim = replace(
        claim,
        wording=random.randrange(WORDINGS),
        size_words=random.choice(SIZE_WORDS),
        sentence=random.random() < 0.15,
    )
    return claim if claim.holds(things) else None


def _relation(things: Sequence[Thing], random: Random) -> Claim | None:
    one, other = random.sample(range(len(things)), 2)
    fitting = [word for word in RELATIONS if related(word, things[one], things[other])]
    if not fitting:
        return None
    word = random.choice(fitting)
    # Nothing is bigger than a big thing: the words alone would tell.
    by_size = word in ("bigger", "smaller")
    phrases = _phrases((one, other), things, random, with_sizes=not by_size)
    templates = _SPATIAL if by_size else _SPATIAL + _FRONTED
    return None if phrases is None else Claim(phrases, word, random.choice(templates))


def _count(plan: _Plan, things: Sequence[Thing], random: Random) -> Claim | None:
    """So many things like the first or the second, now and then with others."""
    ends = (0, plan.numbers[0])
    counted = [
        Phrase(things[at].shape, things[at].colour, number=number)
        for at, number in zip(ends, plan.numbers, strict=True)
    ]
    random.shuffle(counted)
    form = random.random()
    if form < 0.5 or sum(plan.numbers) == len(things):
        return _listed((counted[0],), random)
    if form < 0.75:
        return _listed(tuple(counted), random)
    others = _phrases((random.randrange(sum(plan.numbers), len(things)),), things, random)
    return None if others is None else _listed((counted[0], *others), random)


def _list(things: Sequence[Thing], random: Random) -> Claim | None:
    chosen = random.sample(range(len(things)), random.choice((2, 2, 2, 3)))
    phrases = _phrases(chosen, things, random)
    return None if phrases is None else _listed(phrases, random)


def _listed(phrases: tuple[Phrase, ...], random: Random) -> Claim:
    return Claim(phrases, None, random.choice(_INTROS) + _LISTS[len(phrases)])


def _phrases(
    chosen: Sequence[int], things: Sequence[Thing], random: Random, *, with_sizes: bool = True
) -> tuple[Phrase, ...] | None:
    """For each chosen thing, words that fit it and no other; None if there are none."""
    phrases = []
    for at in chosen:
        thing = things[at]
        colour = thing.colour if random.random() < 0.88 else None
        size = thing.size if with_sizes and random.random() < 0.35 else None
        phrase = Phrase(thing.shape, colour, size)
        if phrase.matches(things) != [at]:
            phrase = Phrase(thing.shape, thing.colour, thing.size if with_sizes else None)
        if phrase.matches(things) != [at]:
            return None
        phrases.append(phrase)
    return tuple(phrases)
