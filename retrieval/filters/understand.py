"""Filters to conditions, strictly: a value that cannot be understood is refused, not guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from xsearch.core import globs
from xsearch.core.errors import UsageError
from xsearch.core.filters import ORIENTATIONS, Circle, Conditions, Filters, Orientation
from xsearch.core.formats import SUFFIXES_OF
from xsearch.core.paths import absolute
from xsearch.retrieval.filters.dates import beginning, is_spoken
from xsearch.retrieval.filters.places import circle

# By what people call them: a format's name and its suffixes.
_FORMATS = {
    name: format
    for format, suffixes in SUFFIXES_OF.items()
    for name in (format.lower(), *suffixes.replace(".", "").split())
}
# What Pillow calls a JPEG file that holds further pictures, as many cameras write it.
_ALSO = {"JPEG": ("MPO",)}
_SIDES = re.compile(r"(\d+)\s*[x×*]\s*(\d+)", re.IGNORECASE)
_MEGAPIXELS = re.compile(r"(\d+(?:\.\d+)?)\s*(?:mp|megapixels?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Understood:
    """What filters mean; `notes` are sentences for the person, on what had to be interpreted."""

    conditions: Conditions
    notes: tuple[str, ...] = ()


def understand(filters: Filters, now: datetime | None = None) -> Understood:
    """The conditions that filters mean; `now` (naive, local) is what "last summer" goes by.

    Words such as "yesterday" mean other conditions on another day: keep what is found by the
    conditions, not by the filters.

    Raises:
        UsageError: a value is not understood; the message says what is possible.
        MissingExtraError: it takes the extra `dates` or `places`.
    """
    now = now or datetime.now()
    notes: list[str] = []
    near: Circle | None = None
    if filters.near is not None:
        near, note = circle(filters.near)
        notes += [note] if note else []
    after = _moment("after", filters.after, now, notes)
    before = _moment("before", filters.before, now, notes)
    if after and before and after >= before:
        raise UsageError(
            f"after, before: nothing is taken from {after:%Y-%m-%d %H:%M} on and before "
            f"{before:%Y-%m-%d %H:%M}"
        )
    sides, pixels = _size(filters.min_size)
    return Understood(
        Conditions(
            after=after,
            before=before,
            camera=_words("camera", filters.camera),
            lens=_words("lens", filters.lens),
            near=near,
            paths=_paths(filters.path),
            formats=_formats(filters.type),
            sides=sides,
            pixels=pixels,
            orientation=_orientation(filters.orientation),
            root=_root(filters.root),
            has_text=_truth(filters.has_text),
            tags=_several("tag", filters.tag),
        ),
        tuple(notes),
    )


def _moment(
    name: str, asked: str | date | None, now: datetime, notes: list[str]
) -> datetime | None:
    if asked is None:
        return None
    moment = beginning(name, asked, now)
    if isinstance(asked, str) and is_spoken(asked):
        notes.append(f"{name}: {asked.strip()} is taken as {moment:%Y-%m-%d %H:%M}")
    return moment


def _words(name: str, asked: str | None) -> tuple[str, ...]:
    if asked is None:
        return ()
    words = tuple(dict.fromkeys(asked.casefold().split())) if isinstance(asked, str) else ()
    if not words:
        raise UsageError(f"{name}: {asked!r} is no name; give one or a part of it, as in iphone")
    return words


def _several(name: str, asked: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if asked is None:
        return ()
    given = (asked,) if isinstance(asked, str) else asked
    if not all(isinstance(one, str) and one.strip() for one in given):
        raise UsageError(f"{name}: {asked!r} has one that is empty")
    return tuple(dict.fromkeys(given))


def _paths(asked: str | tuple[str, ...] | None) -> tuple[str, ...]:
    patterns = _several("path", asked)
    for pattern in patterns:
        globs.parse(pattern)
    return patterns


def _formats(asked: str | tuple[str, ...] | None) -> tuple[str, ...]:
    names = _several("type", asked)
    found: set[str] = set()
    for name in ",".join(names).split(",") if names else ():
        format = _FORMATS.get(name.strip().lower().removeprefix("."))
        if format is None:
            known = ", ".join(sorted(format.lower() for format in SUFFIXES_OF))
            raise UsageError(f"type: {name!r} is no format of pictures. Possible are {known}")
        found |= {format, *_ALSO.get(format, ())}
    return tuple(sorted(found))


def _size(
    asked: str | int | tuple[int, int] | None,
) -> tuple[tuple[int, int] | None, int | None]:
    """The least pixels of the longer and the shorter side, or of the whole picture."""
    if asked is None:
        return None, None
    text = asked if isinstance(asked, str) else ""
    if isinstance(asked, int) and not isinstance(asked, bool):
        sides = [asked, asked]
    elif isinstance(asked, tuple) and all(type(side) is int for side in asked):
        sides = list(asked)
    elif match := _SIDES.fullmatch(text.strip()):
        sides = [int(match[1]), int(match[2])]
    elif text.strip().isdecimal():
        sides = [int(text)] * 2
    else:
        sides = []
    # Larger numbers are no picture's, and too large for a database.
    if len(sides) == 2 and all(0 < side < 1 << 31 for side in sides):
        return (max(sides), min(sides)), None
    megapixels = _MEGAPIXELS.fullmatch(text.strip())
    if megapixels and 0 < float(megapixels[1]) < 1e9:
        return None, round(float(megapixels[1]) * 1e6)
    raise UsageError(
        f"min_size: {asked!r} is no size. Possible are 1920x1080 (either way round), 2MP, or the "
        "pixels of each side, as in 1000"
    )


def _orientation(asked: str | None) -> Orientation | None:
    if asked is None:
        return None
    for orientation in ORIENTATIONS:
        if asked == orientation:
            return orientation
    raise UsageError(
        f"orientation: {asked!r} is none. Possible are {', '.join(ORIENTATIONS)} (as seen upright)"
    )


def _root(asked: str | Path | None) -> Path | None:
    if asked is None:
        return None
    if not str(asked).strip():
        raise UsageError("root: give a folder or file that was indexed, or lies in one that was")
    return absolute(asked)


def _truth(asked: bool | None) -> bool | None:
    if asked is None or isinstance(asked, bool):
        return asked
    raise UsageError(f"has_text: {asked!r} is neither true nor false")
