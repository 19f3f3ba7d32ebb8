"""What a `Library` tells of itself: what it holds, what failed, and which index it would have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.core.values import CaptionedImage

if TYPE_CHECKING:
    from xsearch.core.reports import FailedFile, IndexPlan, LibraryStatus
    from xsearch.indexer.reader import Reader


class _Opened(Protocol):
    """The parts of a library that are needed here."""

    path: Path

    def _open_reader(self) -> Reader: ...


class Looking:
    """The methods of `Library` that change nothing."""

    def status(self: _Opened) -> LibraryStatus:
        """What the library holds, and where."""
        from xsearch.indexer.status import status
        from xsearch.retrieval.encoders.runtime import describe_runtime

        with self._open_reader().snapshot() as snapshot:
            return status(self.path, snapshot, describe_runtime())

    def failures(self: _Opened) -> list[FailedFile]:
        """The files that could not be indexed, and why."""
        from xsearch.indexer.status import failures

        with self._open_reader().snapshot() as snapshot:
            return failures(snapshot)

    def captions(self: _Opened) -> list[CaptionedImage]:
        """The pictures that have texts: sidecars, captions inside them, rows of text files.

        Each comes with the first of its files that exists, and is left out where none does.
        """
        from xsearch.indexer.found import captioned_images

        with self._open_reader().snapshot() as snapshot:
            found = captioned_images(snapshot)
        captioned = []
        for files, texts in found:
            path = next((file.path for file in files if file.path.exists()), None)
            if path is not None:
                captioned.append(CaptionedImage(path, texts))
        return captioned

    def plan(
        self: _Opened,
        *,
        index_kind: str | None = None,
        memory_budget: int | None = None,
        recall: float | None = None,
    ) -> list[IndexPlan]:
        """Which index `index` would choose now, and at 10 and 100 times the size; changes nothing.

        The arguments are those of `index`; what is not given is as the library remembers it.

        Raises:
            UsageError: a value that cannot be meant.
        """
        from xsearch.indexer.indices.choice import revise
        from xsearch.indexer.status import plan

        with self._open_reader().snapshot() as snapshot:
            wishes = revise(snapshot.wishes(), index_kind, memory_budget, recall)
            return plan(snapshot, wishes)
