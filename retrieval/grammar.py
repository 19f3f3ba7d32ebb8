"""The grammar of the query language: from tokens to parts that are added and subtracted."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.formats import is_image_name
from xsearch.core.query import Image, Item, Part, Query, is_url

from .lexing import WEIGHT, Token, at_place, tokens
from .plain import MASK, might_negate

NEGATED_WEIGHT = -0.5
"""The weight of what words like "without" subtract."""

ITEM = re.compile(r"id:([0-9]+)(?!\S)")
PATH_LIKE = re.compile(r"\.{1,2}[/\\]|/\S|~\w*[/\\]|[A-Za-z]:[/\\]|\\\\[^\\\s]+\\")
_LONGEST_PATH = 4096


def read(elements: Sequence[str], negation: bool, pictures: bool) -> Query:
    """What the words of a command line, or a whole query as one, say in the query language.

    Raises UsageError, SourceError: see `language.parse`.
    """
    source = " ".join(elements)
    found: list[Token] = []
    start = at = 0
    for element in elements:
        picture = _whole_picture(element, at) if pictures else None
        if picture:
            found += tokens(source, start, at)
            found += picture
            start = at + len(element)
        at += len(element) + 1
    found += tokens(source, start)
    parts: list[Part] = []
    for sign, part in _split(found, source):
        parts += _read_part(sign, part, source, negation, pictures)
    return Query(*parts)


def existing_picture(text: str) -> Path | None:
    """The path of the picture that a text names, if there is one."""
    if not is_image_name(text) or len(text) >= _LONGEST_PATH:
        return None
    path = os.path.expanduser(text)  # noqa: PTH111 - leaves alone what Path.expanduser refuses
    return Path(path) if os.path.isfile(path) else None  # noqa: PTH113 - false for any text


def _whole_picture(element: str, at: int) -> list[Token]:
    """The tokens of a command-line word that is a picture's path, weighted or not; else none."""
    weight = WEIGHT.match(element)
    begin = weight.end() if weight else 0
    path = existing_picture(element[begin:])
    if path is None:
        return []
    found = [Token("picture", str(path), at + begin, at + len(element))]
    if weight:
        found.insert(0, Token("weight", weight[1], at, at + begin))
    return found


def _split(found: list[Token], source: str) -> list[tuple[float, list[Token]]]:
    """The tokens of each part, and its sign."""
    parts: list[tuple[float, list[Token]]] = []
    operator: Token | None = None
    current: list[Token] = []
    for token in found:
        if token.kind != "operator":
            if not current:
                parts.append((-1.0 if operator and operator.text == "-" else 1.0, current))
            current.append(token)
            continue
        if operator and not current:
            raise UsageError(
                f"two operators in a row {at_place(source, operator.start)}: write one of them, "
                f"or \\{token.text} for the character"
            )
        operator, current = token, []
    if operator and not current:
        raise UsageError(
            f"nothing follows the {operator.text} {at_place(source, operator.start)}: write a "
            f"part after it, or \\{operator.text} for the character"
        )
    return parts


def _read_part(
    sign: float, part: list[Token], source: str, negation: bool, pictures: bool
) -> list[Part]:
    """What a part says; several parts where words of negation subtract some of it."""
    weight = sign
    if part[0].kind == "weight":
        weight *= float(part[0].text.replace(",", "."))
        if not math.isfinite(weight) or not weight:
            raise UsageError(
                f"a weight must be a number other than 0 {at_place(source, part[0].start)}"
            )
        part = part[1:]
    content = _picture_or_item(part, source, pictures)
    if content is not None:
        return [Part(content, weight)]
    text = _Text.of(part, source)
    if negation and weight > 0 and might_negate(text.masked):
        return text.without_negations(weight)
    return [text.part(weight, [(0, len(text.content))])]


def _picture_or_item(part: list[Token], source: str, pictures: bool) -> Image | Item | None:
    """The picture or item that a part is; None for a text.

    Raises:
        UsageError: one stands beside words.
        SourceError: it is written like a path, and no picture is there.
    """
    raw = source[part[0].start : part[-1].end]
    plain = all(token.kind == "word" and not token.escaped for token in part)
    if len(part) == 1:
        if part[0].kind == "picture":
            return Image(Path(part[0].text))
        item = ITEM.match(raw) if plain else None
        if item:
            return Item(int(item[1].lstrip("0")[:20] or "0"))
        if pictures and plain and is_url(raw):
            return Image(raw)
    path = existing_picture(raw) if pictures and plain else None
    if path:
        return Image(path)
    for token in part:
        if len(part) > 1 and _is_no_text(token, source, pictures):
            raise UsageError(
                f"a picture or item stands beside words {at_place(source, token.start)}: write + "
                "or - between them, or quote it"
            )
    begins = part[0].kind == "word" and not part[0].escaped
    if pictures and begins and PATH_LIKE.match(part[0].text):
        there = len(raw) < _LONGEST_PATH and os.path.exists(os.path.expanduser(raw))  # noqa: PTH110, PTH111
        reason = "is no picture" if there else "no such picture"
        raise SourceError(f"{raw}: {reason}. To search for these words, quote them (--literal).")
    return None


def _is_no_text(token: Token, source: str, pictures: bool) -> bool:
    if token.kind == "picture":
        return True
    if token.kind != "word" or token.escaped:
        return False
    raw = source[token.start : token.end]
    if ITEM.match(raw):
        return True
    return pictures and (is_url(raw) or existing_picture(raw) is not None)


class _Text(NamedTuple):
    """A text as it was written: which pieces were quoted, and where words are only words."""

    content: str
    masked: str
    phrases: list[tuple[int, int]]

    @classmethod
    def of(cls, part: list[Token], source: str) -> _Text:
        """The text of the tokens of a part, with the white space between them."""
        content = masked = ""
        phrases: list[tuple[int, int]] = []
        end = part[0].start
        for token in part:
            gap = source[end : token.start]
            if token.kind == "phrase":
                start = len(content) + len(gap)
                phrases.append((start, start + len(token.text)))
            taken = token.kind == "phrase" or token.escaped
            content += gap + token.text
            masked += gap + (MASK * len(token.text) if taken else token.text)
            end = token.end
        return cls(content, masked, phrases)

    def part(
        self, weight: float, spans: Sequence[tuple[int, int]], said: str | None = None
    ) -> Part:
        """The part that some stretches of the text are, joined."""
        text = self.content[slice(*spans[0])]
        if len(spans) > 1:
            from .negation import joined

            text = joined([self.content[start:end] for start, end in spans])
        phrases = (
            self.content[first:last]
            for first, last in self.phrases
            if any(start <= first and last <= end for start, end in spans)
        )
        return Part(text, weight, said, tuple(phrases))

    def without_negations(self, weight: float) -> list[Part]:
        """What is left of the text, and what its words of negation subtract."""
        from .negation import negations

        kept, found = negations(self.masked)
        parts = [self.part(weight, kept)]
        for one in found:
            parts += (self.part(weight * NEGATED_WEIGHT, [item], one.said) for item in one.items)
        return parts
