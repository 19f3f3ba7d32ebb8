"""Text on a picture: a font that has its letters, and cuts where it is too long."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

# Pillow's own font has ASCII only. What else people's names are written in takes a font of the
# system; these are the common ones with many letters, in the order of how plain they look.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf"),
    *("segoeui.ttf", "arial.ttf", "Arial.ttf", "Arial Unicode.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc"),
    *("DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
    *("Hiragino Sans GB.ttc", "PingFang.ttc", "msyh.ttc", "YuGothR.ttc", "malgun.ttf"),
    *("NotoSansArabic-Regular.ttf", "NotoNaskhArabic-Regular.ttf", "tahoma.ttf"),
)
_NO_LETTER = "\U0010ffff"  # Unicode promises that it never will be one


class Lettering:
    """Draws text of one size (pixels)."""

    def __init__(self, size: int) -> None:
        from PIL import ImageFont

        self.size = size
        self._plain: Font = ImageFont.load_default(size)

    def write(
        self,
        canvas: ImageDraw.ImageDraw,
        at: tuple[float, float],
        text: str,
        colour: str,
        width: float,
    ) -> None:
        """Draw a line from its top left corner, its middle cut out where it is wider than that.

        Letters that no font here has are written as escapes.
        """
        font, text = self._written(text)
        canvas.text(at, _cut(text, font, width), fill=colour, font=font)

    def width(self, text: str) -> float:
        """How wide a text is."""
        font, text = self._written(text)
        return font.getlength(text)

    def lines(self, text: str, width: float, most: int) -> list[str]:
        """Break a text into at most `most` lines of that width; the last takes what is left."""
        font, text = self._written(text)
        lines: list[str] = []
        line = ""
        for word in text.split():
            longer = f"{line} {word}".lstrip()
            if line and len(lines) < most - 1 and font.getlength(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        return [*lines, line] if line else lines

    def _written(self, text: str) -> tuple[Font, str]:
        """The first font that has all letters, or most of them, and the text as it writes it."""
        best, missing = self._plain, _missing(self._plain, text)
        for name in _SYSTEM_FONTS if missing else ():
            font = _system_font(name, self.size)
            if font is None:
                continue
            lacking = _missing(font, text)
            if len(lacking) < len(missing):
                best, missing = font, lacking
            if not missing:
                break
        escaped = {ord(char): char.encode("unicode_escape").decode() for char in missing}
        return best, text.translate(escaped)


@cache
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _missing(font: Font, text: str) -> set[str]:
    return {char for char in set(text) if not char.isspace() and not _has(font, char)}


@cache
def _has(font: Font, char: str) -> bool:
    """Whether a font has a letter: FreeType draws a box, the same one, for all it lacks."""
    drawn, nothing = font.getmask(char), font.getmask(_NO_LETTER)
    return drawn.size != nothing.size or bytes(drawn) != bytes(nothing)


def _cut(text: str, font: Font, width: float) -> str:
    """Cut out the middle: names differ most at their ends."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        kept = (low + high + 1) // 2
        if font.getlength(_without_middle(text, kept)) <= width:
            low = kept
        else:
            high = kept - 1
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"
