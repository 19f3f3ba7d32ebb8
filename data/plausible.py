"""How plausible a caption reads, by how often its words stand side by side in other captions."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path

_FILE = Path(__file__).parent / "words" / "corrupt_pairs_en.txt"
_PAIRS = 0.7
START, END = "<", ">"


@lru_cache(maxsize=1 << 12)
def plausibility(words: tuple[str, ...]) -> float:
    """Mean natural logarithm of the words' probabilities, small letters, the end counted as one.

    A word's is interpolated from how often it follows the word before it, and how often it comes
    at all (Jelinek and Mercer 1980), in the English train captions of Flickr8k (Hodosh et al.
    2013).
    """
    counts, pairs, total = _tables()
    logs, before = 0.0, START
    for word in (*words, END):
        paired = pairs.get((before, word), 0) / counts.get(before, 1)
        alone = (counts.get(word, 0) + 1) / total
        logs += math.log(_PAIRS * paired + (1 - _PAIRS) * alone)
        before = word
    return logs / (len(words) + 1)


@cache
def _tables() -> tuple[dict[str, int], dict[tuple[str, str], int], int]:
    """Words and pairs of words with their counts, and what the words' (with one more) add up to."""
    counts: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        word, count, *followers = line.split()
        counts[word] = int(count)
        for follower in followers:
            second, _, times = follower.rpartition(":")
            pairs[word, second] = int(times)
    return counts, pairs, sum(counts.values()) + len(counts) + 1
