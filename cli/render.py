"""Showing things to people: tables, numbers, progress. Data on stdout, all else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from xsearch.core.reports import Progress, ProgressCallback
    from xsearch.core.values import Hit

_STAGES = {
    "scan": "Looking for files",
    "embed": "Indexing",
    "write": "Writing",
    "index": "Updating the index",
    "compact": "Compacting",
    "check": "Checking vectors",
    "pictures": "Embedding pictures",
    "texts": "Embedding texts",
    "train": "Training",
    "export": "Writing the model",
    "tag": "Comparing with labels",
    "compare": "Comparing pictures",
    "look": "Looking at files",
    "show": "Reading pictures",
    "words": "Indexing words",
    "ocr": "Reading text in pictures",
    "regions": "Filling the region cache",
    "download": "Downloading, MB",
}


_COMPLAINTS = 5


def complain(message: str, prefix: str = "xsearch: ") -> None:
    """One line on stderr."""
    print(f"{prefix}{message}", file=sys.stderr)


def complain_first(
    lines: Sequence[str], prefix: str, more: str = "more", count: int | None = None
) -> None:
    """The first of many complaints, and how many more there are of `count`, or of all given."""
    rest = (len(lines) if count is None else count) - _COMPLAINTS
    for line in lines[:_COMPLAINTS]:
        complain(line, prefix)
    if rest > 0:
        complain(f"{rest:,} {more}", prefix)


def write_json(value: dict[str, Any]) -> None:
    """One JSON object, on a line of its own; JSON's own escapes where stdout is not Unicode."""
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    write_line(json.dumps(value, ensure_ascii=not unicode))


def write_line(text: str) -> None:
    """A line on stdout, whatever its encoding: what it cannot show is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def write_path(path: Path, null: bool = False) -> None:
    """A path on a line: readable on a terminal, its own bytes in a pipe.

    With `null` it is always its own bytes, and a NUL byte ends it.
    """
    if sys.stdout.isatty() and not null:
        write_line(displayable(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + (b"\0" if null else b"\n"))


def short_path(path: Path) -> str:
    """A path as people read it: relative to this folder where it lies below it."""
    try:
        return displayable(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return displayable(path)


def write_hits(hits: Iterable[Hit]) -> None:
    """A table of hits: rank, score, and the text or path; whole, so that it can be copied."""
    strong, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if _coloured(sys.stdout) else ("",) * 3
    for hit in hits:
        places = "" if hit.path is None else short_path(hit.path)
        if hit.missing:
            places += "  (cannot be reached now)"
        if hit.other_paths:
            places += f"  (+{len(hit.other_paths)} with the same content)"
        rank = f"{hit.rank:>3}  {strong}{hit.score:.2f}{plain}  "
        if hit.text is None:
            write_line(rank + places)
        else:
            text = " ".join(hit.text.split())
            text = text if len(text) <= 200 else text[:199] + "…"
            write_line(rank + text)
            if places:
                write_line(f"{'':>11}{dim}{places}{plain}")


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]], names: int = 1) -> None:
    """Columns under a header: the first `names` to the left, the others, numbers, to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        write_line("  ".join(cells).rstrip())


def bytes_text(count: int) -> str:
    """A size for people, in binary units."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Keep what C libraries print of damaged files (libtiff does) off the terminal.

    They write to file descriptor 2; Python's own `sys.stderr` goes on to the terminal.
    """
    try:
        terminal = os.dup(2)
    except OSError:
        yield
        return
    ours = sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with os.fdopen(terminal, "w", encoding=ours.encoding, errors="backslashreplace") as kept:
            sys.stderr = kept
            os.dup2(nowhere, 2)
            try:
                yield
            finally:
                kept.flush()
                os.dup2(terminal, 2)
                sys.stderr = ours
    finally:
        os.close(nowhere)


@contextmanager
def progress_bar() -> Iterator[ProgressCallback | None]:
    """A bar on stderr with rate and time left; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _follow(bar)


def _follow(bar: Any) -> Callable[[Progress], None]:
    task = bar.add_task(_STAGES["scan"], total=None, rate="")
    stage = "scan"

    def show(progress: Progress) -> None:
        nonlocal stage
        if progress.stage != stage:
            stage = progress.stage
            bar.reset(task, description=_STAGES[stage], total=progress.total, rate="")
        speed = bar.tasks[0].speed
        rate = f"{speed:.0f}/s" if speed and progress.total else ""
        if progress.detail:
            rate = f"{rate}  {progress.detail}"
        bar.update(task, completed=progress.done, total=progress.total, rate=rate)

    return show


def _coloured(stream: Any) -> bool:
    return bool(stream.isatty()) and "NO_COLOR" not in os.environ
