"""Opens hits with the programs that the system has for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from xsearch.cli.render import complain, counted
from xsearch.core.errors import SourceError
from xsearch.core.paths import absolute, displayable

if TYPE_CHECKING:
    from xsearch.core.values import Hit

AT_ONCE = 10  # without asking


def open_hits(hits: Sequence[Hit]) -> None:
    """Open the files of hits, best first; more than `AT_ONCE` only after asking.

    Where nobody can be asked, the first `AT_ONCE` are opened and it is said how many were not.

    Raises:
        SourceError: there is no program to open one with.
    """
    files = {hit.path: hit.missing for hit in hits if hit.path is not None}
    there = [absolute(path) for path, missing in files.items() if not missing]
    for path in (path for path, missing in files.items() if missing):
        complain(f"{displayable(path)} cannot be reached now: not opened", prefix="note: ")
    if len(there) > AT_ONCE and not _agreed(len(there)):
        complain(f"opened the first {AT_ONCE} of {len(there):,}", prefix="note: ")
        there = there[:AT_ONCE]
    for path in there:
        if typer.launch(str(path)):
            raise SourceError(
                f"{displayable(path)}: no program here opens it (xdg-open, open or the system's "
                "own choice)."
            )


def _agreed(count: int) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"Open all {counted(count, 'file')}?", err=True)
