"""Fits what tells English from other languages, on words and captions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xsearch.retrieval.encoders.languages import WORD, pieces

from .vocabulary import words

BUCKETS = 1 << 16
STEPS = 600
RATE = 100.0
DECAY = 1e-7
MOMENTUM = 0.9
CAPTIONS = 8_000
LATIN = re.compile(r"[\x00-\u024f\u1e00-\u1eff]+")
OTHERS = {"de": 12_000, "fr": 12_000, "cs": 12_000} | dict.fromkeys(
    ("es", "it", "nl", "pl", "sv", "pt"), 5_000
)
"""Languages that are not English, and how many of their most frequent words are shown."""


def fit_detector(captions: Sequence[dict[str, list[str]]]) -> NDArray[np.float16]:
    """Weights for `EnglishDetector` from captions by language and lists of frequent words."""
    english = _words("en", 20_000)
    known = set(english[:12_000])
    foreign = [word for name, count in OTHERS.items() for word in _words(name, count)]
    foreign = [word for word in foreign if word not in known]
    random = np.random.default_rng(0)
    sides = []
    for listed, languages in ((english, ("en",)), (foreign, ("de", "fr", "cs"))):
        found = [_plain(c) for row in captions for name in languages for c in row.get(name, [])]
        chosen = [found[row] for row in random.choice(len(found), CAPTIONS, replace=False)]
        sides.append([*listed, *chosen, *(_part(text, random) for text in chosen)])
    return _fit(*([text for text in side if text] for side in sides))


def _words(language: str, count: int) -> list[str]:
    listed = [_plain(word) for word in words(language, count)]
    return [word for word in listed if word and LATIN.fullmatch(word)]


def _plain(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def _part(text: str, random: np.random.Generator) -> str:
    """Two to four words in a row, as people search."""
    found = text.split()
    length = int(random.integers(2, 5))
    start = int(random.integers(0, max(1, len(found) - length)))
    return " ".join(found[start : start + length])


def _fit(english: Sequence[str], others: Sequence[str]) -> NDArray[np.float16]:
    """Logistic regression, both sides equal: gradient descent on all texts with momentum."""
    rows = [np.fromiter(pieces(text.split(), BUCKETS), np.int64) for text in [*english, *others]]
    lengths = np.array([len(row) for row in rows])
    flat, owner = np.concatenate(rows), np.repeat(np.arange(len(rows)), lengths)
    counts = [len(english), len(others)]
    labels = np.repeat(np.array([1.0, 0.0]), counts)
    balance = np.repeat(0.5 / np.array(counts), counts)
    share = 1 / np.sqrt(lengths)
    weights, speed = np.zeros(BUCKETS), np.zeros(BUCKETS)
    intercept = turn = 0.0
    for _ in range(STEPS):
        logits = np.bincount(owner, weights[flat], len(rows)) * share + intercept
        error = balance * (1 / (1 + np.exp(-logits)) - labels)
        slope = np.bincount(flat, (error * share)[owner], BUCKETS) + DECAY * weights
        speed = MOMENTUM * speed - RATE * slope
        turn = MOMENTUM * turn - float(error.sum())
        weights, intercept = weights + speed, intercept + turn
    return np.append(weights, intercept).astype(np.float16)
