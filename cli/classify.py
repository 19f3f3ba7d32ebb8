"""`xsearch classify` and `xsearch tag`: which of some labels fit pictures, and how probably."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    LibraryOption,
    WaitOption,
    WorkersOption,
)
from xsearch.cli.render import (
    complain,
    counted,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_json,
    write_line,
    write_table,
)
from xsearch.core.errors import SourceError, UsageError

if TYPE_CHECKING:
    from xsearch.core.reports import TagReport
    from xsearch.core.values import Classified
    from xsearch.library import Library

NONE = "none"
_WIDEST = 40

LabelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="A,B,...",
        help='Labels with commas between, "such, in quotes" where one has a comma; may be '
        "repeated.",
        show_default=False,
    ),
]
LabelsFileOption = Annotated[
    Path | None,
    typer.Option("--labels-file", metavar="FILE", help="Labels, one a line.", show_default=False),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help="A sentence for labels, such as 'a photo of a {}.'; may be repeated. Default: some "
        "general ones.",
        show_default=False,
    ),
]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="CODE",
        help="The labels' language, for sentences of it: en, de, fr, cs, ar or zh. Default: "
        "English sentences for English labels, none for others.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("classify")(classify)
    app.command("tag")(tag)


def classify(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Pictures, and folders of pictures."),
    ],
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    template: TemplateOption = None,
    language: LanguageOption = None,
    multi: Annotated[
        bool,
        typer.Option("--multi", help="Any number of labels may fit, each judged by itself."),
    ] = False,
    top: Annotated[
        int, typer.Option("--top", "-k", min=1, help="How many labels to show of each picture.")
    ] = 1,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder", metavar="NAME|DIR", help="`builtin`, another name, or an encoder's folder."
        ),
    ] = "builtin",
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which label fits each picture, with its probability, or that none does."""
    import xsearch

    wanted = read_labels(labels, labels_file)
    width = min(max(map(len, [*wanted, NONE])), _WIDEST)
    bad = 0
    # On a terminal, lines that come all the time show the progress themselves.
    bar = nullcontext() if sys.stdout.isatty() else progress_bar()
    with native_stderr_closed(), bar as progress:
        found = xsearch.classify(
            paths,
            wanted,
            encoder=encoder,
            device=device,
            templates=template or None,
            language=language,
            multi=multi,
            top=None if as_json else top,
            workers=workers,
            progress=progress,
        )
        for one in found:
            bad += one.reason is not None
            if as_json:
                write_json(one.to_dict())
            elif one.reason is not None:
                complain(f"{_place(one.path)}: {one.reason}", prefix="failed: ")
            else:
                write_line(_row(one, top, width))
    if bad:
        complain(f"{counted(bad, 'picture')} could not be read", prefix="note: ")


def _row(found: Classified, top: int, width: int) -> str:
    """The best labels, `none` first where it is likelier that none fits, and the path."""
    shown = [(label.name, label.probability) for label in found.labels[:top]]
    if found.best is None:
        sure = 1 - found.labels[0].probability if found.none is None else found.none
        shown = [(NONE, sure), *shown][:top]
    cells = [f"{value:.2f}  {name:<{width}}" for name, value in shown]
    return "  ".join([*cells, _place(found.path)])


def _place(path: Path | None) -> str:
    return "?" if path is None else short_path(path)


def tag(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="With --add or --remove: pictures, or folders of them.",
            show_default=False,
        ),
    ] = None,
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    template: TemplateOption = None,
    language: LanguageOption = None,
    min_score: Annotated[
        float,
        typer.Option("--min-score", min=0.0, max=1.0, help="The least probability of a tag."),
    ] = 0.5,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", "-k", min=1, help="At most so many tags a picture.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be tagged; store nothing.")
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="List all tags, and how many pictures have each.")
    ] = False,
    show: Annotated[
        str | None,
        typer.Option(
            "--show", metavar="NAME", help="List the pictures with a tag.", show_default=False
        ),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option("--add", metavar="NAME", help="Tag the PATHs by hand.", show_default=False),
    ] = None,
    remove: Annotated[
        str | None,
        typer.Option(
            "--remove",
            metavar="NAME",
            help="Take a tag from the PATHs; without any, from all pictures.",
            show_default=False,
        ),
    ] = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Tag the library's pictures with the labels that fit them; no picture is read or changed."""
    import xsearch

    given = [labels is not None or labels_file is not None, listed, show, add, remove]
    if sum(map(bool, given)) != 1:
        raise UsageError("say one thing to do: --labels, --list, --show, --add or --remove")
    if paths and not (add or remove):
        raise UsageError("PATHs go with --add or --remove; labels are compared with all pictures")
    if add and not paths:
        raise UsageError(f"--add {add}: say which pictures, or folders of them")
    with xsearch.open(library, encoder=encoder, create=False) as opened:
        if listed:
            _list(opened, as_json)
        elif show:
            _show(opened, show, as_json)
        elif add:
            _say("tagged", opened.add_tag(add, paths or [], wait=wait), as_json)
        elif remove:
            _say("removed", opened.remove_tag(remove, paths or None, wait=wait), as_json)
        else:
            wanted = read_labels(labels, labels_file)
            with progress_bar() as bar:
                report = opened.tag(
                    wanted,
                    min_score=min_score,
                    top=top,
                    templates=template or None,
                    language=language,
                    dry_run=dry_run,
                    wait=wait,
                    progress=bar,
                )
            _report(report, as_json)


def _list(library: Library, as_json: bool) -> None:
    found = library.tags()
    if as_json:
        for tag in found:
            write_json({"name": tag.name, "pictures": tag.pictures, "by_hand": tag.by_hand})
    elif found:
        rows = [(tag.name, f"{tag.pictures:,}", f"{tag.by_hand:,}") for tag in found]
        write_table(("tag", "pictures", "by hand"), rows)


def _show(library: Library, name: str, as_json: bool) -> None:
    found = library.tagged(name)
    if not found:
        complain(f"no picture is tagged {name!r}; --list names all tags", prefix="note: ")
    for one in found:
        if as_json:
            write_json(one.to_dict())
        else:
            score = "hand" if one.score is None else f"{one.score:.2f}"
            write_line(f"{score}  {_place(one.path)}")


def _say(what: str, count: int, as_json: bool) -> None:
    if as_json:
        write_json({what: count})
    else:
        write_line(f"{what}: {counted(count, 'picture')} (the files themselves are untouched)")


def _report(report: TagReport, as_json: bool) -> None:
    if as_json:
        write_json(report.to_dict())
        return
    write_table(("tag", "pictures"), [(name, f"{count:,}") for name, count in report.tags.items()])
    would = "" if report.stored else "would be "
    write_line(f"{report.tagged:,} of {counted(report.pictures, 'picture')} {would}tagged")


def read_labels(given: Iterable[str] | None, file: Path | None) -> list[str]:
    """The labels of the command line: comma-separated values, then the lines of a file.

    Raises:
        SourceError: the file cannot be read.
        UsageError: quotes that do not close.
    """
    found: list[str] = []
    for text in given or ():
        try:
            found += next(csv.reader([text], strict=True, skipinitialspace=True), [])
        except csv.Error as error:
            raise UsageError(f'--labels {text!r}: {error}; "quotes" go around a label') from None
    if file is not None:
        try:
            found += file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise SourceError(f"{file}: {reason}") from error
    return [label for label in found if label.strip()]
