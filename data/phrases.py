"""What an English caption says of which things, as far as the word lists know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from .lexicon import Sense, grammar, table

_WORD = re.compile(r"[A-Za-z0-9]+(?:[-'’][A-Za-z0-9]+)*")
# "the dog 's toy" is one phrase.
_JOINING = ("", "'", "’")
# Who does something, where the list of things does not have the word.
_DOER = re.compile(r".(?:ers?|ists?|m[ae]n)$")


@dataclass(frozen=True, slots=True)
class Noun:
    """A known thing: words [start, end), its phrase from `first` on, and its senses."""

    first: int
    start: int
    end: int
    senses: tuple[Sense, ...]

    @property
    def groups(self) -> frozenset[str]:
        """Names of the groups that it is in."""
        return frozenset(sense.where.group for sense in self.senses)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A known attribute: words [start, end), the word it is said of, and the senses that fit."""

    start: int
    end: int
    head: int
    senses: tuple[Sense, ...]


@dataclass(frozen=True, slots=True)
class Phrases:
    """A caption as words in small letters, their spans in characters, and what is known of them.

    `breaks`: words that have punctuation before them.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    breaks: frozenset[int]
    nouns: tuple[Noun, ...] = ()
    attributes: tuple[Attribute, ...] = ()

    def before(self, place: int) -> str:
        """The word before the one at a place; empty at the start and behind punctuation."""
        return self.words[place - 1] if place > 0 and place not in self.breaks else ""

    def after(self, end: int) -> str:
        """The word at an end; empty at the caption's and where punctuation is before it."""
        return self.words[end] if end < len(self.words) and end not in self.breaks else ""

    def written(self, thing: Noun | Attribute) -> str:
        """The words of a thing."""
        return " ".join(self.words[thing.start : thing.end])


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in small letters."""
    return tuple(_WORD.findall(text.lower()))


@lru_cache(maxsize=1 << 12)
def parse(text: str) -> Phrases:
    """Find the things of a caption, and their attributes."""
    matches = list(_WORD.finditer(text))
    spans = tuple(match.span() for match in matches)
    breaks = frozenset(
        place
        for place in range(1, len(spans))
        if text[spans[place - 1][1] : spans[place][0]].strip() not in _JOINING
    )
    bare = Phrases(text, tuple(match[0].lower() for match in matches), spans, breaks)
    known = replace(bare, nouns=tuple(_nouns(bare)))
    return replace(known, attributes=tuple(_attributes(known)))


def _nouns(caption: Phrases) -> Iterator[Noun]:
    """Things whose phrase is seen from end to end: `dog` in "a wet dog runs", not in "dog toy"."""
    objects, rules, place = table("objects"), grammar(), 0
    while place < len(caption.words):
        length, senses = objects.at(caption.words, place)
        end = place + length
        first = _start(caption, place) if length else None
        if first is not None and caption.before(first) != "without":
            before, follower = caption.before(first), caption.after(end)
            ends = not follower or follower in rules["Links"] or follower in rules["Determiners"]
            acts = follower in rules["Verbs"] and follower not in rules["Bases"]
            fitting = tuple(
                sense
                for sense in senses
                if (
                    follower in sense.where.before
                    if sense.where.before
                    else ends or acts or (sense.form and follower in rules["Bases"])
                )
                and (not sense.where.after or before in sense.where.after)
            )
            if fitting:
                yield Noun(first, place, end, fitting)
        place = max(end, place + 1)


def _start(caption: Phrases, noun: int) -> int | None:
    """Where the phrase of a noun begins; None if there are words in it that nobody knows."""
    rules, first = grammar(), noun
    while caption.before(first) in rules["Adjectives"]:
        first -= 1
    before = caption.before(first)
    if before in rules["Determiners"]:
        return first - 1
    if not before or before in rules["Links"]:
        # "To rope in", "and sticks out her tongue".
        acts = first == noun and caption.words[noun] in rules["Verbs"]
        return None if acts and before not in rules["Governing"] else first
    # "A riding toy" is no toy that is ridden, "dogs chase toys" is too seldom written.
    verb = before in rules["Verbs"] and before.endswith(("s", "ing"))
    modifies = before in rules["Modifiers"] or caption.before(first - 1) in rules["Determiners"]
    return first if verb and not modifies else None


def _attributes(caption: Phrases) -> Iterator[Attribute]:
    listed, rules = table("attributes"), grammar()
    things = {noun.start: noun for noun in caption.nouns}
    for place in range(len(caption.words)):
        length, senses = listed.at(caption.words, place)
        joined = caption.before(place) == "and" and caption.before(place - 1) in rules["Adjectives"]
        if not length or joined or "without" in caption.words[max(place - 3, 0) : place]:
            continue
        head = place + length
        while caption.after(head) in rules["Adjectives"]:
            head += 1
        word = caption.after(head)
        if not word or word in rules["Links"] or word in rules["Determiners"]:
            continue
        if head in things:
            about = things[head].groups | {word}
        else:
            doer = {"People"} if _DOER.search(word) else set[str]()
            about = frozenset({word, word.rpartition("-")[2]} | doer)
        fitting = tuple(
            sense
            for sense in senses
            if not about & sense.where.never
            and (not sense.where.before or about & sense.where.before)
        )
        if fitting:
            yield Attribute(place, place + length, head, fitting)
