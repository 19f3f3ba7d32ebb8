"""Captions that are almost right: one thing about a claim is changed so that it is surely false.

So that the words alone never tell, a change keeps the claim's form and pattern: what differed
still differs (a colour is not replaced by one that the caption has already), and what is exchanged
is as likely in the other direction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Any, Literal, get_args

from xsearch.data.scenes.claims import NUMBERS, PLACES, RELATIONS, Claim
from xsearch.data.scenes.world import COLOURS, OPPOSITE, SHAPES, SIZES, Thing

Kind = Literal[
    "swap-attribute",
    "swap-object",
    "replace-attribute",
    "replace-object",
    "replace-relation",
    "replace-count",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

ABSENT = 0.04
"""How often a replacing word may be one that nothing in the scene has."""
FEWER = 0.4
"""How often the words of a wrong caption may fit fewer things than the true one's: as often, then,
as they fit more. Else counting what fits each word, whatever belongs to what, would do."""
CORNERS = ("top left", "top right", "bottom left", "bottom right", "middle")
PLACE_SWAPS = {place: tuple(p for p in CORNERS if p != place) for place in CORNERS} | {
    "top": ("bottom",),
    "bottom": ("top",),
    "left side": ("right side",),
    "right side": ("left side",),
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """A false caption, and what was changed of the true one."""

    text: str
    kind: Kind


def wrongs_of(claim: Claim, things: Sequence[Thing], random: Random) -> tuple[Wrong, ...]:
    """Up to four false captions of different kinds, in random order.

    None has more held-out combinations than the claim; a held-out relation stays held out, and so
    do pairs of colour and shape, unless to change that pair is the only way.
    """
    found: list[Wrong] = []
    seen = {claim.text}
    for kind in random.sample(KINDS, len(KINDS)):
        fewer = random.random() < FEWER
        for changed in _false(changes(kind, claim, things, random), claim, things, fewer):
            text = changed.text
            if text not in seen:
                seen.add(text)
                found.append(Wrong(text, kind))
                break
        if len(found) == 4:
            break
    return tuple(found)


def _false(
    changed: Iterator[Claim], claim: Claim, things: Sequence[Thing], fewer: bool
) -> list[Claim]:
    """What is surely false and gives nothing away, the best first: as many held-out pairs as the
    claim has, and words that fit as many things, or more, or, if allowed, fewer.
    """
    tally = Counter(word for thing in things for word in (thing.shape, thing.colour, thing.size))
    pairs, relation, fitting = claim.new_pairs(), claim.new_relation(), claim.fitting(tally)
    ranked = []
    for candidate in changed:
        new, more = candidate.new_pairs(), candidate.fitting(tally) - fitting
        if (more < 0 and not fewer) or new > pairs or candidate.new_relation() != relation:
            continue
        if not candidate.holds(things, loosely=True):
            ranked.append(((new != pairs, more != 0), candidate))
    ranked.sort(key=lambda pair: pair[0])
    return [candidate for _, candidate in ranked]


def changes(kind: Kind, claim: Claim, things: Sequence[Thing], random: Random) -> Iterator[Claim]:
    """Ways to change a claim, the ones to prefer first; whether they are false is not looked at."""
    match kind:
        case "swap-attribute":
            return _swap_attributes(claim, random)
        case "swap-object":
            return _swap_phrases(claim)
        case "replace-attribute":
            return _replace_attributes(claim, things, random)
        case "replace-object":
            return _replace(claim, "shape", SHAPES, {thing.shape for thing in things}, random)
        case "replace-relation":
            return _replace_word(claim, random)
        case "replace-count":
            return _replace_number(claim, random)


def _swap_attributes(claim: Claim, random: Random) -> Iterator[Claim]:
    """Two phrases exchange their colours or their sizes."""
    pairs = list(combinations(range(len(claim.phrases)), 2))
    # Sizes are not said of what is counted, and its colour always is: `four squares and a big
    # purple square` may be true of four purple ones and another.
    counted = any(phrase.number for phrase in claim.phrases)
    names = ("colour",) if counted else ("colour", "size")
    for name in names if random.random() < 0.67 else names[::-1]:
        for one, other in random.sample(pairs, len(pairs)):
            phrases = list(claim.phrases)
            values = [getattr(phrases[at], name) for at in (other, one)]
            if counted and None in values:
                continue
            for at, value in zip((one, other), values, strict=True):
                phrases[at] = replace(phrases[at], **{name: value})
            yield replace(claim, phrases=tuple(phrases))


def _swap_phrases(claim: Claim) -> Iterator[Claim]:
    """A relation the other way round."""
    if claim.word in RELATIONS:
        yield replace(claim, phrases=claim.phrases[::-1])


def _replace_attributes(claim: Claim, things: Sequence[Thing], random: Random) -> Iterator[Claim]:
    """One colour becomes another; or the only size that is named, the other one."""
    colours = _replace(claim, "colour", COLOURS, {thing.colour for thing in things}, random)
    sizes = _replace(claim, "size", SIZES, set(SIZES), random)
    first, second = (sizes, colours) if random.random() < 0.4 else (colours, sizes)
    yield from first
    yield from second


def _replace(
    claim: Claim,
    name: Literal["colour", "shape", "size"],
    every: Sequence[str],
    present: Set[str],
    random: Random,
) -> Iterator[Claim]:
    """One phrase gets another colour, shape or size; seldom one that nothing in the scene has."""
    words = [getattr(phrase, name) for phrase in claim.phrases]
    counts = Counter(words)
    options = every if random.random() < ABSENT else sorted(present)
    options = [word for word in options if word not in counts]
    if name == "size" and len(words) - counts[None] == 1:
        options = list(every)
    for index in random.sample(range(len(words)), len(words)):
        if words[index] is None or counts[words[index]] > 1:
            continue
        for word in random.sample(options, len(options)):
            if word != words[index]:
                phrases = list(claim.phrases)
                change: dict[str, Any] = {name: word}
                phrases[index] = replace(phrases[index], **change)
                yield replace(claim, phrases=tuple(phrases))


def _replace_word(claim: Claim, random: Random) -> Iterator[Claim]:
    """Another relation or place."""
    if claim.word in RELATIONS:
        yield replace(claim, word=OPPOSITE[claim.word])
    elif claim.word in PLACES:
        places = PLACE_SWAPS[claim.word]
        for place in random.sample(places, len(places)):
            yield replace(claim, word=place)


def _replace_number(claim: Claim, random: Random) -> Iterator[Claim]:
    """Another number, each as likely; of two numbers, each in the other's place."""
    first, *others = claim.phrases
    if others and others[0].number:
        second = others[0]
        exchanged = (replace(first, number=second.number), replace(second, number=first.number))
        yield replace(claim, phrases=exchanged)
    elif first.number:
        for number in random.sample(range(1, len(NUMBERS) + 1), len(NUMBERS)):
            if number != first.number:
                yield replace(claim, phrases=(replace(first, number=number), *others))
