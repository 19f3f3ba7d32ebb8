"""Cuts a text into the words that its tokens are merged to, and says which of them matter."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xsearch.core.words import is_unspaced
from xsearch.data.keywords import with_content

Span = tuple[int, int]

_JOINERS = "'’-\u00b7\u200c\u200d"
"""What stands between letters of one word."""


@dataclass(frozen=True, slots=True)
class Word:
    """Characters [start, end) of a text, the numbers of their tokens, and whether they matter."""

    start: int
    end: int
    tokens: tuple[int, ...]
    is_content: bool


def words_of(text: str, spans: Sequence[Span]) -> list[Word]:
    """The words of a text that have tokens, given the characters [start, end) of each token.

    Signs are words of their own, without content, emoji with. Scripts without spaces between words
    are cut where the tokenizer cuts them.
    """
    cuts = list(_cut(text, spans))
    tokens: list[list[int]] = [[] for _ in cuts]
    for number, span in enumerate(spans):
        place = _largest_overlap(cuts, span)
        if place is not None:
            tokens[place].append(number)
    content = with_content([text[start:end] for start, end in cuts])
    return [
        Word(start, end, tuple(own), matters or _is_symbol(text[start]))
        for (start, end), own, matters in zip(cuts, tokens, content, strict=True)
        if own
    ]


def _cut(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or _parts(text, at, spans):
            if not text[start].isspace():
                yield start, at
            start = at


def _parts(text: str, at: int, spans: Sequence[Span]) -> bool:
    """Whether a word ends before the character at a place, which is not the first."""
    before, after = text[at - 1], text[at]
    if after in _JOINERS and at + 1 < len(text):
        return not (_is_letter(before) and _is_letter(text[at + 1]))
    if before in _JOINERS and at > 1:
        return not (_is_letter(text[at - 2]) and _is_letter(after))
    if is_unspaced(before) and is_unspaced(after):
        starts = any(start == at for start, _ in spans)
        return starts and not any(start < at < end for start, end in spans)
    if unicodedata.category(after)[0] == "M":  # marks on the letter before
        return False
    return _kind(before) != _kind(after) or _kind(before) == "symbol"


def _kind(char: str) -> str:
    if char.isspace():
        return "space"
    if _is_letter(char):
        return "unspaced" if is_unspaced(char) else "letter"
    return "symbol" if _is_symbol(char) else "sign"


def _is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNM"


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char) == "So"


def _largest_overlap(cuts: Sequence[Span], span: Span) -> int | None:
    shared = [min(end, span[1]) - max(start, span[0]) for start, end in cuts]
    best = max(range(len(cuts)), key=shared.__getitem__, default=None)
    return None if best is None or shared[best] <= 0 else best
