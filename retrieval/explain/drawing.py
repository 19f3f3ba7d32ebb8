"""Draws an explanation: the words above, and for each the picture with what it attends to."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from xsearch.core.explained import MatchExplanation, WordRelevance
from xsearch.core.lettering import Lettering

from .colours import INK, PALE, PAPER, Colour, diverging, heat, ink_on

MOST = 12
"""Panels of one picture: those of the words that count most."""
_GAP, _TEXT, _LARGE = 18, 18, 26  # pixels
_CAPTION = 2 * _TEXT + 4
_LINE = _LARGE * 8 // 5
_MOST_LINES = 6
_NARROWEST, _WIDEST, _HIGHEST = 170, 900, 640  # of a panel's picture
_LEAST_WIDTH = 620
_SHEET = 1.4
"""The width of a sheet by its height that is aimed at."""
_LEGEND = "blue words speak for the match, orange ones against it; the ring is where a word peaks"


@dataclass(frozen=True, slots=True)
class Grid:
    """Where panels go: `width` x `height` pixels for a picture, in a field of `field` pixels."""

    columns: int
    rows: int
    width: int
    height: int

    @property
    def field(self) -> tuple[int, int]:
        """Width and height of a panel with its caption and the gap after it."""
        return max(self.width, _NARROWEST) + _GAP, self.height + _CAPTION + _GAP


def plan(count: int, size: tuple[int, int]) -> Grid:
    """The grid for some panels of a picture of a size: about as wide as a screen, few fields empty.

    Panels are larger where there are few; their proportions are those of the picture.
    """
    ratio = size[0] / size[1]
    area = 330_000 if count <= 2 else 180_000 if count <= 6 else 120_000
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    share = min(1.0, _WIDEST / width, _HIGHEST / height)
    across, down = max(1, round(width * share)), max(1, round(height * share))

    def badness(columns: int) -> float:
        grid = Grid(columns, -(-count // columns), across, down)
        wide, high = grid.columns * grid.field[0], grid.rows * grid.field[1] + 3 * _LINE
        empty = grid.columns * grid.rows - count
        return abs(math.log(wide / high / _SHEET)) + 0.15 * empty

    columns = min(range(1, count + 1), key=badness)
    return Grid(columns, -(-count // columns), across, down)


def draw(explanation: MatchExplanation) -> Image.Image:
    """The whole picture of an explanation, RGB."""
    shown = most_telling(explanation.shown)
    grid = plan(len(shown), explanation.picture.size)
    width = max(grid.columns * grid.field[0] + _GAP, _LEAST_WIDTH)
    small, large = Lettering(_TEXT), Lettering(_LARGE)
    lines = list(_lines(explanation, large, width - 2 * _GAP))
    top = _GAP + len(lines) * _LINE + 2 * _TEXT * 3 // 2 + _GAP
    sheet = Image.new("RGB", (width, top + grid.rows * grid.field[1]), PAPER)
    canvas = ImageDraw.Draw(sheet)
    _draw_words(canvas, lines, large, width, _is_rtl(explanation.text))
    below = top - 2 * _TEXT * 3 // 2 - _GAP // 2
    for row, told in enumerate((_figures(explanation, len(shown)), _LEGEND)):
        place = (_GAP, below + row * _TEXT * 3 // 2)
        small.write(canvas, place, told, _hex(PALE if row else INK), width - 2 * _GAP)
    small_picture = explanation.picture.resize(
        (grid.width, grid.height), Image.Resampling.LANCZOS, reducing_gap=3.0
    )
    largest = _largest(explanation.words)
    for at, word in enumerate(shown):
        row, column = divmod(at, grid.columns)
        left, down = _GAP + column * grid.field[0], top + row * grid.field[1]
        sheet.paste(panel(small_picture, word), (left, down))
        colour = diverging(word.contribution / largest)
        _draw_caption(canvas, small, word, colour, (left, down + grid.height + 4), grid.field[0])
    return sheet


def most_telling(words: Sequence[WordRelevance]) -> list[WordRelevance]:
    """The words that contribute most, for or against, in the text's order: at most `MOST`."""
    chosen = sorted(words, key=lambda word: -abs(word.contribution))[:MOST]
    return sorted(chosen, key=lambda word: word.start)


