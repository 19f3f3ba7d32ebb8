"""`xsearch query`: words or a picture in, hits out."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import EncoderOption, JsonOption, LibraryOption
from xsearch.cli.render import complain, write_hits, write_json, write_path
from xsearch.core.errors import SourceError
from xsearch.core.formats import is_image_name

if TYPE_CHECKING:
    from xsearch.core.query import Image
    from xsearch.core.values import Kind

_URL = ("http://", "https://", "file://")
_PATH_LIKE = re.compile(r"\.{0,2}[/\\]|~|[A-Za-z]:[/\\]")


class Target(StrEnum):
    """What a query finds."""

    image = "image"
    text = "text"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("query")(query)


def query(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT|IMAGE",
            help="What to look for: words, a picture's path, or its URL. Words that begin with "
            "- go after --.",
        ),
    ],
    target: Annotated[Target, typer.Option("--for", help="What to find.")] = Target.image,
    top: Annotated[int, typer.Option("--top", "-k", min=0, help="How many hits.")] = 10,
    filepath_only: Annotated[
        bool, typer.Option("--filepath-only", "-f", help="Print paths alone, one a line.")
    ] = False,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find pictures by words, texts by a picture, look-alikes of a picture."""
    import xsearch

    kind: Kind = "text" if target is Target.text else "image"
    asked = read_query(" ".join(words))
    with xsearch.open(library, encoder=encoder, create=False) as opened:
        hits = opened.search(asked, k=top, target=kind)
        if not hits and top:
            _explain_nothing(opened.path, kind)
    if as_json:
        for hit in hits:
            write_json(hit.to_dict())
    elif filepath_only:
        for path in dict.fromkeys(hit.path for hit in hits):
            if path is not None:
                write_path(path)
    else:
        write_hits(hits)


def read_query(text: str) -> str | Image:
    """What the words of a command line mean: an existing picture or a URL, else words.

    Raises:
        SourceError: it is written like a path and no picture is there.
    """
    from xsearch.core.query import Image

    if text.startswith(_URL):
        return Image(text)
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    there = len(text) < 4096 and "\0" not in text and os.path.isfile(path)  # noqa: PTH113
    if there and is_image_name(path.name):
        return Image(path)
    if _PATH_LIKE.match(text):
        reason = "is no picture" if there else "no such picture"
        raise SourceError(f"{text}: {reason}. To search for these words, put a space before them.")
    return text


def _explain_nothing(place: Path, target: str) -> None:
    what = "texts" if target == "text" else "pictures"
    complain(
        f"{place} holds no {what} that can be shown. Index some with: xsearch index PATH",
        prefix="note: ",
    )
