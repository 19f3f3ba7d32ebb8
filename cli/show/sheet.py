"""The contact sheet: one picture with all hits, their ranks, scores and names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from xsearch.cli.render import complain, counted
from xsearch.cli.show.files import whole_file
from xsearch.cli.show.output import SHEET_FORMATS
from xsearch.cli.show.pictures import Shown, each, look
from xsearch.core.lettering import Lettering
from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image, ImageDraw

    from xsearch.core.reports import ProgressCallback
    from xsearch.core.values import Hit

# More would not be looked at, and neither WebP (16,383 pixels a side) nor memory take any number.
MOST = 1_000
_SOFTWARE = 0x0131  # the EXIF tag that says which program made a picture
_MARK = "xsearch contact sheet"
_PAPER, _FIELD, _INK, _PALE = "#ffffff", "#f0f0f0", "#1c1c1c", "#757575"


@dataclass(frozen=True, slots=True)
class Grid:
    """Where everything goes, in pixels: `width` x `height` for a picture, `text` for letters."""

    columns: int
    rows: int
    width: int
    height: int
    text: int
    gap: int

    @property
    def below(self) -> int:
        """The height of two lines of text under a picture."""
        return 3 * self.text + self.gap // 2

    @property
    def top(self) -> int:
        """The height of the title, which has larger letters."""
        return 4 * self.text

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        across = self.gap + self.columns * (self.width + self.gap)
        down = self.top + self.rows * (self.height + self.below + self.gap)
        return across, down + self.gap

    def place(self, at: int) -> tuple[int, int]:
        """The top left corner of the field of the hit at a place, counted from 0."""
        row, column = divmod(at, self.columns)
        left = self.gap + column * (self.width + self.gap)
        return left, self.top + row * (self.height + self.below + self.gap)


def plan(count: int) -> Grid:
    """The grid for a number of hits: about as wide as a screen, with few fields left empty."""
    wanted = max(1, round(math.sqrt(1.3 * count)))
    # One column less or more, where that leaves fewer fields empty.
    wide = [number for number in range(wanted - 1, wanted + 2) if number**2 >= max(count, 1)]
    columns = max(1, count) if count <= 3 else min(wide, key=lambda number: -count % number)
    width = 320 if count <= 40 else 240 if count <= 150 else 160
    text = max(11, width // 20)
    return Grid(columns, max(1, -(-count // columns)), width, width * 3 // 4, text, width // 16)


def is_sheet(path: Path) -> bool:
    """Whether a file is a contact sheet of xsearch, and so may be overwritten by another."""
    from PIL import Image

    try:
        with Image.open(path, formats=tuple(set(SHEET_FORMATS.values()))) as image:
            return str(image.getexif().get(_SOFTWARE, "")).startswith(_MARK)
    except (OSError, SyntaxError, ValueError):
        return False


def write_sheet(
    path: Path, hits: Sequence[Hit], title: str, progress: ProgressCallback | None = None
) -> None:
    """Write the contact sheet of hits (the first `MOST`), its format by the path's suffix.

    Raises:
        SourceError: another's file is there.
        StorageError: the disk refused.
    """
    from PIL import Image

    if len(hits) > MOST:
        complain(f"the contact sheet shows the first {MOST:,} of {len(hits):,}", prefix="note: ")
    with whole_file(path, is_sheet) as file:
        image = draw(hits[:MOST], title, progress)
        exif = Image.Exif()
        exif[_SOFTWARE] = _MARK
        image.save(file, SHEET_FORMATS[path.suffix.lower()], exif=exif, quality=88)


def draw(hits: Sequence[Hit], title: str, progress: ProgressCallback | None) -> Image.Image:
    """The contact sheet of hits, RGB."""
    from PIL import Image, ImageDraw

    grid = plan(len(hits))
    # A single hit would leave no room for its title.
    width, height = max(grid.size[0], 30 * grid.text), grid.size[1]
    sheet = Image.new("RGB", (width, height), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    small, large = Lettering(grid.text), Lettering(grid.text * 3 // 2)
    told = counted(len(hits), "hit")
    right = width - grid.gap - large.width(told)
    room = right - 3 * grid.gap
    large.write(canvas, (grid.gap, grid.text), " ".join(title.split()), _INK, room)
    large.write(canvas, (right, grid.text), told, _PALE, width)
    for at, shown in enumerate(each(hits, partial(look, box=(grid.width, grid.height)), progress)):
        _draw_hit(sheet, canvas, small, grid, at, shown)
    return sheet


def _draw_hit(
    sheet: Image.Image,
    canvas: ImageDraw.ImageDraw,
    small: Lettering,
    grid: Grid,
    at: int,
    shown: Shown,
) -> None:
    left, top = grid.place(at)
    hit, image = shown.hit, shown.image
    canvas.rectangle((left, top, left + grid.width - 1, top + grid.height - 1), fill=_FIELD)
    if image is not None:
        across, down = (grid.width - image.width) // 2, (grid.height - image.height) // 2
        sheet.paste(image, (left + across, top + down))
    else:
        inside, step = grid.width - 2 * grid.gap, grid.text * 4 // 3
        said = shown.reason or hit.text or ""
        colour = _PALE if shown.reason else _INK
        most = (grid.height - 2 * grid.gap) // step
        for row, line in enumerate(small.lines(said, inside, most)):
            place = (left + grid.gap, top + grid.gap + row * step)
            small.write(canvas, place, line, colour, inside)
    down = top + grid.height + grid.gap // 2
    name = "" if hit.path is None else displayable(hit.path.name)
    text = " ".join((hit.text or "").split()) if image is not None else ""
    small.write(canvas, (left, down), f"{hit.rank}", _INK, grid.width)
    aside = 3 * grid.text
    small.write(canvas, (left + aside, down), f"{hit.score:.2f}", _PALE, grid.width)
    second = down + grid.text * 3 // 2
    if text:
        small.write(canvas, (left + 2 * aside, down), name, _PALE, grid.width - 2 * aside)
        small.write(canvas, (left, second), text, _INK, grid.width)
    else:
        small.write(canvas, (left, second), name, _INK, grid.width)
