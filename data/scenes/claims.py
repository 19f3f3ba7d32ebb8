"""What a caption says, apart from how it came about: its phrases, its words, whether it is true.

Truth has two readings. A true caption `holds` strictly: nobody would doubt it. A wrong one must
not hold even loosely: what lies between is never said. Numbers are meant exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from xsearch.data.scenes.world import HELD_OUT_PAIRS, HELD_OUT_RELATIONS, OPPOSITE, Thing

NUMBERS = ("one", "two", "three", "four")
SIZE_WORDS = (("small", "big"), ("small", "large"), ("little", "big"))

# A relation and its converse have their wordings in the same order, and so have places that are
# exchanged for each other: a wrong caption then differs in that word alone.
RELATIONS = {
    "left": ("to the left of", "left of", "to the left of"),
    "right": ("to the right of", "right of", "to the right of"),
    "above": ("above", "above", "higher than"),
    "below": ("below", "under", "lower than"),
    "bigger": ("bigger than", "bigger than", "larger than"),
    "smaller": ("smaller than", "smaller than", "smaller than"),
}
PLACES = {
    "top left": ("in the top left corner", "at the top left", "in the upper left"),
    "top right": ("in the top right corner", "at the top right", "in the upper right"),
    "bottom left": ("in the bottom left corner", "at the bottom left", "in the lower left"),
    "bottom right": ("in the bottom right corner", "at the bottom right", "in the lower right"),
    "middle": ("in the middle", "in the middle", "in the centre"),
    "top": ("at the top", "at the top", "near the top"),
    "bottom": ("at the bottom", "at the bottom", "near the bottom"),
    "left side": ("on the left", "on the left side", "at the left"),
    "right side": ("on the right", "on the right side", "at the right"),
}
WORDINGS = 3


@dataclass(frozen=True, slots=True)
class Mention:
    """Where a caption names things: characters start to end hold size, colour and noun, `noun` is
    the noun alone, and `things` are the numbers of the things meant.
    """

    start: int
    end: int
    noun: tuple[int, int]
    things: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A true caption and what its phrases name, in the text's order."""

    text: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A thing in words. `number` 0 is an article (`a red circle`), else so many, exactly."""

    shape: str
    colour: str | None = None
    size: str | None = None
    number: int = 0

    def matches(self, things: Sequence[Thing]) -> list[int]:
        """Numbers of the things that it describes."""
        return [
            index
            for index, thing in enumerate(things)
            if thing.shape == self.shape
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
        ]


@dataclass(frozen=True, slots=True)
class Claim:
    """A caption's meaning (phrases, and a relation or a place between or of them) and its form:
    a template, which wording, which words for sizes, whether written as a sentence.
    """

    phrases: tuple[Phrase, ...]
    word: str | None
    template: str
    wording: int = 0
    size_words: tuple[str, str] = SIZE_WORDS[0]
    sentence: bool = False

    def holds(self, things: Sequence[Thing], *, loosely: bool = False) -> bool:
        """Whether it is true beyond doubt; loosely, whether someone could call it true."""
        found = []
        for phrase in self.phrases:
            found.append(phrase.matches(things))
            if not found[-1] or phrase.number not in (0, len(found[-1])):
                return False
        if self.word in RELATIONS:
            return any(
                related(self.word, things[one], things[other], loosely=loosely)
                for one in found[0]
                for other in found[1]
            )
        return self.word is None or any(
            placed(self.word, things[one], loosely=loosely) for one in found[0]
        )

    def new_pairs(self) -> int:
        """How many phrases have a colour and a shape that are held out of training together."""
        return sum((phrase.colour, phrase.shape) in HELD_OUT_PAIRS for phrase in self.phrases)

    def new_relation(self) -> bool:
        """Whether it relates shapes in a way that is held out of training."""
        if self.word not in RELATIONS:
            return False
        one, other = self.phrases
        return (self.word, one.shape, other.shape) in HELD_OUT_RELATIONS

    def fitting(self, tally: Mapping[str, int]) -> int:
        """How many things its words fit, in sum, each word for itself: what a bag of words sees.

        The tally says how many things each shape, colour and size fits.
        """
        return sum(
            tally.get(word, 0)
            for phrase in self.phrases
            for word in (phrase.shape, phrase.colour, phrase.size)
            if word
        )

    def say(self, things: Sequence[Thing]) -> Statement:
        """Put it in words, and tell which words name which things."""
        text, spans = self._spelled()
        mentions = []
        for phrase, start, end in spans:
            noun = (text.rfind(" ", 0, end) + 1, end)
            mentions.append(Mention(start, end, noun, tuple(phrase.matches(things))))
        return Statement(text, tuple(mentions))

    @property
    def text(self) -> str:
        """It in words."""
        return self._spelled()[0]

    def _spelled(self) -> tuple[str, list[tuple[Phrase, int, int]]]:
        """The text, and where its phrases stand without their determiners, in its order."""
        text = ""
        spans = []
        for piece in _pieces(self.template):
            if piece.isdigit():
                phrase = self.phrases[int(piece)]
                lead, name = self._words(phrase)
                start = len(text) + len(lead)
                text += lead + name
                spans.append((phrase, start, len(text)))
            elif piece == "word":
                text += self._word()
            elif piece == "be":
                text += "are" if self.phrases[0].number > 1 else "is"
            else:
                text += piece
        return (text[0].upper() + text[1:] + "." if self.sentence else text), spans

    def _words(self, phrase: Phrase) -> tuple[str, str]:
        """The determiner with its space, and the size, colour and noun."""
        size = self.size_words[phrase.size == "big"] if phrase.size else None
        noun = phrase.shape
        if phrase.number > 1:
            noun += "es" if noun.endswith("s") else "s"
        name = " ".join(word for word in (size, phrase.colour, noun) if word)
        if phrase.number:
            return NUMBERS[phrase.number - 1] + " ", name
        return "an " if name[0] in "aeiou" else "a ", name

    def _word(self) -> str:
        """The relation or the place."""
        assert self.word is not None
        return (RELATIONS.get(self.word) or PLACES[self.word])[self.wording]


@cache
def _pieces(template: str) -> list[str]:
    """What stands in braces, and what stands between them."""
    return re.split(r"[{}]", template)


def related(relation: str, one: Thing, other: Thing, *, loosely: bool = False) -> bool:
    """Whether one thing is left of, above, bigger than ... another.

    Strictly, a direction is within 45 degrees of its axis, and sizes are of different classes;
    loosely, any visible difference counts.
    """
    if relation in ("right", "below", "smaller"):
        return related(OPPOSITE[relation], other, one, loosely=loosely)
    if relation == "bigger":
        if loosely:
            return one.extent > 1.02 * other.extent
        return (one.size, other.size) == ("big", "small")
    across, down = (there - here for here, there in zip(one.centre, other.centre, strict=True))
    along, aside = (across, down) if relation == "left" else (down, across)
    return along > 0.03 if loosely else along >= max(0.15, abs(aside))


def placed(place: str, thing: Thing, *, loosely: bool = False) -> bool:
    """Whether a thing is in some part of the picture."""
    x, y = thing.centre
    if place == "middle":
        reach = 0.2 if loosely else 0.09
        return max(abs(x - 0.5), abs(y - 0.5)) <= reach
    edge = 0.46 if loosely else 0.3
    sides = {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}
    return all(sides[side] <= edge for side in place.removesuffix(" side").split())
