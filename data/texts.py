"""Varies captions while training: which one, in which language, with which words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xsearch.core.errors import UsageError

from .vocabulary import synonyms

if TYPE_CHECKING:
    import numpy as np

_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_ARTICLE = re.compile(r"\b(an?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TextAugmentation:
    """How a caption is chosen from those of a picture, and varied.

    language_power: a language with n captions is drawn in proportion to n ** language_power
        (Conneau and Lample 2019, "Cross-lingual Language Model Pretraining", section 3.1): 1 as
        often as it has captions, 0 all alike.
    mixing: chance of a second caption behind the first, in another language where there is one.
    synonyms: chance of each English word that has some to be replaced by one (after Wei and Zou
        2019, "EDA", section 2).
    dropout: chance of each word to be left out (the same; after Iyyer et al. 2015, "Deep
        Averaging Networks"); at least one stays.
    """

    language_power: float = 1.0
    mixing: float = 0.0
    synonyms: float = 0.05
    dropout: float = 0.05

    def __post_init__(self) -> None:
        for name in ("mixing", "synonyms", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if not 0 <= self.language_power <= 10:
            raise UsageError(f"language_power is {self.language_power}; it must be from 0 to 10")

    def choose(self, captions: Mapping[str, tuple[str, ...]], random: np.random.Generator) -> str:
        """One caption, or two together, varied; `captions` are sentences by language, not none."""
        counts = {language: len(texts) for language, texts in captions.items() if texts}
        if not counts:
            raise UsageError("a picture without captions has none to choose from")
        first = self._language(counts, random)
        chosen = [self.vary(_one(captions[first], random), first, random)]
        if random.random() < self.mixing:
            others = {each: counts[each] for each in counts if each != first} or counts
            second = self._language(others, random)
            chosen.append(self.vary(_one(captions[second], random), second, random))
        return " ".join(chosen)

    def vary(self, text: str, language: str, random: np.random.Generator) -> str:
        """A caption with synonyms in it, if its language is English, and without some words."""
        if self.synonyms and language.split("_")[0] == "en":
            text = replace_words(text, self.synonyms, random)
        return drop_words(text, self.dropout, random) if self.dropout else text

    def _language(self, counts: Mapping[str, int], random: np.random.Generator) -> str:
        import numpy as np

        weights = np.array(list(counts.values()), np.float64) ** self.language_power
        return list(counts)[int(random.choice(len(weights), p=weights / weights.sum()))]


def replace_words(text: str, chance: float, random: np.random.Generator) -> str:
    """Replace each English word that has synonyms, with this chance, by one of them.

    Capitals are kept, and `a` and `an` follow the word behind them.
    """
    table = synonyms()
    built, end = "", 0
    for found in _WORD.finditer(text):
        built += text[end : found.start()]
        end = found.end()
        word = found[0]
        others = table.get(word.lower())
        if others and random.random() < chance:
            other = others[int(random.integers(len(others)))]
            # Not "a young young boy".
            if not built.lower().endswith(other.split()[0] + " "):
                built = _with_article(built, other)
                word = other.capitalize() if word[0].isupper() else other
        built += word
    return built + text[end:]


def drop_words(text: str, chance: float, random: np.random.Generator) -> str:
    """Leave out each word (what white space divides), with this chance; one at least stays."""
    words = text.split()
    if len(words) < 2:
        return text
    kept = random.random(len(words)) >= chance
    if not kept.any():
        kept[random.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


def _one(texts: tuple[str, ...], random: np.random.Generator) -> str:
    return texts[int(random.integers(len(texts)))]


def _with_article(before: str, word: str) -> str:
    """What stands before a word, its last `a` or `an` made to fit."""
    found = _ARTICLE.search(before.rstrip())
    if found is None:
        return before
    article = found[1][0] + ("n" if word[0] in "aeiou" else "")
    space = before[len(before.rstrip()) :]
    return before.rstrip()[: found.start()] + article + space