def panel(picture: Image.Image, word: WordRelevance) -> Image.Image:
    """A picture, grey but where a word's relevance is, which is laid over it as heat; a ring at the
    peak.
    """
    pixels = np.asarray(picture, np.float32)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] * 0.5 + 40
    fine = Image.fromarray(word.relevance).resize(picture.size, Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(fine) / max(float(word.relevance.max()), 1e-12), 0, 1)
    lit, alpha = np.sqrt(share)[..., None], 0.6 * share[..., None]
    mixed = (lit * pixels + (1 - lit) * grey) * (1 - alpha) + heat(share) * alpha
    made = Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    _draw_ring(ImageDraw.Draw(made), made.size, word.peak)
    return made


def _draw_ring(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], peak: tuple[float, float]
) -> None:
    x, y = peak[0] * size[0], peak[1] * size[1]
    radius = max(7.0, min(size) * 0.035)
    for colour, line, out in (((0, 0, 0), 6, 1.5), (PAPER, 3, 0)):
        reach = radius + out
        canvas.ellipse((x - reach, y - reach, x + reach, y + reach), outline=colour, width=line)


def _draw_caption(
    canvas: ImageDraw.ImageDraw,
    letters: Lettering,
    word: WordRelevance,
    colour: Colour,
    at: tuple[int, int],
    width: int,
) -> None:
    """The word in its colour, and what it contributes."""
    left, top = at
    told = f"{word.contribution:+.1f}"
    room = width - _GAP - letters.width(told) - 2 * _TEXT
    broad = min(letters.width(word.text), room)
    canvas.rounded_rectangle((left, top, left + broad + 12, top + _TEXT * 8 // 5), 4, fill=colour)
    letters.write(canvas, (left + 6, top + 4), word.text, _hex(ink_on(colour)), room)
    letters.write(canvas, (left + broad + 20, top + 4), told, _hex(INK), width)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the text in the header, `left` pixels from where its line begins."""

    text: str
    left: float
    width: float
    colour: Colour | None


def _lines(
    explanation: MatchExplanation, letters: Lettering, width: float
) -> Iterator[list[_Piece]]:
    """The text, broken into lines, each word with its colour; what was not read has none."""
    largest, line, at = _largest(explanation.words), list[_Piece](), 0.0
    broken = 1
    for text, spaced, word in _pieces(explanation):
        step = letters.size / 3 if spaced else 2.0
        broad = min(letters.width(text) + 8, width)
        if line and at + step + broad > width:
            if broken == _MOST_LINES:
                yield [*line[:-1], _Piece("...", line[-1].left, line[-1].width, None)]
                return
            yield line
            line, at, broken = [], 0.0, broken + 1
        left = at + step if line else 0.0
        colour = None if word is None else diverging(word.contribution / largest)
        line.append(_Piece(text, left, broad, colour))
        at = left + broad
    yield line


def _pieces(
    explanation: MatchExplanation,
) -> Iterator[tuple[str, bool, WordRelevance | None]]:
    """Words, and what else is between spaces; whether a space is before; and which word it is."""
    text, end = explanation.text, 0
    for word in explanation.words:
        between = text[end : word.start]
        yield from ((part, True, None) for part in between.split())
        yield word.text, between != between.rstrip(), word
        end = word.end
    yield from ((part, True, None) for part in text[end:].split())


def _draw_words(
    canvas: ImageDraw.ImageDraw,
    lines: Sequence[Sequence[_Piece]],
    letters: Lettering,
    width: int,
    rtl: bool,
) -> None:
    for row, line in enumerate(lines):
        top = _GAP + row * _LINE
        for piece in line:
            left = width - _GAP - piece.left - piece.width if rtl else _GAP + piece.left
            ink = PALE
            if piece.colour is not None:
                box = (left, top, left + piece.width, top + _LINE - 6)
                canvas.rounded_rectangle(box, 5, fill=piece.colour)
                ink = ink_on(piece.colour)
            letters.write(canvas, (left + 4, top + 3), piece.text, _hex(ink), piece.width - 7)


def _figures(explanation: MatchExplanation, panels: int) -> str:
    told = f"score {explanation.score:.2f}, similarity {explanation.similarity:.3f}"
    told += f", by {explanation.method}"
    count = len(explanation.shown)
    return told if panels == count else f"{told}; {panels} of {count} words, those that count most"


def _largest(words: Sequence[WordRelevance]) -> float:
    return max((abs(word.contribution) for word in words), default=0.0) or 1.0


def _is_rtl(text: str) -> bool:
    """Whether the first letter is of a script that is written from right to left."""
    strong = (unicodedata.bidirectional(char) for char in text)
    return next((kind for kind in strong if kind in ("L", "R", "AL")), "L") != "L"


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
