"""Pictures between the lines of a listing, by what the terminal understands (through libchafa)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xsearch.cli.render import complain, native_stderr_closed, write_hits
from xsearch.cli.show.pictures import look
from xsearch.cli.show.terminal import Size, says_sixel, terminal_size
from xsearch.core.errors import MissingExtraError
from xsearch.core.extras import require

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.core.values import Hit

_MOST_LINES = 16
_SEQUENCES = {
    "KITTY": "BEGIN_KITTY_IMMEDIATE_IMAGE_V1",
    "ITERM2": "BEGIN_ITERM2_IMAGE",
    "SIXELS": "BEGIN_SIXELS",
}
_COLOURS = {"TRUECOLOR": "SET_COLOR_FGBG_DIRECT", "INDEXED_240": "SET_COLOR_FGBG_256"}


def write_previews(hits: Sequence[Hit]) -> None:
    """Each hit's line, and its picture below: at most 16 lines high, less in small terminals.

    Raises:
        MissingExtraError: the extra `preview`, or a library that it needs, is missing.
    """
    from xsearch.core.images import quiet_pillow

    artist = Artist(_chafa(), terminal_size())
    with native_stderr_closed(), quiet_pillow():
        for hit in hits:
            write_hits([hit])
            shown = look(hit, artist.box)
            if shown.image is not None:
                sys.stdout.flush()
                sys.stdout.buffer.write(artist.draw(shown.image) + b"\n")
                sys.stdout.buffer.flush()
            elif shown.reason and not hit.missing:
                complain(f"no preview of {hit.rank}: {shown.reason}", prefix="note: ")


def write_picture(image: Image.Image) -> None:
    """One RGB picture, as large as the terminal allows, below what was written.

    Raises:
        MissingExtraError: the extra `preview`, or a library that it needs, is missing.
    """
    from PIL.Image import Resampling

    size = terminal_size()
    artist = Artist(_chafa(), size, lines=size.lines - 4)
    image.thumbnail(artist.box, Resampling.LANCZOS)
    sys.stdout.flush()
    sys.stdout.buffer.write(artist.draw(image) + b"\n")
    sys.stdout.buffer.flush()


class Artist:
    """Turns pictures into what a terminal draws: Kitty's, iTerm2's or Sixel graphics, or blocks.

    They are at most `lines` high: by default 16, and half of the terminal.
    """

    def __init__(self, chafa: Any, size: Size, *, lines: int | None = None) -> None:
        self._chafa = chafa
        self._terminal = chafa.TermDb().detect()
        self._letter = size.letter
        self._cells = size.columns, max(4, lines or min(_MOST_LINES, size.lines // 2))
        self.graphics = self._find_graphics()

    @property
    def box(self) -> tuple[int, int]:
        """The pixels, width and height, that a picture may take."""
        return self._cells[0] * self._letter[0], self._cells[1] * self._letter[1]

    def draw(self, image: Image.Image) -> bytes:
        """The control sequences that draw an RGB picture from where the cursor is."""
        config = self._chafa.CanvasConfig()
        config.width, config.height = self._cells
        config.cell_width, config.cell_height = self._letter
        config.calc_canvas_geometry(*image.size, self._letter[0] / self._letter[1])
        config.pixel_mode = self._named("PixelMode", "PIXEL_MODE", self.graphics)
        config.canvas_mode = self._named("CanvasMode", "CANVAS_MODE", self._colours())
        canvas = self._chafa.Canvas(config)
        kind = self._chafa.PixelType.CHAFA_PIXEL_RGB8
        canvas.draw_all_pixels(kind, bytearray(image.tobytes()), *image.size, 3 * image.width)
        drawn: bytes = canvas.print(self._terminal)
        return drawn

    def _find_graphics(self) -> str:
        # A multiplexer hands on only what it knows itself, whatever terminal is around it.
        if not _in_multiplexer():
            for name, sequence in _SEQUENCES.items():
                if self._knows(sequence):
                    return name
        if says_sixel():
            # The terminal knows them, though not by its name: these sequences are the same
            # everywhere.
            self._terminal.supplement(self._chafa.TermDb().get_fallback_info())
            return "SIXELS"
        return "SYMBOLS"

    def _colours(self) -> str:
        if self.graphics != "SYMBOLS":
            return "TRUECOLOR"
        known = (name for name, sequence in _COLOURS.items() if self._knows(sequence))
        return next(known, "INDEXED_16")

    def _knows(self, sequence: str) -> bool:
        return bool(self._terminal.have_seq(self._named("TermSeq", "TERM_SEQ", sequence)))

    def _named(self, kind: str, prefix: str, name: str) -> Any:
        return getattr(getattr(self._chafa, kind), f"CHAFA_{prefix}_{name}")


def _in_multiplexer() -> bool:
    terminal = os.environ.get("TERM", "")
    return bool(os.environ.get("TMUX")) or terminal.startswith(("screen", "tmux"))


def _chafa() -> Any:
    """The bindings of libchafa; both `ImportError` and `OSError` may say that a library lacks."""
    try:
        return require("chafa", "preview", "--preview")
    except MissingExtraError as error:
        cause = error.__cause__
        if not isinstance(cause, ImportError) or cause.name is not None:
            raise
        reason = str(cause)
    except OSError as error:
        reason = str(error)
    raise MissingExtraError(
        f"--preview needs libchafa and GLib, of the system where chafa.py brings none ({reason}): "
        "install them, on Debian with `apt install libchafa0`"
    )
