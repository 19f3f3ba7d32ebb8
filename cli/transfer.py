"""`xsearch import` and `export`: taking over vectors that others made, and giving one's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from xsearch.cli.index import show_report
from xsearch.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    LibraryOption,
    WaitOption,
    WorkersOption,
)
from xsearch.cli.render import (
    bytes_text,
    counted,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_json,
    write_line,
)


class Format(StrEnum):
    """What an export looks like."""

    clip_retrieval = "clip-retrieval"
    parquet = "parquet"


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME|DIR",
        help="The model that made the vectors. Default: what is recorded, or the library's own.",
        show_default=False,
    ),
]
PathsArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="What to index, as in `xsearch index`. Default: the common folder of the pictures.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    imports = typer.Typer(
        help="Index pictures with the vectors that another program made of them.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    imports.command("clip-retrieval")(from_clip_retrieval)
    imports.command("rclip")(from_rclip)
    app.add_typer(imports, name="import")
    app.command("export")(export)


def from_clip_retrieval(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="What it wrote: `img_emb` and `metadata` lie there."),
    ],
    paths: PathsArgument = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="The folder of the pictures, where recorded paths are relative or have changed. "
            "Default: relative ones start here.",
            show_default=False,
        ),
    ] = None,
    library: LibraryOption = None,
    encoder: ModelOption = None,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Take over what `clip-retrieval inference` wrote (needs pyarrow)."""
    place = (library, encoder, device)
    _import("clip-retrieval", folder, paths, images, place, (workers, batch_size), wait, as_json)


def from_rclip(
    database: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DB]",
            help="Its database, db.sqlite3. Default: where rclip keeps it.",
            show_default=False,
        ),
    ] = None,
    paths: PathsArgument = None,
    library: LibraryOption = None,
    encoder: ModelOption = None,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Take over the database of rclip."""
    place = (library, encoder, device)
    _import("rclip", database, paths, None, place, (workers, batch_size), wait, as_json)


def _import(
    kind: Literal["clip-retrieval", "rclip"],
    source: Path | None,
    paths: list[Path] | None,
    images: Path | None,
    place: tuple[Path | None, str | None, str],
    speed: tuple[int | None, int | None],
    wait: float,
    as_json: bool,
) -> None:
    import xsearch
    from xsearch.transfer import encoder_for_import

    library, encoder, device = place
    workers, batch_size = speed
    name = encoder_for_import(kind, source, encoder)
    with (
        xsearch.open(library, encoder=name, device=device, wait=wait) as opened,
        native_stderr_closed(),
        progress_bar() as bar,
    ):
        report = opened.import_embeddings(
            kind,
            source,
            paths,
            images=images,
            workers=workers,
            batch_size=batch_size,
            wait=wait,
            progress=bar,
        )
        folder = opened.path
    show_report(report, folder, as_json)


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to: a new folder.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="`clip-retrieval`: img_emb and metadata, for its tools and autofaiss. `parquet`: "
            "a table with a row a picture.",
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="Whose vectors, where the library keeps several. Default: its own.",
            show_default=False,
        ),
    ] = None,
    captions: Annotated[
        bool, typer.Option("--captions", help="The texts of pictures, too.")
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the vectors of all pictures for other programs (needs pyarrow)."""
    import xsearch

    with xsearch.open(library, create=False) as opened, progress_bar() as bar:
        report = opened.export(folder, form.value, encoder=encoder, captions=captions, progress=bar)
    if as_json:
        write_json(report.to_dict())
        return
    write_line(
        f"{short_path(report.folder)}: {counted(report.pictures, 'picture')} in "
        f"{counted(report.files, 'file')}, {bytes_text(report.bytes)}"
    )
