"""`xsearch evaluate`: how good an encoder is on pictures with known texts or classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import JsonOption, WorkersOption
from xsearch.cli.render import (
    complain,
    complain_first,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_json,
    write_line,
    write_table,
)
from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from xsearch.training import Evaluation


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("evaluate")(evaluate)


def evaluate(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET",
            help="A folder or file of pictures with texts or class names, in any format of "
            "`--format`.",
        ),
    ] = Path(),
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder", metavar="NAME|DIR", help="`builtin`, another name, or an encoder's folder."
        ),
    ] = "builtin",
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Which part. Default: `test` where there is one, else all.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language",
            metavar="CODE",
            help="Texts of this language; may be repeated. Default: every language, each by "
            "itself.",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="The data set's format. Default: found out.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Where the pictures are, if not beside the texts.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        str,
        typer.Option("--k", "-k", metavar="N,N,...", help="Recall at these numbers of results."),
    ] = "1,5,10",
    labels: Annotated[
        bool | None,
        typer.Option(
            "--labels/--no-labels",
            help="Classify pictures by class names, too. Default: where the data set has labels.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            help="A sentence for class names, such as 'a photo of a {}.'; may be repeated. "
            "Default: seven general ones.",
            show_default=False,
        ),
    ] = None,
    captions_from: Annotated[
        str | None,
        typer.Option(
            "--captions-from",
            metavar="SPLIT|bank|FILE",
            help="Caption each picture with the nearest sentence of this split, of the bank that "
            "ships with xsearch, or of a .txt, .csv or .jsonl file: BLEU-1 to 4.",
            show_default=False,
        ),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            "--bootstrap", metavar="N", min=0, help="95 % intervals from N resamplings; 0: none."
        ),
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help="At most N pictures, spread evenly over the split.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="DIR",
            help="Write report.html, report.md with plots, and evaluation.json here.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure an encoder on a data set: retrieval both ways, classification, captions."""
    from xsearch import training

    cuts = _cuts(k)
    if report is not None:
        training.prepare_report(report)
    loaded = training.load_encoder(encoder)
    # A source that does not say its language is in the one that was asked for.
    data = training.read_dataset(
        dataset, format=format_, images=images, language=language[0] if language else "en"
    )
    with native_stderr_closed(), progress_bar() as bar:
        found = training.evaluate(
            loaded,
            data,
            split=split,
            languages=language,
            cuts=cuts,
            labels=labels,
            templates=template or training.TEMPLATES,
            captions_from=captions_from,
            bootstrap=bootstrap,
            limit=limit,
            workers=workers,
            progress=bar,
        )
    _complain(found)
    if as_json:
        write_json(found.to_dict())
    else:
        _write(found)
    if report is not None:
        written = training.write_report(found, report)
        page = next(path for path in written if path.suffix == ".html")
        complain(short_path(page), prefix="report: ")


def _cuts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--k {text!r}: numbers with commas between, such as 1,5,10") from None


def _complain(found: Evaluation) -> None:
    for kind, lines in (
        ("problem", list(found.problems)),
        ("failed", [f"{one.key}: {one.reason}" for one in found.failures]),
    ):
        complain_first(lines, f"{kind}: ", "more; --json lists all")


def _write(found: Evaluation) -> None:
    from xsearch import training

    write_line(training.headline(found))
    for table in training.tables(found):
        write_line("")
        write_line(table.title)
        write_table(table.header, table.rows, table.names)
    write_line("")
    for note in training.notes(found):
        write_line(note)
