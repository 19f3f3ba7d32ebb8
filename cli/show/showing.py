"""Does with hits what an `Output` asks for, one thing after the other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from xsearch.cli.render import (
    complain,
    counted,
    native_stderr_closed,
    progress_bar,
    short_path,
    write_hits,
    write_json,
    write_path,
)
from xsearch.core.errors import SourceError
from xsearch.core.paths import absolute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from xsearch.cli.show.output import Output
    from xsearch.core.values import Hit


def show(hits: Sequence[Hit], output: Output, title: str, roots: Sequence[Path] = ()) -> None:
    """List the hits on stdout, then open, collect and lay them out as asked.

    Args:
        hits: best first.
        output: what is wanted.
        title: what was looked for, as people read it; it heads the sheet and the page.
        roots: the library's, so that it can be said when something is written into one.

    Raises:
        SourceError: a file to be written is there already and not of xsearch (nothing was done
            then), or some pictures could not be copied or linked (all else was done then).
        StorageError: the disk refused; what was written before is whole.
        MissingExtraError: previews need the extra `preview`.
    """
    _check_files(output)
    _list(hits, output)
    failed = _collect(hits, output)
    _lay_out(hits, output, title)
    for place in output.places:
        if any(absolute(place).is_relative_to(root) for root in roots):
            complain(
                f"{short_path(place)} lies in an indexed folder: the next `xsearch index` finds "
                "what is there.",
                prefix="note: ",
            )
    if output.open:
        from xsearch.cli.show.opening import open_hits

        open_hits(hits)
    if failed:
        raise SourceError(f"{counted(failed, 'picture')} could not be had; all else is done.")


def _check_files(output: Output) -> None:
    """Refuse before anything is done what must not be overwritten."""
    if output.contact_sheet is not None:
        from xsearch.cli.show import files, sheet

        files.refuse_foreign(output.contact_sheet, sheet.is_sheet)
    if output.html is not None:
        from xsearch.cli.show import files, page

        files.refuse_foreign(output.html, page.is_page)


def _list(hits: Sequence[Hit], output: Output) -> None:
    if output.json:
        for hit in hits:
            write_json(hit.to_dict())
    elif output.paths_alone:
        for path in dict.fromkeys(hit.path for hit in hits):
            if path is not None:
                write_path(path, null=output.null)
    elif output.preview and can_preview():
        from xsearch.cli.show.preview import write_previews

        write_previews(hits)
    else:
        write_hits(hits)


def can_preview() -> bool:
    """Pictures go to terminals only: in a pipe or a file they would be in the way."""
    if sys.stdout.isatty():
        return True
    complain("no pictures are shown, since the output is no terminal", prefix="note: ")
    return False


def _collect(hits: Sequence[Hit], output: Output) -> int:
    """Copy and link; the number of pictures that could not be had."""
    if output.copy_to is None and output.link_to is None:
        return 0
    from xsearch.cli.show.collecting import copy_pictures, link_pictures

    copied = 0 if output.copy_to is None else copy_pictures(hits, output.copy_to)
    linked = 0 if output.link_to is None else link_pictures(hits, output.link_to)
    return max(copied, linked)


def _lay_out(hits: Sequence[Hit], output: Output, title: str) -> None:
    if output.contact_sheet is None and output.html is None:
        return
    from xsearch.cli.show import page, sheet
    from xsearch.core.images import quiet_pillow

    with native_stderr_closed(), quiet_pillow(), progress_bar() as bar:
        if output.contact_sheet is not None:
            sheet.write_sheet(output.contact_sheet, hits, title, bar)
        if output.html is not None:
            page.write_page(output.html, hits, title, bar)
    for place in (output.contact_sheet, output.html):
        if place is not None:
            complain(f"{counted(len(hits), 'hit')} laid out in {short_path(place)}", prefix="")
