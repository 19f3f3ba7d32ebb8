"""What a `Library` does with labels and tags: kept apart from it, since it is a matter of its own.

Pictures are compared with labels by their stored vectors: no file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.arguments import as_paths
from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder
    from xsearch.core.reports import ProgressCallback, TagReport
    from xsearch.core.values import Classified, TagCount, Tagged
    from xsearch.indexer.reader import Reader

    PathLike = str | os.PathLike[str]

DEFAULT_WAIT = 10.0
MIN_SCORE = 0.5


class _Opened(Protocol):
    """The parts of a library that are needed here."""

    path: Path

    @property
    def encoder(self) -> DualEncoder: ...

    def _open_reader(self) -> Reader: ...

    def _writing(self, command: str, wait: float) -> AbstractContextManager[None]: ...


class Tagging:
    """The methods of `Library` for labels and tags."""

    def classify(
        self: _Opened,
        labels: str | Iterable[str],
        *,
        templates: Sequence[str] | None = None,
        language: str | None = None,
        multi: bool = False,
        top: int | None = None,
    ) -> Iterator[Classified]:
        """Say which of some labels fit the library's pictures; nothing is stored.

        The arguments are those of `xsearch.classify`. Each picture comes with its `id` and the
        first of its files that the library knows.

        Raises:
            UsageError: no labels, an empty one, or templates that cannot be used.
            EncoderError, LibraryError.
        """
        from xsearch.labels import classify_items, prepare

        _check(top)
        ready = prepare(self.encoder, labels, templates, language)
        return classify_items(self._open_reader(), self.encoder, ready, multi, top)

    def tag(
        self: _Opened,
        labels: str | Iterable[str],
        *,
        min_score: float = MIN_SCORE,
        top: int | None = None,
        templates: Sequence[str] | None = None,
        language: str | None = None,
        dry_run: bool = False,
        wait: float = DEFAULT_WAIT,
        progress: ProgressCallback | None = None,
    ) -> TagReport:
        """Give pictures those labels that fit them, each with its probability.

        What an earlier run said of the same labels is replaced, in one transaction; tags given
        by hand, and those of other labels, stay. Pictures indexed later get their tags when it is
        called again.

        Args:
            labels: words or sentences, in any language that the encoder reads.
            min_score: the least probability, 0 to 1. Each label stands by itself.
            top: at most so many labels a picture, the most probable ones.
            templates: sentences that labels are put into, `{}` being the label.
            language: whose sentences to use instead, see `xsearch.classify`.
            dry_run: count only, store nothing.
            wait: seconds to wait for another writer.
            progress: called often, from the calling thread, with a `Progress`.

        Raises:
            UsageError: no labels, an empty one, or templates that cannot be used.
            LibraryLockedError, LibraryReadOnlyError, StorageError, EncoderError, LibraryError.
        """
        from xsearch.labels import prepare, tag

        _check(top)
        if not 0 <= min_score <= 1:
            raise UsageError(f"the least probability is from 0 to 1, not {min_score}")
        encoder = self.encoder
        ready = prepare(encoder, labels, templates, language)
        with nullcontext() if dry_run else self._writing("xsearch tag", wait):
            return tag(
                self.path,
                self._open_reader(),
                encoder,
                ready,
                min_score=min_score,
                top=top,
                dry_run=dry_run,
                progress=progress,
            )

    def tags(self: _Opened) -> list[TagCount]:
        """All tags, by name, and how many pictures have each."""
        from xsearch.indexer.tags import count_tags

        with self._open_reader().snapshot() as snapshot:
            return count_tags(snapshot)

    def tagged(self: _Opened, name: str) -> list[Tagged]:
        """The pictures with a tag: those that have it by hand, then the most probable ones."""
        from xsearch.indexer.tags import tagged

        with self._open_reader().snapshot() as snapshot:
            return tagged(snapshot, name)

    def add_tag(
        self: _Opened,
        name: str,
        paths: PathLike | Iterable[PathLike],
        *,
        wait: float = DEFAULT_WAIT,
    ) -> int:
        """Tag pictures by hand, single ones or all of folders; returns how many.

        No run takes such a tag away, only `remove_tag` does. The files stay untouched.

        Raises:
            UsageError: an empty name.
            SourceError: the library has no picture there; nothing was changed.
            LibraryLockedError, LibraryReadOnlyError, StorageError.
        """
        from xsearch.indexer.catalog import Catalog
        from xsearch.indexer.tags import add_tag
        from xsearch.retrieval.zero_shot import clean

        (word,) = clean(name)
        with self._writing("xsearch tag", wait), Catalog(self.path) as catalog:
            return add_tag(catalog, word, as_paths(paths))

    def remove_tag(
        self: _Opened,
        name: str,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        wait: float = DEFAULT_WAIT,
    ) -> int:
        """Take a tag away, however it was given; returns from how many pictures.

        Args:
            name: the tag, as `tags` spells it.
            paths: pictures and folders; by default all pictures that have it.
            wait: seconds to wait for another writer.

        Raises:
            SourceError: the library has no picture there; nothing was changed.
            LibraryLockedError, LibraryReadOnlyError, StorageError.
        """
        from xsearch.indexer.catalog import Catalog
        from xsearch.indexer.tags import remove_tag

        with self._writing("xsearch tag", wait), Catalog(self.path) as catalog:
            return remove_tag(catalog, name, None if paths is None else as_paths(paths))


def _check(top: int | None) -> None:
    if top is not None and top < 1:
        raise UsageError("top must be at least 1")
