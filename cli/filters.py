"""Options that narrow a search, and what they make together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from xsearch.core.filters import Filters


def _option(*names: str, metavar: str, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False)


AfterOption = Annotated[
    str | None,
    _option(
        "--after",
        metavar="DATE",
        help="Taken from then on: 2024, 2024-06, 2024-06-15, 'last summer', '3 weeks ago'.",
    ),
]
BeforeOption = Annotated[
    str | None, _option("--before", metavar="DATE", help="Taken before the beginning of that.")
]
CameraOption = Annotated[
    str | None, _option("--camera", metavar="WORDS", help="Taken with a camera of this name.")
]
LensOption = Annotated[
    str | None, _option("--lens", metavar="WORDS", help="Taken with a lens of this name.")
]
NearOption = Annotated[
    str | None,
    _option(
        "--near",
        metavar="PLACE[,KM]",
        help="Taken near a place, by name or as LAT,LON,KM.",
    ),
]
PathOption = Annotated[
    list[str] | None,
    _option("--path", metavar="GLOB", help="File names or paths like this; may be repeated."),
]
TypeOption = Annotated[
    list[str] | None,
    _option("--type", metavar="FORMAT", help="Files of a format, such as jpeg; may be repeated."),
]
MinSizeOption = Annotated[
    str | None,
    _option("--min-size", metavar="SIZE", help="At least 1920x1080 pixels, or 2MP."),
]
OrientationOption = Annotated[
    str | None,
    _option("--orientation", metavar="NAME", help="landscape, portrait or square."),
]
RootOption = Annotated[
    Path | None, _option("--root", metavar="PATH", help="Only what lies at or below this.")
]
HasTextOption = Annotated[
    bool | None,
    typer.Option(
        "--has-text/--no-text",
        help="Only pictures with texts, or only those without.",
        show_default=False,
    ),
]
TagOption = Annotated[
    list[str] | None,
    _option("--tag", metavar="NAME", help="Only pictures with this tag; may be repeated."),
]


def filters(
    *,
    after: str | None,
    before: str | None,
    camera: str | None,
    lens: str | None,
    near: str | None,
    path: list[str] | None,
    type_: list[str] | None,
    min_size: str | None,
    orientation: str | None,
    root: Path | None,
    has_text: bool | None,
    tag: list[str] | None,
) -> Filters | None:
    """The filters that were given; None without any."""
    given = (after, before, camera, lens, near, min_size, orientation, root, has_text)
    if all(value is None for value in given) and not (path or type_ or tag):
        return None
    from xsearch.core.filters import Filters

    return Filters(
        after=after,
        before=before,
        camera=camera,
        lens=lens,
        near=near,
        path=tuple(path or ()) or None,
        type=tuple(type_ or ()) or None,
        min_size=min_size,
        orientation=orientation,
        root=root,
        has_text=has_text,
        tag=tuple(tag or ()) or None,
    )
