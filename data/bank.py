"""The reference bank: original texts that ship with xsearch, of many subjects and languages.

They stand for what people type and for captions in general: calibration compares with them, and
a picture without a library of texts is captioned from them. None is of a data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from xsearch.core.errors import UsageError

LANGUAGES = ("en", "de", "fr", "cs", "ar", "zh")
"""Those of the built-in encoder, in the order of the bank."""


def bank(languages: Iterable[str] | None = None) -> tuple[str, ...]:
    """The texts of some languages, or of all: words, phrases, then captions of each.

    No text comes twice, and the order is always that of `LANGUAGES`.

    Raises:
        UsageError: a language that the bank does not have.
    """
    wanted = LANGUAGES if languages is None else frozenset(languages)
    for language in wanted:
        if language not in LANGUAGES:
            raise UsageError(
                f"the reference bank has no texts in {language!r}: choose from "
                f"{', '.join(LANGUAGES)}"
            )
    return tuple(text for language in LANGUAGES if language in wanted for text in _texts(language))


@cache
def bank_digest() -> str:
    """A hash of all texts in order, hexadecimal: vectors made of other texts are stale."""
    return hashlib.sha256("\n".join(bank()).encode()).hexdigest()


@cache
def _texts(language: str) -> tuple[str, ...]:
    text = (files("xsearch.data") / "bank" / f"{language}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
