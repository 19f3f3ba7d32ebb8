"""`xsearch reindex`: changing a library's encoder without losing the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    LibraryOption,
    MaxPixelsOption,
    WaitOption,
    WorkersOption,
)
from xsearch.cli.render import (
    complain,
    complain_first,
    counted,
    duration,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_json,
    write_line,
)
from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from xsearch.core.reports import ReindexReport


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("reindex")(reindex)


def reindex(
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME|DIR",
            help="The encoder to change to, by name (`xsearch models list`) or folder. Default: "
            "the library's own, as this version of xsearch has it.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the encoder in use, too, for --encoder A+B."),
    ] = False,
    switch: Annotated[
        bool,
        typer.Option(
            "--switch/--no-switch",
            help="Search with it from then on, or only keep it beside the encoder in use.",
        ),
    ] = True,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Change even where some pictures cannot be reached now."),
    ] = False,
    retire: Annotated[
        str | None,
        typer.Option(
            "--retire",
            metavar="NAME",
            help="Instead: stop keeping this encoder. `xsearch compact` then frees its space.",
            show_default=False,
        ),
    ] = None,
    library: LibraryOption = None,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = None,
    max_pixels: MaxPixelsOption = 200,
    device: DeviceOption = "auto",
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Change a library's encoder: searches go on with the old one until the new is complete."""
    import xsearch

    if retire is not None and (encoder or keep or partial or not switch):
        raise UsageError("--retire stands alone: it names the encoder to stop keeping")
    with xsearch.open(library, device=device, create=False) as opened:
        if retire is not None:
            opened.retire(retire, wait=wait)
            if as_json:
                write_json({"retired": retire})
            else:
                write_line(f"{retire} is no longer kept; `xsearch compact` frees its space")
            return
        with native_stderr_closed(), progress_bar() as bar:
            report = opened.reindex(
                encoder,
                switch=switch,
                keep=keep,
                partial=partial,
                workers=workers,
                batch_size=batch_size,
                max_pixels=max_pixels * 1_000_000,
                wait=wait,
                progress=bar,
            )
    if as_json:
        write_json(report.to_dict())
    else:
        _write(report)
    if not report.complete:
        raise typer.Exit(1)


def _write(report: ReindexReport) -> None:
    complain_first(
        [f"{short_path(file.path)}: {file.reason}" for file in report.failures],
        "not read: ",
        count=report.unreadable,
    )
    write_line(
        f"embedded: {counted(report.images, 'picture')}, {counted(report.texts, 'text')} in "
        f"{duration(report.seconds)}"
    )
    if report.stale:
        write_line(f"{counted(report.stale, 'picture')} gone or changed since: run `xsearch index`")
    if not report.complete:
        complain(
            f"{counted(report.unreadable, 'item')} cannot be read now, so the library is "
            "searched as before. Bring them back and run it again, or give --partial to change "
            "without them."
        )
    elif report.switched:
        write_line(f"encoder: {report.encoder} ({report.fingerprint}); searches use it now")
    else:
        write_line(
            f"encoder: {report.encoder} ({report.fingerprint}) is kept beside the one in use; "
            "choose it with --encoder"
        )
