"""Query values: what a person asks with, before any encoder has seen it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from PIL import Image as PILImage

MOST_PARTS = 50
"""More parts than these are a mistake: each is embedded."""
RERANKED = 50
"""So many of the best candidates are reranked where it is not said how many."""
_LARGEST_ID = 2**63 - 1
_URLS = ("http://", "https://", "file://")


class _Terms:
    """What adds up to a `Query`: `a + b`, `a - b`, `2 * a`, `-a`; a `str` counts literally."""

    __slots__ = ()

    def __add__(self, other: Operand) -> Query:
        added = _parts(other)
        return NotImplemented if added is None else Query(*_own(self), *added)

    def __radd__(self, other: Operand) -> Query:
        added = _parts(other)
        return NotImplemented if added is None else Query(*added, *_own(self))

    def __sub__(self, other: Operand) -> Query:
        taken = _parts(other)
        return NotImplemented if taken is None else Query(*_own(self), *_times(taken, -1.0))

    def __rsub__(self, other: Operand) -> Query:
        parts = _parts(other)
        return NotImplemented if parts is None else Query(*parts, *_times(_own(self), -1.0))

    def __mul__(self, factor: float) -> Query:
        if not isinstance(factor, int | float):
            return NotImplemented
        return Query(*_times(_own(self), _as_float(factor)))

    __rmul__ = __mul__

    def __neg__(self) -> Query:
        return Query(*_times(_own(self), -1.0))


@dataclass(frozen=True, slots=True)
class Image(_Terms):
    """A picture as a query: a path, an `http(s)://` or `file://` URL, bytes or a PIL image.

    A `str` is a URL where it begins like one, else a path. A URL is fetched when the query
    runs; nothing else touches the network.
    """

    source: str | os.PathLike[str] | bytes | PILImage.Image

    def __repr__(self) -> str:
        shown: Any = self.source
        if isinstance(shown, bytes):
            shown = f"<{len(shown)} bytes>"
        elif isinstance(shown, Path):
            shown = str(shown)
        return f"Image({shown!r})"


@dataclass(frozen=True, slots=True)
class Item(_Terms):
    """An item of the library as a query, by its `Hit.id`: what it shows, or says.

    Raises UsageError: no id can be like this.
    """

    id: int

    def __post_init__(self) -> None:
        if not isinstance(self.id, int) or not 0 < self.id <= _LARGEST_ID:
            raise UsageError(f"no item has the id {self.id!r}: ids are whole numbers from 1 on")

    def __repr__(self) -> str:
        return f"Item({self.id})"


@dataclass(frozen=True, slots=True)
class Part(_Terms):
    """A text, a picture or an item, and how much it counts.

    `weight` is negative where the part is subtracted. `said` is the word that asked for that,
    such as "without", where a word did; it does not count in comparisons. `phrases` are those
    pieces of a text that were quoted, in its order.

    Raises UsageError: an empty text, a weight that is zero or not finite, a phrase that is not
    in the text.
    """

    content: str | Image | Item
    weight: float = 1.0
    said: str | None = field(default=None, compare=False)
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        content, weight = self.content, _as_float(self.weight)
        if isinstance(content, str):
            content = content.strip()
            if not content:
                raise UsageError(EMPTY)
        elif not isinstance(content, Image | Item):
            raise UsageError(
                f"a part of a query is a text, an Image or an Item, not {type(content).__name__}"
            )
        if not math.isfinite(weight) or not weight:
            raise UsageError(
                f"a weight must be a number other than 0, not {weight:g}: leave the part out, or "
                "weigh it, as in 0.5:cat"
            )
        phrases = tuple(phrase.strip() for phrase in self.phrases)
        if phrases:
            find_phrases(content if isinstance(content, str) else "", phrases)
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "phrases", phrases)

    def __repr__(self) -> str:
        shown = [repr(self.content)]
        if self.weight != 1.0:
            shown.append(f"{self.weight!r}")
        if self.said is not None:
            shown.append(f"said={self.said!r}")
        if self.phrases:
            shown.append(f"phrases={self.phrases!r}")
        return f"Part({', '.join(shown)})"


@dataclass(frozen=True, slots=True, init=False)
class Query(_Terms):
    """What is looked for: parts that are added and subtracted.

    Made from one part or several, each a text (taken literally), an `Image`, a path (of a
    picture), an `Item` or a `Part`; or composed: `Query("cat") + Image("x.jpg") - 0.5 * Item(3)`.

    Raises UsageError: no part, or one that is empty.
    """

    parts: tuple[Part, ...]

    def __init__(self, *parts: Operand) -> None:
        found: list[Part] = []
        for given in parts:
            read = _parts(given)
            if read is None:
                raise UsageError(
                    "a query is made of texts, Images, Items and Parts, "
                    f"not of {type(given).__name__}"
                )
            found += read
        if not found:
            raise UsageError(EMPTY)
        object.__setattr__(self, "parts", tuple(found))

    @property
    def joined(self) -> tuple[Image | Item, str] | None:
        """The one picture (or item) and the one text that this is, neither weighed.

        None where it is anything else, whose parts are only added and subtracted.
        """
        pictures = [one.content for one in self.parts if not isinstance(one.content, str)]
        texts = [one.content for one in self.parts if isinstance(one.content, str)]
        if len(pictures) != 1 or len(texts) != 1 or any(part.weight != 1 for part in self.parts):
            return None
        return pictures[0], texts[0]

    def checked(self) -> Query:
        """Itself, where it can be searched for.

        Raises UsageError: nothing is added, only subtracted; too many parts.
        """
        if all(part.weight < 0 for part in self.parts):
            raise UsageError(
                "the query only subtracts: say what to look for, too, as in apple - fruit"
            )
        if len(self.parts) > MOST_PARTS:
            raise UsageError(
                f"the query has {len(self.parts)} parts, more than {MOST_PARTS}: leave some out"
            )
        return self

    def __repr__(self) -> str:
        plain = (
            part.content if part == Part(part.content) and part.said is None else part
            for part in self.parts
        )
        return f"Query({', '.join(map(repr, plain))})"


Operand = str | os.PathLike[str] | Image | Item | Part | Query
"""What can stand in a query."""

EMPTY = 'the query is empty: say what to look for, as in "cat on grass"'


class TruncationWarning(UserWarning):
    """A query text is longer than the encoder reads; what follows was not looked at."""


def is_url(text: str) -> bool:
    """Whether a query names something by URL."""
    return text.startswith(_URLS)


def find_phrases(text: str, phrases: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the phrases of a text are in it, [start, end) each, in order, without overlaps.

    At the beginnings of words where they can be. Raises UsageError: one is not there.
    """
    for at_words in (True, False):
        places: list[tuple[int, int]] = []
        end = 0
        for phrase in phrases:
            start = text.find(phrase, end)
            while at_words and start > 0 and not text[start - 1].isspace():
                start = text.find(phrase, start + 1)
            if start < 0 or not phrase:
                break
            end = start + len(phrase)
            places.append((start, end))
        else:
            return places
    raise UsageError(f"the phrases {phrases!r} are not in the text {text!r}, in this order")


def _parts(given: Any) -> tuple[Part, ...] | None:
    """The parts of whatever can stand in a query; None for anything else."""
    if isinstance(given, Query):
        return given.parts
    if isinstance(given, Part):
        return (given,)
    if isinstance(given, str | Image | Item):
        return (Part(given),)
    if isinstance(given, os.PathLike):
        return (Part(Image(given)),)
    return None


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond what a float holds
        return math.inf


def _own(terms: _Terms) -> tuple[Part, ...]:
    return _parts(terms) or ()


def _times(parts: tuple[Part, ...], factor: float) -> tuple[Part, ...]:
    return tuple(
        Part(
            part.content,
            part.weight * factor,
            part.said if part.weight * factor < 0 else None,
            part.phrases,
        )
        for part in parts
    )
