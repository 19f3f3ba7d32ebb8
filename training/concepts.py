"""Concepts mined from captions: the words that many pictures are described with, as labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Keywords = Callable[[str], Iterable[str]]
"""The content words of a text, without stop words, in the form they are counted in."""


@dataclass(frozen=True, slots=True)
class Concepts:
    """A vocabulary of words, the most frequent first, and the share of pictures each describes."""

    words: tuple[str, ...]
    frequencies: tuple[float, ...]

    def targets(self, captions: Sequence[Sequence[str]], keywords: Keywords) -> NDArray[np.float32]:
        """Which concepts the captions of n pictures name: (n, concepts), 0 or 1."""
        columns = {word: column for column, word in enumerate(self.words)}
        targets = np.zeros((len(captions), len(columns)), np.float32)
        for row, sentences in enumerate(captions):
            for word in _words(sentences, keywords):
                if word in columns:
                    targets[row, columns[word]] = 1
        return targets


def mine_concepts(
    captions: Sequence[Sequence[str]], keywords: Keywords, *, size: int = 1000, least: int = 5
) -> Concepts:
    """The `size` content words that describe most of n pictures, given each one's captions.

    A word counts once a picture, and needs at least `least` pictures. One that describes all of
    them tells nothing, and is left out. Joulin et al. 2016, "Learning Visual Features from Large
    Weakly Supervised Data", take the most frequent words of photo comments as labels so.

    Raises UsageError: no word is frequent enough.
    """
    counts = Counter(word for sentences in captions for word in _words(sentences, keywords))
    frequent = [each for each in counts.items() if least <= each[1] < len(captions)]
    # Ties by the alphabet, so that a vocabulary does not depend on the order of pictures.
    frequent.sort(key=lambda each: (-each[1], each[0]))
    if not frequent:
        raise UsageError(
            f"no word describes {least} or more of {len(captions)} pictures: there are no concepts "
            "to learn; train without them"
        )
    chosen = frequent[:size]
    return Concepts(
        tuple(word for word, _ in chosen),
        tuple(count / len(captions) for _, count in chosen),
    )


def _words(sentences: Sequence[str], keywords: Keywords) -> set[str]:
    return {word for sentence in sentences for word in keywords(sentence)}
