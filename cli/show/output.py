"""What was asked to be done with hits, and which wishes exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_PAGES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be done with hits; all of it may be combined, but for one way to list them.

    They are listed as lines for people, or as JSON (`json`), or by their paths alone
    (`filepath_only`; `null` ends each with a NUL byte instead of a line's end, and means paths
    alone by itself); `preview` shows the pictures between the lines for people. The others are
    done besides: `open` with the system's own programs, `copy_to` and `link_to` a folder, a
    `contact_sheet` or an `html` page.

    Raises:
        UsageError: two ways to list them, or a file whose suffix names no format.
    """

    json: bool = False
    filepath_only: bool = False
    null: bool = False
    preview: bool = False
    open: bool = False
    copy_to: Path | None = None
    link_to: Path | None = None
    contact_sheet: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        asked = {
            "--json": self.json,
            "--null" if self.null else "--filepath-only": self.paths_alone,
            "--preview": self.preview,
        }
        ways = [name for name, is_asked in asked.items() if is_asked]
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)} exclude each other: give one of them.")
        _check_suffix("--contact-sheet", self.contact_sheet, tuple(SHEET_FORMATS))
        _check_suffix("--html", self.html, _PAGES)

    @property
    def paths_alone(self) -> bool:
        """Whether only paths are listed."""
        return self.filepath_only or self.null

    @property
    def places(self) -> tuple[Path, ...]:
        """Where pictures are written: `index` would find them in an indexed folder."""
        places = (self.copy_to, self.link_to, self.contact_sheet)
        return tuple(place for place in places if place is not None)


def _check_suffix(option: str, path: Path | None, suffixes: tuple[str, ...]) -> None:
    if path is not None and path.suffix.lower() not in suffixes:
        *others, last = suffixes
        raise UsageError(f"{option} {path}: its name must end in {', '.join(others)} or {last}")
