"""The word tables that ship with xsearch: synonyms, and words too common to search for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

# Not through importlib.resources: importing that alone takes 10 ms of every query.
_FOLDER = Path(__file__).parent / "words"


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """English words in small letters, each with what may stand in its place, itself left out."""
    table: dict[str, tuple[str, ...]] = {}
    for line in _lines("synonyms_en.txt"):
        group = [word.strip() for word in line.split(",")]
        for word in group:
            table[word] = tuple(other for other in group if other != word)
    return table


@cache
def stop_words(language: str) -> frozenset[str]:
    """Words of a language that every text has: en, de, fr, cs, ar; zh: characters."""
    return frozenset(word for line in _lines(f"stop_{language}.txt") for word in line.split())


def _lines(name: str) -> list[str]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
