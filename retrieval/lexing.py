"""How a written query falls into words, quoted phrases, operators and weights."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from xsearch.core.errors import UsageError

CLOSERS = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』"}
"""What can close a quotation, by the mark that opened it."""
QUOTES = "".join(dict.fromkeys("".join(CLOSERS) + "".join(CLOSERS.values())))
"""Every quotation mark; a backslash before one takes it as it is."""

# A number and a colon directly before a letter, a quotation, a path or an escape: what has a digit
# after its colon is a time or a ratio.
WEIGHT = re.compile(
    r"([+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)):"
    r"(?=[^\s\d!-/:-@\[-`{-\x7f]|[\"~]|\\+\S|/[^\s/]|\.{1,2}[/\\])"
)
_SERVER = re.compile(rf"\\\\[^\\\s{QUOTES}]+\\")


class Token(NamedTuple):
    """A piece of a written query, `source[start:end]`.

    `text` is what it stands for: an operator's sign, a weight's number, a word, a quoted phrase
    without its marks, a picture's path. Of an `escaped` word a backslash says that it is nothing
    but a word.
    """

    kind: Literal["operator", "weight", "word", "phrase", "picture"]
    text: str
    start: int
    end: int
    escaped: bool = False


def tokens(source: str, start: int = 0, end: int | None = None) -> list[Token]:
    """The tokens of a written query, or of a stretch of it.

    Raises UsageError: a quotation is not closed, or has nothing in it.
    """
    end = len(source) if end is None else end
    found: list[Token] = []
    at, first = start, True
    while at < end:
        if source[at].isspace():
            at += 1
            continue
        glued = bool(found) and found[-1].end == at
        token = _token(source, at, end, first, glued, bool(found) and found[-1].kind != "word")
        found.append(token)
        at, first = token.end, token.kind == "operator"
    return found


def at_place(source: str, at: int) -> str:
    """Where in a query something is, in words, on one line."""
    rest = " ".join(source[at : at + 40].split())
    return f"at character {at + 1} ({rest[:20]}{'…' if len(rest) > 20 else ''})"


def is_operator(source: str, at: int, end: int) -> bool:
    """Whether the `+` or `-` at the beginning of a word stands alone, or before a quotation."""
    if source[at] not in "+-":
        return False
    return at + 1 == end or source[at + 1].isspace() or source[at + 1] in CLOSERS


def _token(source: str, at: int, end: int, first: bool, glued: bool, fresh: bool) -> Token:
    """The token at a place: `first` of its part, `glued` to the one before it, which is not
    a word where it is `fresh`."""
    begins = not glued or fresh
    if begins and is_operator(source, at, end):
        return Token("operator", source[at], at, at + 1)
    if first:
        weight = WEIGHT.match(source, at, end)
        if weight:
            return Token("weight", weight[1], at, weight.end())
    mark = source[at]
    opens = mark in CLOSERS and (begins or _opens_inside(source, at))
    return _phrase(source, at, end) if opens else _word(source, at, end, begins)


def _opens_inside(source: str, at: int) -> bool:
    """Whether a mark opens a quotation though other characters are directly before it.

    Straight ones do not, so that 12" stays what it is, but after a bracket, and in Chinese and
    Japanese, which have no spaces before words.
    """
    before = source[at - 1]
    return source[at] != '"' or before in "([{" or "\u2e80" <= before <= "\u9fff"


def _phrase(source: str, at: int, end: int) -> Token:
    closers = CLOSERS[source[at]]
    text: list[str] = []
    place = at + 1
    while place < end and source[place] not in closers:
        piece, place = _piece(source, place, end, closers)
        text.append(piece)
    if place >= end:
        raise UsageError(
            f"a quotation is not closed {at_place(source, at)}: close it, or write "
            f"\\{source[at]} for the mark itself"
        )
    phrase = "".join(text).strip()
    if not phrase:
        raise UsageError(
            f"a quotation has nothing in it {at_place(source, at)}: write words between the marks"
        )
    return Token("phrase", phrase, at, place + 1)


def _word(source: str, at: int, end: int, begins: bool) -> Token:
    """A word: up to white space, or a quotation that opens inside it."""
    text: list[str] = []
    place, escaped = at, False
    if begins and source[at] == "\\" and not _SERVER.match(source, at, end):
        place = _after_backslashes(source, at, end)
        count = place - at
        marked = place < end and source[place] in QUOTES and count % 2 == 1
        alone = place >= end or source[place].isspace()
        escaped = not (alone and count == 1)
        text.append("\\" * (count // 2 if escaped else 1))
        if marked:
            text.append(source[place])
            place += 1
    elif source[at] in QUOTES:
        text.append(source[at])
        place += 1
    while place < end and not source[place].isspace():
        if source[place] in CLOSERS and _opens_inside(source, place):
            break
        piece, place = _piece(source, place, end, QUOTES)
        text.append(piece)
    return Token("word", "".join(text), at, place, escaped)


def _piece(source: str, at: int, end: int, marks: str) -> tuple[str, int]:
    """What stands at a place, and where it ends: a character, or backslashes.

    Of those directly before a mark, two stand for one, and an odd one takes the mark as it is.
    """
    after = _after_backslashes(source, at, end)
    if after == at:
        return source[at], at + 1
    count = after - at
    if after == end or source[after] not in marks:
        return "\\" * count, after
    half = "\\" * (count // 2)
    return (half + source[after], after + 1) if count % 2 else (half, after)


def _after_backslashes(source: str, at: int, end: int) -> int:
    while at < end and source[at] == "\\":
        at += 1
    return at
