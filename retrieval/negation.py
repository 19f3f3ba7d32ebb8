"""Finds words of negation in a text, as in "beach without people", and what they negate.

Only clear cases count: something is said before the negation, the word is one that negates, what
follows it is short, and the two are no set phrase ("no parking", "sans serif"). Everything else
stays as it is, since subtracting what was wanted does more harm than not subtracting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .negation_words import LANGUAGES, Language, Negator
from .plain import is_han, words

LONGEST = 5
"""Words of the longest thing that is negated; what is longer was hardly meant to be."""
READ = 1000
"""Characters of the longest text that is looked at; longer ones are passages, not queries."""

_MARKS = ",;:!?()[]{}<>…–—،؛؟，。；：！？、（）"
# Arabic vowel signs and the stroke that lengthens words.
_UNWRITTEN = dict.fromkeys((*range(0x64B, 0x653), 0x640)) | {ord("’"): "'"}
# French words that lost their last vowel.
_ELIDED = words("d l n j m t s c qu")


class Negation(NamedTuple):
    """A word of negation, `said` at `place`, and the stretches of the text that it negates."""

    said: str
    place: tuple[int, int]
    items: list[tuple[int, int]]


class Found(NamedTuple):
    """The stretches of a text that are not negated, and the negations."""

    kept: list[tuple[int, int]]
    negations: list[Negation]


class _Word(NamedTuple):
    key: str
    start: int
    end: int

    @property
    def is_mark(self) -> bool:
        return self.key in _MARKS


def negations(text: str) -> Found:
    """What a text negates in words, and what is left; all of it is left where nothing is clear."""
    nothing = Found([(0, len(text))], [])
    if len(text) > READ:
        return nothing
    if any(map(is_han, text)):
        if any("\u3040" <= character <= "\u30ff" for character in text):
            return nothing  # Japanese
        from .negation_chinese import clauses

        found = [
            (removed, Negation(text[place[0] : place[1]], place, items))
            for removed, place, items in clauses(text)
        ]
    else:
        found = _Reader(text).read()
    kept, at = [], 0
    for (start, end), _ in found:
        kept.append((at, start))
        at = end
    kept.append((at, len(text)))
    kept = [span for span in (_trimmed(text, *span) for span in kept) if span[0] < span[1]]
    return Found(kept, [negation for _, negation in found]) if found and kept else nothing


def joined(pieces: Sequence[str]) -> str:
    """Stretches of a text as one: with spaces between them, where the script has spaces."""
    text = pieces[0]
    for piece in pieces[1:]:
        tight = piece[0] in _MARKS or (is_han(text[-1]) and is_han(piece[0]))
        text += piece if tight else f" {piece}"
    return text


def _negators() -> dict[str, list[tuple[tuple[str, ...], Negator, Language]]]:
    """What may negate, by its first word; the longest first."""
    found: dict[str, list[tuple[tuple[str, ...], Negator, Language]]] = {}
    for language in LANGUAGES:
        for negator in language.negators:
            for phrase in negator.phrases:
                found.setdefault(phrase[0], []).append((phrase, negator, language))
    for choices in found.values():
        choices.sort(key=lambda choice: -len(choice[0]))
    return found


_NEGATORS = _negators()


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch of a text without white space and commas at its ends."""
    while start < end and (text[start].isspace() or (not start and text[start] in _MARKS)):
        start += 1
    while start < end and (text[end - 1].isspace() or text[end - 1] in ",;:–—،，、"):
        end -= 1
    return start, end


def _words(text: str) -> Iterator[_Word]:
    """The words of a text, and its marks.

    French words that lost their last vowel, as in d'arbres, are words of their own.
    """
    start = 0
    for at, character in enumerate(text + " "):
        mark = character in _MARKS
        short = character in "'’" and text[start:at].lower() in _ELIDED
        if not (mark or short or character.isspace()):
            continue
        end = at + 1 if short else at
        if start < end:
            yield _Word(text[start:end].lower().translate(_UNWRITTEN), start, end)
        if mark:
            yield _Word(character, at, at + 1)
        start = at + 1


