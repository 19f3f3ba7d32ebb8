"""Turns texts into the keywords that they are found by: for keyword search, not for encoders.

A neural text tower reads every word as it stands. Keyword search wants the few that tell texts
apart, in one form each.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from .vocabulary import stop_words

_STEMMERS = {"en": "english", "de": "german", "fr": "french", "cs": "czech", "ar": "arabic"}
LANGUAGES = (*_STEMMERS, "zh")
"""Languages whose stop words and stems are known."""

_LATIN = ("en", "de", "fr", "cs")
_WORD = re.compile(r"[^\W_]+")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_ARABIC = re.compile(r"[\u0600-\u06ff]")
# Vowel marks and the stroke that stretches words: most writers leave them out.
_ARABIC_MARKS = re.compile(r"[\u064b-\u065f\u0670\u0640]")
_ALEFS = re.compile(r"[\u0622\u0623\u0625\u0671]")

_lock = threading.Lock()


def keywords(text: str, language: str | None = None) -> list[str]:
    """The words of a text in order, without stop words, each reduced to its stem.

    Stems are Snowball's (Porter 1980 and 2001); Chinese, which divides no words, gives pairs of
    neighbouring characters. `language` is a code, `de` or `de_translation`; None: told by the
    script, and among en, de, fr and cs by the stop words. Words of other languages stay whole.
    """
    runs = _WORD.findall(_normal(text))
    code = re.split("[_-]", language)[0].lower() if language else _guess(runs)
    found: list[str] = []
    for run in runs:
        found += _pairs(run) if _HAN.search(run) else _stem(run, code)
    return found


def with_content(words: Sequence[str]) -> list[bool]:
    """Which words of a text, in order, say something: no stop words of its language, no signs."""
    code = _guess([part for word in words for part in _WORD.findall(_normal(word))])
    return [bool(keywords(word, code)) for word in words]


def _normal(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return _ALEFS.sub("\u0627", _ARABIC_MARKS.sub("", normal))


def _guess(words: list[str]) -> str:
    """The language whose stop words come most often; English where none does."""
    if any(map(_ARABIC.search, words)):
        return "ar"
    return max(_LATIN, key=lambda code: sum(word in stop_words(code) for word in words))


def _stem(word: str, code: str) -> list[str]:
    if code not in _STEMMERS:
        return [word]
    if word in stop_words(code):
        return []
    return [_stem_of(code, word)]


def _pairs(run: str) -> list[str]:
    """Neighbouring characters two by two; words of other scripts inside stay whole."""
    found = []
    stops = "".join(sorted(stop_words("zh")))
    for part in re.split(f"[{stops}]", run):
        for piece in re.findall(f"{_HAN.pattern}|[^{_HAN.pattern[1:-2]}]+", part):
            whole = len(piece) == 1 or not _HAN.match(piece)
            found += [piece] if whole else [piece[at : at + 2] for at in range(len(piece) - 1)]
    return found


@lru_cache(maxsize=1 << 16)
def _stem_of(code: str, word: str) -> str:
    # A stemmer keeps state while it works, and threads share it.
    with _lock:
        return str(_stemmer(code).stemWord(word))


@cache
def _stemmer(code: str) -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer(_STEMMERS[code])
