"""`xsearch index`, `init` and `demo`: getting pictures and texts into a library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import (
    BatchSizeOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LibraryOption,
    MaxPixelsOption,
    RerankerOption,
    WaitOption,
    WorkersOption,
)
from xsearch.cli.render import (
    bytes_text,
    complain,
    complain_first,
    counted,
    duration,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_json,
    write_line,
    write_table,
)

if TYPE_CHECKING:
    from xsearch.core.reports import IndexPlan, IndexReport


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("index")(index)
    app.command("init")(init)
    app.command("demo")(demo)


def index(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Folders, pictures, and text files (.txt: a line a text; .csv and .jsonl with "
            "`text` and optionally `image`). None: everything indexed before.",
            show_default=False,
        ),
    ] = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    exclude_dir: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-dir",
            metavar="NAME",
            help="Leave out folders of this name or glob pattern (with a slash: path from the "
            "root); may be repeated, and is remembered.",
            show_default=False,
        ),
    ] = None,
    include_hidden: Annotated[
        bool | None,
        typer.Option(
            "--include-hidden/--no-include-hidden",
            help="Index hidden files and folders too; remembered.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    prune: Annotated[
        bool,
        typer.Option(
            "--prune/--no-prune",
            help="Take files that are gone out of the results; never where a whole root is "
            "missing or empty.",
        ),
    ] = True,
    max_pixels: MaxPixelsOption = 200,
    index_kind: Annotated[
        str | None,
        typer.Option(
            "--index-kind",
            metavar="NAME",
            help="How to search: `flat` (exact), `rabitq`, `ivf`, `hnsw`, or `auto` for what "
            "suits the library; remembered.",
            show_default=False,
        ),
    ] = None,
    memory_budget: Annotated[
        int | None,
        typer.Option(
            "--memory-budget",
            metavar="MB",
            min=0,
            help="Memory that an index may take, in MiB; 0: any. Remembered.",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            metavar="SHARE",
            help="How many of the 10 nearest a search should find, on average: 0.98 at first, 1 "
            "for all; remembered.",
            show_default=False,
        ),
    ] = None,
    ocr: Annotated[
        bool,
        typer.Option(
            "--ocr",
            help="Also read the text in pictures, each once, so that they are found by it.",
        ),
    ] = False,
    region_cache: Annotated[
        bool | None,
        typer.Option(
            "--region-cache/--no-region-cache",
            help="Keep what `query --rerank` reads of pictures, so that it is quick, or remove it; "
            "remembered.",
            show_default=False,
        ),
    ] = None,
    reranker: RerankerOption = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only show which index would be chosen, now and at 10 and 100 times the size, "
            "and its cost.",
        ),
    ] = False,
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Index pictures and texts; run it again any time, only what changed is read."""
    import xsearch

    budget = None if memory_budget is None else memory_budget << 20
    if plan:
        with xsearch.open(library, encoder=encoder, create=False) as opened:
            _show_plan(
                opened.plan(index_kind=index_kind, memory_budget=budget, recall=recall), as_json
            )
        return
    with (
        xsearch.open(
            library, encoder=encoder, device=device, reranker=reranker, wait=wait
        ) as opened,
        native_stderr_closed(),
        progress_bar() as bar,
    ):
        report = opened.index(
            paths,
            exclude_dirs=exclude_dir,
            include_hidden=include_hidden,
            workers=workers,
            batch_size=batch_size,
            prune=prune,
            max_pixels=max_pixels * 1_000_000,
            index_kind=index_kind,
            memory_budget=budget,
            recall=recall,
            ocr=ocr,
            region_cache=region_cache,
            wait=wait,
            progress=bar,
        )
        place = opened.path
    show_report(report, place, as_json)


def _show_plan(plans: list[IndexPlan], as_json: bool) -> None:
    if as_json:
        for row in plans:
            write_json(row.to_dict())
        return
    if not plans:
        write_line("nothing is indexed yet")
        return
    header = ("kind", "index", "vectors", "memory", "on disk", "a query", "building")
    lines = [
        (
            row.kind,
            f"{row.structure}, {row.lists:,} lists" if row.lists > 1 else row.structure,
            f"{row.count:,}",
            bytes_text(row.memory),
            bytes_text(row.disk),
            f"{row.query_seconds * 1e3:.2g} ms",
            duration(row.build_seconds),
        )
        for row in plans
    ]
    write_table(header, lines, names=2)
    for row in plans:
        write_line(f"{row.count:,} {row.kind}s: {'; '.join(row.reasons)}")


def show_report(report: IndexReport, place: Path, as_json: bool) -> None:
    """Show what an index run did to the library in a folder, and what it warns of."""
    for warning in report.warnings:
        complain(warning, prefix="warning: ")
    if as_json:
        write_json({"library": str(place), **report.to_dict()})
        return
    _write_summary(report, place)


def _write_summary(report: IndexReport, place: Path) -> None:
    names = ("added", "updated", "moved", "removed", "unchanged", "failed")
    counts = [f"{getattr(report, name):,} {name}" for name in names if getattr(report, name)]
    write_line(f"files: {', '.join(counts) or 'none found'}")
    if report.texts or report.texts_removed:
        changes = [f"{report.texts:,} added"] if report.texts else []
        changes += [f"{report.texts_removed:,} removed"] if report.texts_removed else []
        write_line(f"texts: {', '.join(changes)}")
    if report.imported:
        write_line(f"vectors: {report.imported:,} imported, {report.embedded:,} made")
    if report.ocr:
        write_line(f"text read in: {counted(report.ocr, 'picture')}")
    if report.regions:
        write_line(f"regions kept of: {counted(report.regions, 'picture')}")
    if report.skipped:
        write_line(f"skipped: {counted(report.skipped, 'file')} of other kinds")
    complain_first(
        [f"{short_path(failure.path)}: {failure.reason}" for failure in report.failures],
        "failed: ",
        "more; `xsearch status --failed` lists all",
    )
    rates = [
        f"{name} {rate:,.0f}/s"
        for name in ("decode", "encode", "write")
        if (rate := getattr(report.rates, name))
    ]
    speed = f" ({', '.join(rates)})" if rates else ""
    write_line(f"time: {duration(report.seconds)}{speed}")
    write_line(f"library: {short_path(place)}")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where; default: this folder.")
    ] = Path(),
) -> None:
    """Make a library in this folder (.xsearch), used by commands here and below."""
    import xsearch
    from xsearch.locate import FOLDER_NAME

    place = folder / FOLDER_NAME
    existed = (place / "catalog.db").exists()
    with xsearch.open(place) as opened:
        write_line(f"{short_path(opened.path)}: {'was there already' if existed else 'made'}")


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")],
) -> None:
    """Write sample photographs to a folder, to try things on."""
    from xsearch.demo import write_demo_photos

    written = write_demo_photos(folder)
    write_line(f"{counted(len(written), 'photograph')} in {short_path(written[0].parent)}")