class _Reader:
    """Reads the negations of one text, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = list(_words(text))

    def read(self) -> list[tuple[tuple[int, int], Negation]]:
        """The negations, each with the stretch of the text that goes with it."""
        found: list[tuple[tuple[int, int], Negation]] = []
        head: list[int] = []
        at = 0
        while at < len(self._words):
            clause = self._clause(at, head) if self._words[at].key in _NEGATORS else None
            if clause is None:
                head.append(at)
                at += 1
            else:
                removed, negation, at = clause
                while head and self._words[head[-1]].start >= removed[0]:
                    head.pop()
                found.append((removed, negation))
        return found

    def _clause(self, at: int, head: list[int]) -> tuple[tuple[int, int], Negation, int] | None:
        """The negation that begins at a word, and the number of the word after it."""
        for phrase, negator, language in _NEGATORS[self._words[at].key]:
            if self._says(at, phrase, negator, language):
                first = self._first(at, language)
                before = [self._words[number].key for number in head if number < first]
                items, end = self._items(at + len(phrase), language)
                if items and self._clear(before, items, negator, language):
                    if self._key(first) == "(" and self._key(end) == ")":
                        end += 1
                    place = (self._words[at].start, self._words[at + len(phrase) - 1].end)
                    spans = [self._span(*item) for item in items]
                    removed = (self._words[first].start, self._words[end - 1].end)
                    return removed, Negation(self._text[slice(*place)], place, spans), end
        return None

    def _says(self, at: int, phrase: tuple[str, ...], negator: Negator, language: Language) -> bool:
        """Whether the words from a place on are a negation, whatever is before and after."""
        after = at + len(phrase)
        if tuple(word.key for word in self._words[at:after]) != phrase:
            return False
        begin = self._text[self._words[at].start]
        if begin.isupper() and not self._text.isupper():
            return False
        before = self._key(at - 1)
        if before in negator.not_after or (
            before in language.ors and self._key(at - 2) in language.stops
        ):
            return False
        if negator.joined and not self._joins(at - 1, language):
            return False
        return not negator.before or self._key(after) in negator.before

    def _first(self, at: int, language: Language) -> int:
        """The first of the joining words and marks directly before a negation, or itself."""
        while self._joins(at - 1, language):
            at -= 1
        return at

    def _joins(self, at: int, language: Language) -> bool:
        key = self._key(at)
        return key in language.joiners or (bool(key) and key in ",;(–—،")

    def _items(self, at: int, language: Language) -> tuple[list[tuple[int, int]], int]:
        """What is negated from a word on, as the numbers of its words, and where that ends."""
        items: list[tuple[int, int]] = []
        start = end = at
        while end < len(self._words):
            key = self._key(end)
            if key == "," and start < end and self._is_list(end + 1, language):
                items.append((start, end))
                start = end + 1
            elif key in language.ors and start == end and items:
                start = end + 1
            elif key in language.ors or key in language.ands:
                if start == end or not self._goes_on(
                    end, items[0] if items else (start, end), language
                ):
                    break
                items.append((start, end))
                start = end + 1
            elif self._ends(end, language) or (
                self._does(end, language) and not self._begins(start, end, language)
            ):
                break
            end += 1
        if start < end:
            items.append((start, end))
        return [self._bare(item, language) for item in items], end

    def _ends(self, at: int, language: Language) -> bool:
        """Whether a word ends what is negated before it."""
        word = self._words[at]
        if word.is_mark or word.key in language.stops:
            return True
        return any(self._says(at, *choice) for choice in _NEGATORS.get(word.key, ()))

    def _goes_on(self, at: int, item: tuple[int, int], language: Language) -> bool:
        """Whether what follows a joining word is negated as the thing before it is."""
        after = at + 1
        if after >= len(self._words) or self._ends(after, language):
            return False
        if self._key(at) in language.ors:
            return True
        first, second = self._key(item[0]), self._key(after)
        alike = (first in language.articles) == (second in language.articles)
        return alike and self._does(item[0], language) == self._does(after, language)

    def _does(self, at: int, language: Language) -> bool:
        """Whether a word says what something does."""
        key = self._key(at)
        return bool(language.doing) and key.endswith(language.doing) and key not in language.things

    def _begins(self, start: int, at: int, language: Language) -> bool:
        """Whether nothing but articles is between the beginning of a thing and a word."""
        return all(self._key(number) in language.articles for number in range(start, at))

    def _is_list(self, at: int, language: Language) -> bool:
        """Whether short things follow, between commas, up to an "or"."""
        length = 0
        for number in range(at, len(self._words)):
            key = self._key(number)
            if key in language.ors:
                return True
            if key == "," and 0 < length <= 3:
                length = 0
            elif self._ends(number, language) or key in language.ands:
                return False
            else:
                length += 1
        return False

    def _clear(
        self, head: list[str], items: list[tuple[int, int]], negator: Negator, language: Language
    ) -> bool:
        """Whether a negation is a plain one, of something short and no set phrase."""
        said = [key for key in head if key not in language.empty and key not in _MARKS]
        if not said or any(not 0 < end - start <= LONGEST for start, end in items):
            return False
        start, end = items[0]
        keys = [self._key(number).rstrip(".") for number in range(start, end)]
        bare = [key for key in keys if key not in language.articles]
        if not bare or bare[0] in negator.not_before or bare[0][:1].isdigit():
            return False
        if negator.ending and bare[-1] not in negator.ending:
            return False
        if negator.signs and not language.signs.isdisjoint((*head, *keys)):
            return False
        return not (negator.describing and len(said) == 1 and len(keys) > 1 and keys == bare)

    def _bare(self, item: tuple[int, int], language: Language) -> tuple[int, int]:
        start, end = item
        while start < end and self._key(start) in language.fillers:
            start += 1
        return start, end

    def _span(self, first: int, last: int) -> tuple[int, int]:
        start, end = self._words[first].start, self._words[last - 1].end
        while end - start > 1 and self._text[end - 1] == ".":
            end -= 1
        return start, end

    def _key(self, at: int) -> str:
        return self._words[at].key if 0 <= at < len(self._words) else ""
