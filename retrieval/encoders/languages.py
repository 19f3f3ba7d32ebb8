"""Tells English texts from others, for encoders whose English has a text tower of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from xsearch.core.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 5
"""Characters of the longest pieces that are counted, the marks of a word's ends included."""
READ = 2000
"""Characters of a text that are looked at; the rest would not change the answer."""

WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-z\u00aa-\u024f\u1e00-\u1eff\uff21-\uff5a]")


class EnglishDetector:
    """A logistic regression over the letter sequences of words (after Cavnar and Trenkle 1994).

    `weights` are float16 (b + 1,): one for each of b hash values of letter sequences, and last
    the intercept. Words of other scripts than Latin are never English; a text without a letter
    counts as English.
    """

    def __init__(self, weights: NDArray[np.float16]) -> None:
        self._weights = weights.astype(np.float32)

    @classmethod
    def load(cls, path: Path) -> EnglishDetector:
        """Read the weights from a `.npy` file. Raises EncoderError."""
        try:
            weights = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise EncoderError(f"{path} cannot be read, it is missing or damaged") from error
        if weights.ndim != 1 or weights.dtype != np.float16 or len(weights) < 2:
            raise EncoderError(f"{path} does not hold what tells English from other languages")
        return cls(weights)

    def is_english(self, text: str) -> bool:
        """Whether the English tower should read this text."""
        return self.probability(text) >= 0.5

    def probability(self, text: str) -> float:
        """How likely a text is English, 0 to 1."""
        words = WORD.findall(text[:READ].lower())
        letters = sum(map(len, words))
        if not letters:
            return 1.0
        latin = sum(len(_LATIN.findall(word)) for word in words)
        if 2 * latin < letters:
            return 0.0
        rows = np.fromiter(pieces(words, len(self._weights) - 1), np.int64)
        logit = float(self._weights[rows].sum()) / math.sqrt(len(rows)) + float(self._weights[-1])
        return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))


def pieces(words: list[str], buckets: int) -> Iterator[int]:
    """Hash values, below `buckets`, of the letter sequences of words of lower case."""
    for word in words:
        marked = f"^{word}$".encode()
        text = marked.decode()
        for length in range(1, LONGEST + 1):
            for start in range(len(text) - length + 1):
                yield crc32(text[start : start + length].encode()) % buckets
        yield crc32(b"=" + marked) % buckets
