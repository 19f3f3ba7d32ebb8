"""The query language: queries as they are written, the same in the command line, Python and HTTP.

docs/queries.md describes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from xsearch.core.errors import UsageError
from xsearch.core.query import EMPTY, Query

from .plain import is_plain, might_negate


def parse(
    words: str | Sequence[str],
    *,
    negation: bool = True,
    literal: bool = False,
    pictures: bool = True,
) -> Query:
    """Read a query, as in `horse + 2:stripes - "red car"`.

    Args:
        words: a query, or the words of a command line, of which one that is an existing
            picture's path is that picture whatever characters are in it.
        negation: whether words of negation, as in "beach without people", subtract.
        literal: take everything as one text.
        pictures: whether paths and URLs are pictures; without, no file is ever looked for.

    Raises:
        UsageError: it is not well-formed, or empty; the message says where.
        SourceError: a part is written like a path, and no picture is there.
    """
    elements = [words] if isinstance(words, str) else list(words)
    source = " ".join(elements)
    if not source.strip():
        raise UsageError(EMPTY)
    if literal or (is_plain(source) and not (negation and might_negate(source))):
        return Query(source)
    from .grammar import read

    return read(elements, negation, pictures)
