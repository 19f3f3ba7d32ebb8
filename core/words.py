"""How a text is cut into the words that it is found by, the same way for documents and queries.

Small letters without accents; letters apart from digits (`IMG_2041` and `img2041` are the same
two words); characters of scripts that put no spaces between words one by one, so that any part
of a run is a phrase of them; emoji one by one. Stemming is left to the index.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Blocks whose letters and vowel signs stand alone, first and last code point.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1100, 0x11FF),  # parts of Hangul
    (0x1780, 0x17FF),  # Khmer
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x31FF),  # Hiragana, Katakana, Bopomofo
    (0x3400, 0xA4CF),  # Han, Yi
    (0xA960, 0xA97F),  # parts of Hangul
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),  # Han
    (0x20000, 0x3FFFF),  # Han
)
# Stands between characters that are words of their own; no text holds it after translation.
_SEAM = "\x1f"
# A word that no text holds: characters of private use are no letters.
_BORDER = " \ue000 "
_TOKEN = re.compile(f"[0-9]+|[^0-9 {_SEAM}]+")


def tokens(text: str) -> list[str]:
    """All words of a text in order: letters, digits, single characters; no other kind."""
    return _TOKEN.findall(_folded(text))


def word_tokens(text: str) -> list[list[str]]:
    """The same, in groups that nothing separates in the text: `img2041` is a group of two."""
    return [found for word in _folded(text).split(" ") if (found := _TOKEN.findall(word))]


def is_unspaced(token: str) -> bool:
    """Whether a word is one character of a script that puts no spaces between words."""
    return len(token) == 1 and _stands_alone(ord(token))


def split_humps(name: str) -> str:
    """A name with blanks where capitals begin words: `BlueSkyHDR` becomes `Blue Sky HDR`."""
    if name.islower() or name.isupper():
        return name
    return "".join(
        f" {char}"
        if char.isupper() and (before.islower() or (before.isupper() and after.islower()))
        else char
        for before, char, after in zip(f" {name}", name, f"{name[1:]} ", strict=False)
    )


def joined(fields: Iterable[str]) -> str:
    """The words of some texts as one document, each text once; no phrase spans two of them."""
    cut = (" ".join(tokens(field)) for field in fields)
    return _BORDER.join(field for field in dict.fromkeys(cut) if field)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().translate(_CHARS)


def _stands_alone(code: int) -> bool:
    return any(first <= code <= last for first, last in _UNSPACED)


class _Characters(dict[int, str]):
    """What stands for a character of a normalised text, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        bare = unicodedata.normalize(
            "NFC", "".join(filter(_matters, unicodedata.normalize("NFKD", chr(code))))
        )
        self[code] = found = _as_words(bare)
        return found


def _matters(char: str) -> bool:
    """False for accents, for vowel points of Hebrew and Arabic, and for variation selectors.

    By canonical combining class: the vowel signs of other scripts have others (Unicode 4.3).
    """
    above_or_below = unicodedata.combining(char) >= 200
    points = 10 <= unicodedata.combining(char) <= 36
    selector = "\ufe00" <= char <= "\ufe0f" or unicodedata.category(char) == "Me"
    # The stroke that stretches Arabic words says nothing either.
    return not (above_or_below or points or selector or char == "\u0640")


def _as_words(bare: str) -> str:
    if not bare:
        return ""
    kind = unicodedata.category(bare[0])
    if kind == "Nd":
        return str(unicodedata.decimal(bare[0]))
    if kind == "So" or (kind[0] in "LMN" and _stands_alone(ord(bare[0]))):
        return f"{_SEAM}{bare}{_SEAM}"
    return bare if kind[0] in "LNM" else " "


_CHARS = _Characters()
