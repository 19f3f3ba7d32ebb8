"""Makes English captions minimally wrong: hard negatives to train with and to measure by.

The kinds are those of SugarCrepe (Hsieh et al. 2023, "SugarCrepe: Fixing Hackable Benchmarks for
Vision-Language Compositionality"), which has a language model write them; these are made by rules
and word lists. Swaps, which a bag of words does not notice, were first asked for by ARO
(Yuksekgonul et al. 2023, "When and Why Vision-Language Models Behave Like Bags-of-Words, and What
to Do about It?").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from .lexicon import Choice, Sense, Where, grammar, stem, stems, table
from .phrases import Attribute, Noun, Phrases, parse, words_of
from .plausible import plausibility

if TYPE_CHECKING:
    import numpy as np

Kind = Literal[
    "replace-object",
    "replace-attribute",
    "replace-relation",
    "swap-object",
    "swap-attribute",
    "add-object",
    "add-attribute",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

_TRIES = 4
_SWAP_TRIES = 16
"""Of what could be made of a caption, so many are tried: more give more captions, fewer give
captions that tell less by their words alone. Swaps, of the same words, tell little anyhow.
"""

_MALE = frozenset({"man", "men", "guy", "guys", "boy", "boys"})
_FEMALE = frozenset({"woman", "women", "lady", "ladies", "girl", "girls"})
_HE = {"she": "he", "herself": "himself", "hers": "his"}
_SHE = {"he": "she", "himself": "herself", "his": "her", "him": "her"}

_NEARBY = frozenset({"Animals", "Boats", "Cars", "Scenery", "Seats"})
"""Groups of which captions seldom leave out a member that is in the picture."""

_Change = tuple[int, int, str]
"""Words [start, end) are exchanged for others; none: others are put in before `start`."""
_Changes = Sequence[_Change]


@dataclass(frozen=True, slots=True)
class Corruption:
    """A caption made wrong, and how."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Picture:
    """The caption at hand, the others of its picture, and the stems of all their words."""

    caption: Phrases
    others: tuple[str, ...]
    said: frozenset[str]


def corruptions(
    caption: str,
    others: Sequence[str] = (),
    *,
    random: np.random.Generator,
    kinds: Sequence[Kind] = KINDS,
) -> list[Corruption]:
    """At most one of each kind, those that can be made of this caption.

    `others` are further captions of the same picture: nothing is put in that one of them mentions.

    Wrong captions read as plausible as true ones. What is drawn is taken with the probability that
    Metropolis et al. (1953) accept it with, by how often its words stand side by side in captions;
    so what is common is replaced by what is rare as often as the other way round. After a few that
    are not taken, a kind is left out, though it could be made.
    """
    said = stems(caption).union(*map(stems, others))
    picture = _Picture(parse(caption), tuple(others), said)
    known = {text.lower() for text in (caption, *others)}
    found = []
    for kind in kinds:
        tries = _SWAP_TRIES if kind.startswith("swap") else _TRIES
        text = _draw(picture.caption, list(_MAKERS[kind](picture)), tries, random)
        if text is not None and text.lower() not in known:
            found.append(Corruption(text, kind))
    return found


def _draw(
    caption: Phrases, options: list[_Changes], tries: int, random: np.random.Generator
) -> str | None:
    """One of the options, written out; None if none of those tried is plausible enough."""
    if not options:
        return None
    usual = plausibility(caption.words)
    for _ in range(tries):
        text = _write(caption, options[int(random.random() * len(options))])
        words = words_of(text)
        gain = (plausibility(words) - usual) * len(words)
        if random.random() < math.exp(min(gain, 0.0)):
            return text
    return None


def _write(caption: Phrases, changes: _Changes) -> str:
    """The caption with its changes; "a" and "an", and a capital at the start, follow."""
    text = caption.text
    for start, end, new in sorted(changes, reverse=True):
        put = new
        if start < end:
            first, last = caption.spans[start][0], caption.spans[end - 1][1]
        elif start:
            first = last = caption.spans[start - 1][1]
            put = " " + new
        else:
            first = last = 0
            put, text = new + " ", text[0].lower() + text[1:]
        if start == 0 and caption.text[0].isupper():
            put = put[0].upper() + put[1:]
        text = text[:first] + put + text[last:]
        if caption.before(start) in ("a", "an"):
            first, last = caption.spans[start - 1]
            text = text[: first + 1] + _article(new)[1:] + text[last:]
    return text


def _article(word: str) -> str:
    vowel = word[0] in "aeiou" and not word.startswith(("uni", "one", "euro", "use"))
    return "an" if vowel else "a"


