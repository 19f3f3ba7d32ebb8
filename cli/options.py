"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-l",
        metavar="DIR",
        help="The library's folder. Default: $XSEARCH_LIBRARY, a .xsearch here or above, or "
        "your own.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
WaitOption = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", help="How long to wait for another writer.", min=0),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME|DIR",
        help="An encoder by name (`xsearch models list`) or folder. Default: the library's own.",
        show_default=False,
    ),
]
RerankerOption = Annotated[
    Path | None,
    typer.Option(
        "--reranker",
        metavar="DIR",
        help="The reranker's folder. Default: that in the encoder's own folder.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where to embed: `cpu`, `cuda`, `mps`, or `auto` for the fastest that is there.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Threads that read and decode. Default: the number of cores.",
        show_default=False,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Pictures embedded at once. Default: what suits the encoder.",
        show_default=False,
    ),
]
MaxPixelsOption = Annotated[
    int,
    typer.Option("--max-pixels", min=1, help="Refuse larger pictures, in millions of pixels."),
]
FilepathOnlyOption = Annotated[
    bool, typer.Option("--filepath-only", "-f", help="Print paths alone, one a line.")
]
NullOption = Annotated[
    bool,
    typer.Option("--null", "-0", help="Print paths alone, a NUL byte after each, for `xargs -0`."),
]
PreviewOption = Annotated[
    bool,
    typer.Option("--preview", "-p", help="Show the pictures in the terminal, each below its line."),
]
OpenOption = Annotated[
    bool,
    typer.Option("--open", help="Open the hits with the system's programs; over 10: asks first."),
]
CopyToOption = Annotated[
    Path | None,
    typer.Option(
        "--copy-to",
        metavar="DIR",
        help="Copy the pictures into a folder; nothing there is overwritten.",
        show_default=False,
    ),
]
LinkToOption = Annotated[
    Path | None,
    typer.Option(
        "--link-to",
        metavar="DIR",
        help="Put links to the pictures into a folder.",
        show_default=False,
    ),
]
ContactSheetOption = Annotated[
    Path | None,
    typer.Option(
        "--contact-sheet",
        metavar="FILE",
        help="Write one picture of all hits: .jpg, .png or .webp.",
        show_default=False,
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page of all hits: one file, for any browser.",
        show_default=False,
    ),
]
