"""`xsearch duplicates`: copies among the library's pictures, and which of them to keep."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import JsonOption, LibraryOption, WorkersOption
from xsearch.cli.render import (
    bytes_text,
    complain,
    counted,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_json,
    write_line,
    write_path,
)

if TYPE_CHECKING:
    from xsearch.core.duplicates import DuplicateFile, DuplicateGroup, DuplicateReport


class Strictness(StrEnum):
    """How alike copies must be."""

    strict = "strict"
    normal = "normal"
    loose = "loose"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("duplicates")(duplicates)


def duplicates(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Only pictures at or below these. Default: the whole library.",
            show_default=False,
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Only files with the same bytes; takes no time.")
    ] = False,
    strictness: Annotated[
        Strictness,
        typer.Option(
            "--strictness",
            help="`strict`: resized, saved again, turned. `normal`: cropped by a tenth, with a "
            "border or a watermark, too. `loose`: also photographs that are nearly the same.",
        ),
    ] = Strictness.normal,
    look: Annotated[
        bool,
        typer.Option(
            "--look/--no-look",
            help="Compare files by what they show, or trust stored hashes and vectors.",
        ),
    ] = True,
    filepath_only: Annotated[
        bool,
        typer.Option(
            "--filepath-only", "-f", help="Print only the paths that are not to keep, one a line."
        ),
    ] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="The same, each ended by a NUL, for xargs -0.")
    ] = False,
    library: LibraryOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find copies of pictures, exact and near ones. Nothing is ever deleted."""
    import xsearch

    with (
        xsearch.open(library, create=False) as opened,
        native_stderr_closed(),
        progress_bar() as bar,
    ):
        report = opened.duplicates(
            paths or None,
            exact=exact,
            strictness=strictness.value,
            look=look,
            workers=workers,
            progress=bar,
        )
    if as_json:
        for group in report.groups:
            write_json(group.to_dict())
    elif filepath_only or null:
        _write_paths(report, null)
    else:
        for at, group in enumerate(report.groups):
            _write_group(group, first=at == 0)
    _summarise(report)


def _write_group(group: DuplicateGroup, first: bool) -> None:
    if not first:
        write_line("")
    write_line(f"keep  {_describe(group.keeper)}  ({group.reason})")
    for file in group.others:
        how = "same bytes" if file.exact else f"similarity {file.similarity:.2f}"
        if file.turned:
            how += f", {file.turned}"
        if not (file.exact or file.checked):
            how += ", not looked at"
        write_line(f"      {_describe(file)}  {how}")


def _describe(file: DuplicateFile) -> str:
    size = f"{file.width} x {file.height} {file.format}, {bytes_text(file.size)}"
    away = "  (cannot be reached now)" if file.missing else ""
    return f"{short_path(file.path)}  {size}{away}"


def _write_paths(report: DuplicateReport, null: bool) -> None:
    """The copies that can be reached, of groups whose keeper can, too."""
    left_out = 0
    for group in report.groups:
        if group.keeper.missing:
            left_out += 1
            continue
        for file in group.others:
            if not file.missing:
                write_path(file.path, null)
    if left_out:
        complain(
            f"{counted(left_out, 'group')} left out, whose file to keep cannot be reached now",
            prefix="note: ",
        )


def _summarise(report: DuplicateReport) -> None:
    copies = sum(len(group.others) for group in report.groups)
    size = sum(group.bytes for group in report.groups)
    exact = sum(group.exact for group in report.groups)
    complain(
        f"{counted(report.pictures, 'picture')} compared: {counted(len(report.groups), 'group')} "
        f"({exact:,} of equal bytes), {counted(copies, 'copy', 'copies')}, {bytes_text(size)}",
        prefix="",
    )
    if report.changed:
        complain(
            f"{counted(report.changed, 'file')} changed since indexing left out; run `xsearch "
            "index`",
            prefix="note: ",
        )
    if copies:
        complain("nothing was deleted; look at the copies before you do", prefix="note: ")