def _replacements(senses: Sequence[Sense], said: frozenset[str]) -> Iterator[tuple[Where, str]]:
    for sense in senses:
        for choice in sense.choices:
            if not choice.blocked & said:
                yield sense.where, choice.text


def _replace_object(picture: _Picture) -> Iterator[_Changes]:
    caption = picture.caption
    people = [noun for noun in caption.nouns if "People" in noun.groups]
    for noun in caption.nouns:
        bare = not _qualities(caption, noun)
        for where, new in _replacements(noun.senses, picture.said):
            if bare and new in where.usual:
                continue
            pronouns = _pronouns(caption, new) if people == [noun] else ()
            yield ((noun.start, noun.end, new), *pronouns)


def _pronouns(caption: Phrases, person: str) -> Iterator[_Change]:
    """The pronouns of a caption's only person, who is now another."""
    his = _HE if person in _MALE else _SHE if person in _FEMALE else {}
    for place, word in enumerate(caption.words):
        if word == "her" and his is _HE:
            follower = caption.after(place + 1)
            alone = not follower or follower in grammar()["Links"]
            yield place, place + 1, "him" if alone else "his"
        elif word in his:
            yield place, place + 1, his[word]


def _replace_attribute(picture: _Picture) -> Iterator[_Changes]:
    for each in picture.caption.attributes:
        for _, new in _replacements(each.senses, picture.said):
            yield ((each.start, each.end, new),)


def _replace_relation(picture: _Picture) -> Iterator[_Changes]:
    caption, relations, place = picture.caption, table("relations"), 0
    while place < len(caption.words):
        length, senses = relations.at(caption.words, place)
        end = place + length
        fitting = [sense for sense in senses if _relates(caption, place, end, sense)]
        for _, new in _replacements(fitting, picture.said):
            yield ((place, end, new),)
        place = max(end, place + 1)


def _relates(caption: Phrases, start: int, end: int, sense: Sense) -> bool:
    """Whether the words around a relation are those that its group asks for."""
    where, before = sense.where, caption.before(start)
    if where.after and before not in where.after:
        return False
    if sense.forms > 1 and not _acts(before, sense.form):
        return False
    if where.without and not where.without.isdisjoint(caption.words):
        return False
    about = _behind(caption, end)
    return bool(not where.before or about & where.before) and not about & where.never


def _acts(before: str, form: int) -> bool:
    """Whether a word of this form is a verb behind that word: "dogs run", not "a run"."""
    if before in grammar()["Determiners"] or before in grammar()["Adjectives"]:
        return False
    return form > 0 or before.endswith("s") or before in grammar()["Doers"]


def _behind(caption: Phrases, end: int) -> frozenset[str]:
    """What follows: the next word, and of a thing its name and groups, and `Phrase`."""
    rules, follower = grammar(), caption.after(end)
    noun = next((noun for noun in caption.nouns if noun.first == end), None)
    if noun:
        return noun.groups | {follower, caption.words[noun.end - 1], "Phrase"}
    head = end + (follower in rules["Determiners"])
    while caption.after(head) in rules["Adjectives"]:
        head += 1
    found = {follower, caption.after(head)}
    plural = caption.after(head).endswith("s") and caption.after(head) not in rules["Verbs"]
    return frozenset(found | {"Phrase"} if head > end or plural else found)


def _swap_object(picture: _Picture) -> Iterator[_Changes]:
    caption = picture.caption
    for at, one in enumerate(caption.nouns):
        for two in caption.nouns[at + 1 :]:
            between = caption.words[one.end : two.first]
            # "A young man and woman": the attribute is of both.
            shared = between == ("and",) and two.first == two.start
            alike = _marks(caption, one) == _marks(caption, two)
            if not shared and not (alike and _symmetric(between)) and _trade(caption, one, two):
                yield _swapped(caption, one, two)


def _trade(caption: Phrases, one: Noun, two: Noun) -> bool:
    """Whether two things may change places: of one group, or a person and an animal of which one
    does something to the other.
    """
    rules, groups = grammar(), one.groups | two.groups
    if "People" in groups and not rules["Pronouns"].isdisjoint(caption.words):
        return False
    if {"People", "Animals"} <= groups and one.senses[0].form == two.senses[0].form:
        plain = not _qualities(caption, one) | _qualities(caption, two)
        return plain and not rules["Directed"].isdisjoint(caption.words[one.end : two.first])
    return _exchangeable(caption, one, two)


def _marks(caption: Phrases, noun: Noun) -> frozenset[str]:
    """What a thing would be told from others by."""
    return _qualities(caption, noun) - grammar()["Weak"]


def _qualities(caption: Phrases, noun: Noun) -> frozenset[str]:
    return frozenset(caption.words[noun.first : noun.start]) - grammar()["Determiners"]


