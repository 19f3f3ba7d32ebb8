"""What narrows a search: as a person asks for it, and as the plain conditions that it means."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

Orientation = Literal["landscape", "portrait", "square"]
ORIENTATIONS: tuple[Orientation, ...] = ("landscape", "portrait", "square")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a person asks of the pictures that are found; what is None is not asked.

    A text qualifies where the picture that it belongs to does.

    `after`, `before`: taken at or after the beginning of a day, month, year or season, or before
    it (`2024`, `2024-06`, `2024-06-15`, an ISO time, "last summer", "3 weeks ago"), in the
    camera's local time; pictures that do not say when go by the date of their file.
    `camera`, `lens`: all words of it occur in the name, in capitals or not.
    `near`: (latitude, longitude, km), the same as text, or a place: "Paris", "Paris,20".
    `path`: patterns of file names or paths, see `xsearch.core.globs`; one of them matches.
    `type`: file formats, such as jpeg or heic; one of them.
    `min_size`: `1920x1080` pixels, either way round; `2MP`; a number of pixels for both sides.
    `orientation`: `landscape`, `portrait` or `square`, as seen upright.
    `root`: a folder or file; what lies at or below it. Texts may lie there themselves.
    `has_text`: whether there are captions.
    `tag`: tags that the picture has, all of them.
    """

    after: str | date | None = None
    before: str | date | None = None
    camera: str | None = None
    lens: str | None = None
    near: str | tuple[float, float, float] | None = None
    path: str | tuple[str, ...] | None = None
    type: str | tuple[str, ...] | None = None
    min_size: str | int | tuple[int, int] | None = None
    orientation: str | None = None
    root: str | Path | None = None
    has_text: bool | None = None
    tag: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        # Lists are welcome, but what is asked for must be hashable.
        for one in fields(self):
            value: Any = getattr(self, one.name)
            if isinstance(value, list):
                object.__setattr__(self, one.name, tuple(value))

    def __bool__(self) -> bool:
        return _asks(self)


@dataclass(frozen=True, slots=True)
class Circle:
    """All within `radius` kilometres of a point in degrees, north and east positive."""

    latitude: float
    longitude: float
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Filters that were understood: plain values, all of which a picture must meet.

    `after` (included) and `before` (not included) are naive, the camera's local time. `camera`
    and `lens` are words in small letters, `formats` Pillow's names. `sides` are the least pixels
    of the longer side and of the shorter one, `pixels` the least of the whole picture.
    """

    after: datetime | None = None
    before: datetime | None = None
    camera: tuple[str, ...] = ()
    lens: tuple[str, ...] = ()
    near: Circle | None = None
    paths: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    sides: tuple[int, int] | None = None
    pixels: int | None = None
    orientation: Orientation | None = None
    root: Path | None = None
    has_text: bool | None = None
    tags: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return _asks(self)


def _asks(wishes: Filters | Conditions) -> bool:
    return any(getattr(wishes, one.name) not in (None, ()) for one in fields(wishes))
