"""`xsearch status`, `remove`, `compact` and `check`: looking after a library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import JsonOption, LibraryOption, WaitOption
from xsearch.cli.render import (
    bytes_text,
    complain,
    counted,
    duration,
    progress_bar,
    short_path,
    write_json,
    write_line,
)
from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xsearch.core.reports import EncoderStatus, IndexStatus, LibraryStatus, RegionStatus


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status")(status)
    app.command("remove")(remove)
    app.command("compact")(compact)
    app.command("check")(check)


def status(
    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be indexed, and why.")
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a library holds, and where."""
    import xsearch

    with xsearch.open(library, create=False) as opened:
        if failed:
            for failure in opened.failures():
                row = {"path": displayable(failure.path), "reason": failure.reason}
                if as_json:
                    write_json(row)
                else:
                    write_line(f"{short_path(failure.path)}: {failure.reason}")
            return
        found = opened.status()
    for warning in found.warnings:
        complain(warning, prefix="warning: ")
    if as_json:
        write_json(found.to_dict())
    else:
        _write_status(found)


def _write_status(found: LibraryStatus) -> None:
    rows = [
        ("library", displayable(found.path)),
        (
            "items",
            f"{counted(found.items['image'], 'image')}, {counted(found.items['text'], 'text')}",
        ),
        ("files", counted(found.files, "file")),
    ]
    if found.failed:
        rows.append(("failed", f"{counted(found.failed, 'file')} (--failed lists them)"))
    for at, root in enumerate(found.roots):
        away = "" if root.reachable else ", cannot be reached now"
        shown = f"{displayable(root.path)} ({counted(root.files, 'file')}{away})"
        rows.append(("" if at else "roots", shown))
    for at, encoder in enumerate(_ordered(found.encoders)):
        rows.append(("" if at else "encoder", _encoder_line(encoder)))
    rows.append(("runs on", found.engine))
    if found.encoder:
        deleted = f", {found.deleted_vectors:,} deleted" if found.deleted_vectors else ""
        rows.append(("vectors", f"{found.vectors:,}{deleted} (generation {found.generation})"))
        lines = [_index_line(part) for part in found.index] or ["none yet"]
        rows += [("" if at else "index", line) for at, line in enumerate(lines)]
        rows.append(("searches", found.faiss))
    if found.regions:
        rows.append(("regions", _regions_line(found.regions)))
    sizes = found.bytes_on_disk
    parts = ", ".join(f"{name} {bytes_text(size)}" for name, size in sizes.items())
    rows.append(("on disk", f"{bytes_text(sum(sizes.values()))} ({parts})"))
    if found.last_run:
        report = found.last_run["report"] or {}
        took = f" in {duration(report['seconds'])}" if "seconds" in report else ""
        rows.append(
            (
                "last run",
                f"{found.last_run['command']}, {found.last_run['state']}{took}, "
                f"started {found.last_run['started_at'][:19]} UTC",
            )
        )
    for name, value in rows:
        write_line(f"{name:<9} {value}")


def _ordered(encoders: Sequence[EncoderStatus]) -> list[EncoderStatus]:
    return sorted(encoders, key=lambda encoder: encoder.state != "own")


def _index_line(part: IndexStatus) -> str:
    line = f"{part.structure} over {counted(part.count, part.kind)}"
    if part.wanted_recall is None:
        return f"{line}: exact"
    measured = "recall not measured" if part.recall is None else f"recall {part.recall:.1%}"
    return (
        f"{line}: {measured} of {part.wanted_recall:.1%} wanted ({part.queries}; {_effort(part)})"
    )


def _regions_line(regions: RegionStatus) -> str:
    line = (
        f"{regions.pictures:,} of {counted(regions.of, 'picture')} for {regions.reranker} "
        f"({regions.fingerprint}), {bytes_text(regions.bytes_each)} each"
    )
    if not regions.used:
        line += "; of another encoder, `xsearch index --region-cache` makes it anew"
    return line


def _effort(part: IndexStatus) -> str:
    if part.structure == "hnsw":
        return f"{part.probes} nodes in view"
    return f"{part.probes} of {part.lists} lists, {part.candidates} candidates"


def _encoder_line(encoder: EncoderStatus) -> str:
    line = (
        f"{encoder.name} ({encoder.fingerprint}), {encoder.dim} dimensions, {encoder.runtime}, "
        f"{encoder.precision}"
    )
    if encoder.state == "building":
        line += (
            f"; not complete: {encoder.missing:,} to go, `xsearch reindex --encoder "
            f"{encoder.source}` goes on"
        )
    elif encoder.state != "own":
        line += f"; {encoder.state}, {counted(encoder.vectors, 'vector')}"
    return line


def remove(
    path: Annotated[Path, typer.Argument(help="A root, or a folder or file below one.")],
    library: LibraryOption = None,
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Take something out of the library; the files themselves are not touched."""
    import xsearch

    with xsearch.open(library, create=False) as opened:
        report = opened.remove(path, wait=wait)
    if as_json:
        write_json({"files": report.files, "items": report.items})
        return
    write_line(
        f"removed: {counted(report.files, 'file')}, {counted(report.items, 'item')} "
        "(the files themselves are untouched)"
    )


def compact(
    library: LibraryOption = None, wait: WaitOption = 10.0, as_json: JsonOption = False
) -> None:
    """Give back the space of what was removed."""
    import xsearch

    with xsearch.open(library, create=False) as opened, progress_bar() as bar:
        report = opened.compact(wait=wait, progress=bar)
    if as_json:
        write_json(
            {
                "vectors_kept": report.vectors_kept,
                "vectors_dropped": report.vectors_dropped,
                "bytes_before": report.bytes_before,
                "bytes_after": report.bytes_after,
            }
        )
        return
    write_line(
        f"kept {counted(report.vectors_kept, 'vector')}, dropped {report.vectors_dropped:,}; "
        f"{bytes_text(report.bytes_before)} -> {bytes_text(report.bytes_after)}"
    )


def check(
    library: LibraryOption = None, wait: WaitOption = 10.0, as_json: JsonOption = False
) -> None:
    """Verify catalog, vectors and index against one another; repair what can be derived."""
    import xsearch

    with xsearch.open(library, create=False) as opened, progress_bar() as bar:
        report = opened.check(wait=wait, progress=bar)
    if as_json:
        write_json(report.to_dict())
    else:
        write_line(
            f"checked: {counted(report.files, 'file')}, {counted(report.items, 'item')}, "
            f"{counted(report.vectors, 'vector')}"
        )
        for what in report.repaired:
            write_line(f"repaired: {what}")
        for what in report.problems:
            complain(what, prefix="problem: ")
        write_line("all is well" if report.ok else "not all is well: see above")
    if not report.ok:
        raise typer.Exit(1)
