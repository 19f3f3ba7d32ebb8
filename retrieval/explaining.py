"""How a query that was read is shown: written in the query language again, and explained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.formats import is_image_name
from xsearch.core.paths import absolute
from xsearch.core.query import Image, Item, Part, Query, find_phrases, is_url

from .grammar import ITEM, PATH_LIKE
from .lexing import CLOSERS, QUOTES, WEIGHT
from .negation import negations
from .plain import MASK

_MARKS = re.escape(QUOTES)
_NUMBER = re.compile(r"[+-]?[0-9.,]+:")


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query was read.

    `written` is the query without words of negation; None where it has a picture that no path
    or URL names. `joined`: a picture and words become one by what was learnt of such queries.
    """

    query: Query
    written: str | None
    joined: bool = False

    def lines(self) -> list[str]:
        """A line for each part: its weight, what it is, and which word subtracted it."""
        shown = []
        for part in self.query.parts:
            said = f'  (subtracted by "{part.said}")' if part.said else ""
            phrases = "".join(f'  (with the phrase "{phrase}")' for phrase in part.phrases)
            shown.append(f"{part.weight:+g}  {_described(part.content)}{phrases}{said}")
        if any(part.said for part in self.query.parts):
            shown.append(
                'Words of negation subtract, but not in quotation marks, after a "\\", with '
                "--no-negation or with --literal."
            )
        if self.joined:
            shown.append(
                "A picture and words that have no weights are joined by what was learnt, where the "
                "encoder is the built-in one, and not added; --no-fusion adds them."
            )
        if self.written is not None and len(self.query.parts) > 1:
            shown.append(f"The same: {self.written}")
        return shown

    def to_dict(self) -> dict[str, Any]:
        """`parts`, each with its `weight`, `kind` and content, and the query as `written`.

        `joined` as in the attributes.
        """
        return {
            "parts": [_as_dict(part) for part in self.query.parts],
            "written": self.written,
            "joined": self.joined,
        }


def explain_query(query: Query, *, fusion: bool = True) -> Explanation:
    """How a query was read: its parts, and how it could be written; `fusion` as in a search."""
    joined = fusion and query.joined is not None
    try:
        return Explanation(query, unparse(query), joined)
    except UsageError:
        return Explanation(query, None, joined)


def unparse(query: Query) -> str:
    """A query in the query language, without words of negation: `parse` gives an equal one.

    A relative path is read again from the same folder. A picture whose path has quotation marks
    or the like in it becomes its `file://` URL.

    Raises UsageError: it has a picture that no path or URL names.
    """
    written = []
    for number, part in enumerate(query.parts):
        if number or part.weight < 0:
            written.append("-" if part.weight < 0 else "+")
        written.append(_write(part))
    return " ".join(written)


def _described(content: str | Image | Item) -> str:
    if isinstance(content, Item):
        return f"item {content.id}"
    return f'words "{content}"' if isinstance(content, str) else f"picture {_named(content)}"


def _as_dict(part: Part) -> dict[str, Any]:
    shown: dict[str, Any] = {"weight": part.weight}
    if isinstance(part.content, Item):
        shown |= {"kind": "item", "id": part.content.id}
    elif isinstance(part.content, Image):
        shown |= {"kind": "image", "image": _named(part.content)}
    else:
        shown |= {"kind": "text", "text": part.content}
    if part.phrases:
        shown["phrases"] = list(part.phrases)
    if part.said is not None:
        shown["said"] = part.said
    return shown


def _named(image: Image) -> str:
    source = image.source
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "(no file)"


def _write(part: Part) -> str:
    weight = ""
    if abs(part.weight) != 1.0:
        from decimal import Decimal

        number = f"{Decimal(repr(abs(part.weight))):f}"
        weight = number.removesuffix(".0") + ":"
    if isinstance(part.content, Item):
        return f"{weight}id:{part.content.id}"
    if isinstance(part.content, Image):
        return weight + _write_picture(part.content)
    return weight + _write_text(part, weighted=bool(weight))


def _write_picture(image: Image) -> str:
    if not isinstance(image.source, str | os.PathLike):
        raise UsageError("a picture that is no file cannot be written in a query")
    path = os.fspath(image.source)
    if is_url(path):
        return path
    if not PATH_LIKE.match(path):
        path = f"./{path}"
    words = path.split(" ")
    plain = is_image_name(path) and not re.search(rf"[{_MARKS}]|[^\S ]| \\|\s$", path)
    if plain and not {"+", "-"} & {*words} and not any(map(ITEM.match, words)):
        return path
    return absolute(Path(path)).as_uri()


def _write_text(part: Part, weighted: bool) -> str:
    """A text with marks around its phrases, and backslashes before what would be read otherwise."""
    text = str(part.content)
    phrases = find_phrases(text, part.phrases)
    words = list(_plain_words(text, phrases))
    escaped = {
        start for start, end in words if _needs_escape(text[start:end], start == 0, weighted)
    }
    while part.weight > 0:
        masked = text
        taken = phrases + [(start, end) for start, end in words if start in escaped]
        for start, end in taken:
            masked = masked[:start] + MASK * (end - start) + masked[end:]
        found = negations(masked).negations
        if not found:
            break
        for one in found:
            first, last = one.place
            escaped |= {start for start, end in words if start < last and first < end}
    return "".join(_pieces(text, phrases, words, escaped))


def _plain_words(text: str, phrases: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in [*phrases, (len(text), len(text))]:
        for word in re.finditer(r"\S+", text[at:start]):
            yield at + word.start(), at + word.end()
        at = end


def _needs_escape(word: str, first: bool, weighted: bool) -> bool:
    """Whether a word would be read as something else than a word, if a quotation follows, too."""
    if word[0] == "\\" or word in "+-" or ITEM.match(word) or is_url(word):
        return True
    if is_image_name(f"_{word}"):
        return True
    return first and bool(
        PATH_LIKE.match(word) or _NUMBER.match(word) or (weighted and not WEIGHT.match(f"1:{word}"))
    )


def _pieces(
    text: str, phrases: list[tuple[int, int]], words: list[tuple[int, int]], escaped: set[int]
) -> Iterator[str]:
    at = 0
    starts = {start for start, _ in phrases}
    for start, end in sorted([*phrases, *words]):
        yield text[at:start]
        if start in starts:
            begins = (
                start == 0 or text[start - 1].isspace() or start in {last for _, last in phrases}
            )
            mark, closers = ('"', '"') if begins else ("“", CLOSERS["“"])
            yield mark + _before_marks(text[start:end], closers, quoted=True) + closers
        else:
            yield _write_word(text[start:end], start in escaped, quoted=end in starts)
        at = end


def _write_word(word: str, escaped: bool, quoted: bool) -> str:
    """A word, `escaped` or not, directly before a quotation where that is `quoted`."""
    rest = word.lstrip("\\")
    count = len(word) - len(rest)
    if not rest:
        return "\\" * (2 * count + (not quoted))
    if escaped and rest[0] in QUOTES:
        return "\\" * (2 * count + 1) + rest[0] + _before_marks(rest[1:], QUOTES, quoted)
    return "\\" * (2 * count + 1 if escaped else 0) + _before_marks(rest, QUOTES, quoted)


def _before_marks(text: str, marks: str, quoted: bool) -> str:
    """A text with its marks escaped, and what backslashes are before a quotation's mark doubled."""
    text = re.sub(rf"(\\*)([{re.escape(marks)}])", r"\1\1\\\2", text)
    return re.sub(r"\\+$", lambda run: run[0] * 2, text) if quoted else text
