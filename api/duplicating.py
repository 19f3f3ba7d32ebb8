"""What a `Library` tells of copies among its pictures. Nothing is ever deleted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from xsearch.arguments import as_paths, check_counts
from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from xsearch.core.duplicates import DuplicateReport, Strictness
    from xsearch.core.reports import ProgressCallback
    from xsearch.indexer.reader import Reader

    PathLike = str | os.PathLike[str]


class _Opened(Protocol):
    """The parts of a library that are needed here."""

    def _open_reader(self) -> Reader: ...


class Duplicating:
    """The method of `Library` that finds copies."""

    def duplicates(
        self: _Opened,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        exact: bool = False,
        strictness: Strictness = "normal",
        look: bool = True,
        workers: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> DuplicateReport:
        """Find pictures that are copies of others, and which of each group to keep.

        Near copies are found by the stored hashes and vectors, of the library's own encoder; then
        the files that can be reached are compared by what they show. Nothing is changed.

        Args:
            paths: folders and pictures to which to keep; by default the whole library.
            exact: files of equal bytes alone.
            strictness: `strict` finds copies that were resized, saved again or turned; `normal`
                also such with a tenth cut off, a border or a watermark; `loose` also photographs
                that are nearly the same.
            look: read files to make sure. Without it only such pairs count that hashes and
                vectors leave no doubt of, so that hardly any cropped ones are found, and documents
                of one form are taken for copies.
            workers: threads that read files; default: the number of cores.
            progress: called often, from the calling thread, with a `Progress`.

        Raises:
            UsageError: an unknown strictness.
            SourceError: the library has no picture at or below a path.
            LibraryError: vectors are missing; `check` says more.
        """
        from xsearch.core.duplicates import STRICTNESS
        from xsearch.core.reports import silent
        from xsearch.indexer.duplicates.find import Wanted, find_duplicates

        if strictness not in STRICTNESS:
            raise UsageError(
                f"the strictness must be one of {', '.join(STRICTNESS)}, not {strictness!r}"
            )
        check_counts(workers, None)
        chosen = None if paths is None else as_paths(paths)
        wanted = Wanted(exact, strictness, look, workers)
        return find_duplicates(self._open_reader(), chosen, wanted, progress or silent)