def _swap_attribute(picture: _Picture) -> Iterator[_Changes]:
    caption = picture.caption
    for at, one in enumerate(caption.attributes):
        for two in caption.attributes[at + 1 :]:
            ordered = one.head < two.start and not _same_said(caption, one, two)
            if ordered and _exchangeable(caption, one, two):
                yield _swapped(caption, one, two)


def _same_said(caption: Phrases, one: Attribute, two: Attribute) -> bool:
    """Whether both are of like things that do the same: "a man in red trunks and a man in blue"."""
    if stem(caption.words[one.head]) != stem(caption.words[two.head]):
        return False
    owners = {stem(word) for word in caption.words[: one.start]} - {"a", "the"}
    between = caption.words[one.head + 1 : two.start]
    rest = [word for word in between if word not in grammar()["Wearing"]]
    return _symmetric([word for word in rest if stem(word) not in owners])


def _exchangeable(caption: Phrases, one: Noun | Attribute, two: Noun | Attribute) -> bool:
    """Whether either may stand for the other, and neither may mean the other."""
    first, second = caption.written(one), caption.written(two)
    return _may_be(one, first, second) and _may_be(two, second, first)


def _may_be(replaced: Noun | Attribute, old: str, new: str) -> bool:
    return any(
        choice.text == new and not choice.blocked & stems(old)
        for sense in replaced.senses
        for choice in sense.choices
    )


def _symmetric(between: Sequence[str]) -> bool:
    """Whether words between two things say the same of both."""
    return grammar()["Symmetric"].issuperset(between)


def _swapped(caption: Phrases, one: Noun | Attribute, two: Noun | Attribute) -> _Changes:
    return (
        (one.start, one.end, caption.written(two)),
        (two.start, two.end, caption.written(one)),
    )


def _add_object(picture: _Picture) -> Iterator[_Changes]:
    """ "... and a hat" behind a thing that is no subject; "near a horse" at the end."""
    caption, rules = picture.caption, grammar()
    for noun in caption.nouns:
        governed = caption.before(noun.first) in rules["Governing"]
        if governed and caption.after(noun.end) not in rules["Continuing"]:
            for sense in noun.senses:
                for choice in sense.choices if sense.where.names else ():
                    if _absent(choice, sense.where, picture.said):
                        yield ((noun.end, noun.end, f"and {_one(choice, sense.form)}"),)
    end = len(caption.words)
    if caption.nouns and caption.nouns[-1].end == end:
        for (where, form), choices in table("objects").members.items():
            for choice in choices if where.group in _NEARBY and form == 0 else ():
                if _absent(choice, where, picture.said):
                    yield ((end, end, f"near {_one(choice, form)}"),)


def _absent(choice: Choice, where: Where, said: frozenset[str]) -> bool:
    """Whether a thing is not in a picture of which so much is said, as far as that tells."""
    return (
        choice.text not in where.unsaid | where.usual and not (choice.blocked | where.names) & said
    )


def _one(choice: Choice, form: int) -> str:
    return choice.text if form else f"{_article(choice.text)} {choice.text}"


def _add_attribute(picture: _Picture) -> Iterator[_Changes]:
    """Attributes of things that have none; rather such as others contradict."""
    caption = picture.caption
    for noun in caption.nouns:
        bare = noun.first == noun.start or caption.words[noun.start - 1] in grammar()["Bare"]
        if noun.start - noun.first > 1 or not bare:
            continue
        told = {
            sense.where.group
            for other in map(parse, picture.others)
            for attribute in other.attributes
            if stem(other.words[attribute.head]) == stem(caption.words[noun.end - 1])
            for sense in attribute.senses
        }
        for where, choice in _attributes_of(noun.groups | {caption.words[noun.end - 1]}):
            if (choice.rare or where.group in told) and not choice.blocked & picture.said:
                yield ((noun.start, noun.start, choice.text),)


@lru_cache(maxsize=1 << 12)
def _attributes_of(about: frozenset[str]) -> tuple[tuple[Where, Choice], ...]:
    """The attributes that may be said of a thing of these groups, or of this name."""
    return tuple(
        (where, choice)
        for (where, _), choices in table("attributes").members.items()
        if about & where.added and not about & where.never
        for choice in choices
    )


_MAKERS: dict[Kind, Callable[[_Picture], Iterator[_Changes]]] = {
    "replace-object": _replace_object,
    "replace-attribute": _replace_attribute,
    "replace-relation": _replace_relation,
    "swap-object": _swap_object,
    "swap-attribute": _swap_attribute,
    "add-object": _add_object,
    "add-attribute": _add_attribute,
}
