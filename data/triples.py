"""Makes queries of a picture and words out of captions: a picture, what differs, what is meant.

Composed image retrieval (Vo et al. 2019, "Composing Text and Image for Image Retrieval") is learnt
and measured on such triples. People wrote those of the usual data sets; these are made by rule.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from .keywords import keywords
from .vocabulary import synonyms

_LANGUAGE = "en"
# At least so many words are true of both pictures, and at most so many of the target alone.
_LEAST_KEPT, _MOST_NEW = 2, 2
# What so many captions of a picture say, people agree on.
_AGREED = 2
# A phrase has at most so many words that mean something: it must not say everything by itself.
_LONGEST = 3
# Of all pictures, at most this share fits a query; less alike than this, two have little to keep.
_COMMON, _ALIKE = 0.02, 0.2
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
# What a phrase does not begin with.
_LOOSE = re.compile("and|or|but|is|are|was|were|while|as|being|that|which|who|it|there", re.I)
# What is true of most pictures, or of how they were taken, is no difference.
_EMPTY = "person people child children kid someone something human look stand wear background photo"


@dataclass(frozen=True, slots=True)
class Triple:
    """A picture and a text that together mean others. Pictures are places in a list.

    `text` says what differs, in the target's words ("in the snow"), `words` in as few as can be
    ("snow"). `relevant` are all that fit, ascending, `target` among them, `reference` not.
    """

    reference: int
    text: str
    words: str
    target: int
    relevant: tuple[int, ...]


def make_triples(captions: Sequence[Sequence[str]], *, each: int = 3) -> list[Triple]:
    """Triples of pictures, each given as its English captions; at most `each` of one reference.

    A caption of the target has at least two words that the reference's captions agree on, one or
    two that none of them has and the target's agree on, and no others but what some caption of
    the reference has, too. The phrase around the new words is the text. All pictures whose captions
    have all of that caption's words are relevant; they are at most 2 % of all. Of several targets
    the reference gets those most like itself.

    The same captions give the same triples.
    """
    pictures = _Pictures(captions)
    found: list[list[tuple[float, Triple]]] = [[] for _ in captions]
    for target, texts in enumerate(captions):
        for text in texts:
            for alike, triple in pictures.described_by(target, text):
                found[triple.reference].append((alike, triple))
    return [triple for own in found for triple in _varied(own, each)]


def _varied(found: list[tuple[float, Triple]], each: int) -> Iterator[Triple]:
    """The first few, the most alike first, no words and no target twice."""
    seen: set[str | int] = set()
    for _, triple in sorted(found, key=lambda one: (-one[0], one[1].target, one[1].text)):
        if each and triple.words not in seen and triple.target not in seen:
            seen |= {triple.words, triple.target}
            each -= 1
            yield triple


class _Pictures:
    """What is said of each picture, and of which pictures each word is said."""

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        self._said = [
            Counter(stem for text in texts for stem in set(_stems(text))) for texts in captions
        ]
        self._agreed = [
            {stem for stem, count in said.items() if count >= _AGREED} for said in self._said
        ]
        self._places, self._agreed_places = _places(self._said), _places(self._agreed)
        self._rarity = {
            stem: float(np.log(len(captions) / len(places)))
            for stem, places in self._places.items()
        }
        self._most = max(1, int(_COMMON * len(captions)))

    def described_by(self, target: int, text: str) -> Iterator[tuple[float, Triple]]:
        """All triples that a caption of a target makes, and how alike their pictures are."""
        stems = set(_stems(text))
        covered = self._times(self._places, stems)
        relevant = tuple(np.flatnonzero(covered == len(stems)).tolist())
        if len(relevant) > self._most:
            return
        kept = self._times(self._agreed_places, (stems & self._agreed[target]) - _empty())
        missing = len(stems) - covered
        fits = (missing >= 1) & (missing <= _MOST_NEW) & (kept >= _LEAST_KEPT)
        for reference in np.flatnonzero(fits).tolist():
            new = stems.difference(self._said[reference])
            if not new <= self._agreed[target] or new & _empty():
                continue
            alike = self._likeness(reference, target)
            phrase = _phrase(text, new) if alike >= _ALIKE else None
            if phrase:
                yield alike, Triple(reference, *phrase, target, relevant)

    def _likeness(self, one: int, other: int) -> float:
        """How much of what is agreed on two pictures share (Jaccard), rare words counting more."""
        both = self._agreed[one] & self._agreed[other]
        either = self._agreed[one] | self._agreed[other]
        # Sorted: sums of floats depend on their order, and that of a set on the process.
        shared, whole = (
            sum(self._rarity[stem] for stem in sorted(part)) for part in (both, either)
        )
        return shared / whole if whole else 0.0

    def _times(
        self, places: Mapping[str, NDArray[np.int64]], stems: AbstractSet[str]
    ) -> NDArray[np.int64]:
        """How many of some words are said of each picture."""
        found = np.zeros(len(self._said), np.int64)
        for stem in stems & places.keys():
            found[places[stem]] += 1
        return found


def _places(said: Sequence[AbstractSet[str] | Counter[str]]) -> dict[str, NDArray[np.int64]]:
    """The pictures of which each word is said."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for picture, stems in enumerate(said):
        for stem in stems:
            places[stem].append(picture)
    return {stem: np.array(pictures) for stem, pictures in places.items()}


def _phrase(text: str, new: AbstractSet[str]) -> tuple[str, str] | None:
    """The words of a text around its new ones, and these alone; None if that says too much.

    From the first new word to the last; before it the small words that lead to it ("in the
    snow"); after it the word that it seems to belong to ("a black dog", "black and white dog").
    """
    words = _WORD.findall(text)
    stems = [_stems(word) for word in words]
    meant = [bool(own) for own in stems]
    at = [place for place, own in enumerate(stems) if not new.isdisjoint(own)]
    first, last = at[0], at[-1]
    while first and not meant[first - 1]:
        first -= 1
    while _LOOSE.fullmatch(words[first]):
        first += 1
    if words[last + 1 : last + 2] == ["and"] and any(meant[last + 2 : last + 3]):
        last += 2
    if any(meant[last + 1 : last + 2]):
        last += 1
    count = sum(meant[first : last + 1])
    if count > _LONGEST or count == sum(meant):
        return None
    phrase = " ".join(words[first : last + 1])
    return phrase.lower(), " ".join(words[place] for place in at).lower()


@lru_cache(maxsize=1 << 16)
def _stems(text: str) -> tuple[str, ...]:
    """The stems of a text's words that mean something; of words that mean the same, one."""
    same = _same()
    return tuple(same.get(stem, stem) for stem in keywords(text, _LANGUAGE))


@cache
def _same() -> dict[str, str]:
    """Stems of synonyms, each with the one that stands for its group."""
    found: dict[str, str] = {}
    for word, others in synonyms().items():
        group = sorted(one for one in (word, *others) if " " not in one)
        stems = [stem for one in group for stem in keywords(one, _LANGUAGE)]
        for stem in stems:
            found.setdefault(stem, stems[0])
    return found


@cache
def _empty() -> frozenset[str]:
    return frozenset(_stems(_EMPTY))
