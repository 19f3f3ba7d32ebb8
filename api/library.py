"""`Library`: everything a program does with one searchable collection."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import UsageError
from xsearch.core.paths import absolute
from xsearch.core.query import Image
from xsearch.core.values import KINDS, CaptionedImage, Hit, Kind

if TYPE_CHECKING:
    from types import TracebackType

    from xsearch.core.encoder import DualEncoder
    from xsearch.core.reports import (
        CheckReport,
        CompactReport,
        FailedFile,
        IndexReport,
        LibraryStatus,
        ProgressCallback,
        RemoveReport,
    )
    from xsearch.indexer.reader import Reader
    from xsearch.retrieval.search import Searcher

    PathLike = str | os.PathLike[str]

DEFAULT_WAIT = 10.0


class Library:
    """One searchable collection; made by `xsearch.open`. Usable from threads; close it, or use
    it in a `with` block.

    Searching never waits for a writer. One writer works at a time: `index`, `remove`, `compact`
    and `check` wait for another up to `wait` seconds, then raise `LibraryLockedError`.
    """

    def __init__(self, path: Path, encoder: str | os.PathLike[str] | DualEncoder | None) -> None:
        self.path = path
        self._given = encoder
        self._loaded: DualEncoder | None = None
        self._reader: Reader | None = None
        self._searcher: Searcher | None = None
        self._lock = threading.RLock()

    # Searching

    def search(self, query: str | Image | Path, k: int = 10, target: Kind = "image") -> list[Hit]:
        """The k items nearest to a query, best first; fewer only where the library has fewer.

        Args:
            query: words, taken literally, or a picture (`xsearch.Image`, or a `Path`).
            k: how many hits.
            target: `image` or `text`: what to look for.

        Raises:
            UsageError: an empty query, a negative `k`, an unknown target.
            SourceError, ImageError: the query's picture cannot be read.
            EncoderMismatchError: the library's vectors are another encoder's.
            LibraryError: the library is damaged.
        """
        if target not in KINDS:
            raise UsageError(f"target must be one of {', '.join(KINDS)}, not {target!r}")
        if k < 0:
            raise UsageError(f"k must be 0 or more, not {k}")
        from xsearch.retrieval.query import embed

        wanted = Image(query) if isinstance(query, Path) else query
        encoder = self.encoder
        vector, kind = embed(wanted, encoder)
        logistic = encoder.calibration(kind, target)
        return self._search().search(vector, k, target, logistic) if k else []

    @property
    def encoder(self) -> DualEncoder:
        """The encoder of this library; loaded on first use.

        Raises:
            EncoderError: it cannot be loaded.
            EncoderMismatchError: it is not the one that made the library's vectors.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load_encoder()
            return self._loaded

    def _load_encoder(self) -> DualEncoder:
        from xsearch.indexer.reader import check_fingerprint

        with self._open_reader().snapshot() as snapshot:
            row = snapshot.encoder()
        given = self._given
        if given is None:
            given = "builtin" if row is None else row.source
        if isinstance(given, str | os.PathLike):
            from xsearch.retrieval.encoders import load_encoder

            encoder = load_encoder(given if isinstance(given, str) else Path(given))
        else:
            encoder = given
        if row is not None:
            check_fingerprint(row, encoder.info, self.path)
        return encoder

    # Writing

    def index(
        self,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        exclude_dirs: Iterable[str] | None = None,
        include_hidden: bool | None = None,
        workers: int | None = None,
        batch_size: int = 16,
        prune: bool = True,
        max_pixels: int | None = None,
        draft: bool = True,
        commit_seconds: float = 3.0,
        wait: float = DEFAULT_WAIT,
        progress: ProgressCallback | None = None,
    ) -> IndexReport:
        """Index folders, pictures and text files; without paths, all that was indexed before.

        Only what is new or changed is read. A crash, Ctrl-C or a full disk costs at most the
        last `commit_seconds` of work; run it again to go on.

        Args:
            paths: folders, pictures, and `.txt`, `.csv` or `.jsonl` files.
            exclude_dirs: folder names or patterns to leave out; remembered for these roots.
            include_hidden: also hidden files and folders; remembered for these roots.
            workers: threads that read and decode; default: the number of cores.
            batch_size: pictures given to the encoder at once.
            prune: take files that are gone out of the results (never where a root is missing
                or empty).
            max_pixels: refuse larger pictures; default 200 million.
            draft: decode JPEG at a reduced scale where that still covers the encoder's input.
            commit_seconds: seconds between commits.
            wait: seconds to wait for another writer.
            progress: called often, from the calling thread, with a `Progress`.

        Raises:
            SourceError: a path that cannot be indexed; nothing was changed.
            LibraryLockedError, LibraryReadOnlyError, StorageError, EncoderError.
        """
        from xsearch import __version__
        from xsearch.core.images import DEFAULT_MAX_PIXELS
        from xsearch.indexer.run import IndexOptions, index

        if batch_size < 1 or (workers is not None and workers < 1):
            raise UsageError("workers and batch size must be at least 1")
        if paths is not None:
            paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        options = IndexOptions(
            exclude_dirs=_names(exclude_dirs),
            include_hidden=include_hidden,
            workers=workers,
            batch_size=batch_size,
            prune=prune,
            max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
            draft=draft,
            commit_seconds=commit_seconds,
        )
        encoder = self.encoder
        chosen = None if paths is None else [Path(path) for path in paths]
        with self._writing("xsearch index", wait):
            return index(self.path, encoder, chosen, options, progress, __version__)

    def remove(self, path: PathLike, *, wait: float = DEFAULT_WAIT) -> RemoveReport:
        """Take a root, folder or file out of the library; the files themselves stay untouched.

        A folder inside a root is left out of later scans of that root, until it is given to
        `index` by its own path; a single file comes back with the next scan of its root.

        Raises:
            SourceError: the library holds nothing there.
        """
        from xsearch.indexer.catalog import Catalog
        from xsearch.indexer.maintenance import remove

        with self._writing("xsearch remove", wait), Catalog(self.path) as catalog:
            return remove(catalog, Path(path))

    def compact(
        self, *, wait: float = DEFAULT_WAIT, progress: ProgressCallback | None = None
    ) -> CompactReport:
        """Give back the space of what was deleted; searches go on meanwhile.

        Raises:
            StorageError: no room for a second copy of the vectors; nothing was changed.
        """
        from xsearch.indexer.catalog import Catalog
        from xsearch.indexer.maintenance import compact

        with self._writing("xsearch compact", wait), Catalog(self.path) as catalog:
            return compact(self.path, catalog, progress)

    def check(
        self, *, wait: float = DEFAULT_WAIT, progress: ProgressCallback | None = None
    ) -> CheckReport:
        """Verify catalog, vectors and index against one another; repair what is derived."""
        from xsearch.indexer.catalog import Catalog
        from xsearch.indexer.maintenance import check

        with self._writing("xsearch check", wait), Catalog(self.path) as catalog:
            return check(self.path, catalog, progress)

    # Looking

    def status(self) -> LibraryStatus:
        """What the library holds, and where."""
        from xsearch.indexer.status import status

        with self._open_reader().snapshot() as snapshot:
            return status(self.path, snapshot)

    def failures(self) -> list[FailedFile]:
        """The files that could not be indexed, and why."""
        from xsearch.indexer.status import failures

        with self._open_reader().snapshot() as snapshot:
            return failures(snapshot)

    def captions(self) -> list[CaptionedImage]:
        """The pictures that have texts: sidecars, captions inside them, rows of text files.

        Each comes with the first of its files that exists, and is left out where none does.
        """
        with self._open_reader().snapshot() as snapshot:
            found = snapshot.captioned_images()
        captioned = []
        for files, texts in found:
            path = next((file.path for file in files if file.path.exists()), None)
            if path is not None:
                captioned.append(CaptionedImage(path, texts))
        return captioned

    # Opening and closing

    def close(self) -> None:
        """Release files and connections; searching again opens them anew."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = self._searcher = None

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Library({str(self.path)!r})"

    def _open_reader(self) -> Reader:
        with self._lock:
            if self._reader is None:
                from xsearch.indexer.reader import Reader

                self._reader = Reader(self.path)
            return self._reader

    def _search(self) -> Searcher:
        with self._lock:
            if self._searcher is None:
                from xsearch.retrieval.search import Searcher

                self._searcher = Searcher(self._open_reader())
            return self._searcher

    def _writing(self, command: str, wait: float) -> AbstractContextManager[None]:
        from xsearch.indexer.lock import writer_lock

        return writer_lock(self.path, command, wait)


def _names(names: Iterable[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def open(
    path: PathLike | None = None,
    *,
    encoder: str | os.PathLike[str] | DualEncoder | None = None,
    create: bool = True,
    wait: float = DEFAULT_WAIT,
) -> Library:
    """Open the library in a folder, and create it if there is none.

    Args:
        path: the library's folder; by default the one the command line would use.
        encoder: a name, a folder or an encoder object; by default the library's own, and
            `builtin` for a new one.
        create: make a library where there is none.
        wait: seconds to wait for another process that creates or migrates it.

    Raises:
        LibraryNotFoundError: there is none and `create` is False.
        LibraryTooNewError, LibraryError: it cannot be read by this program.
        LibraryReadOnlyError: it cannot be created there.
    """
    from xsearch.locate import locate

    folder = absolute(path) if path is not None else locate()
    library = Library(folder, encoder)
    if create and not (folder / "catalog.db").exists():
        _create(folder, wait)
    library._open_reader()
    return library


def _create(folder: Path, wait: float) -> None:
    from xsearch.indexer.catalog import create
    from xsearch.indexer.disk import refused
    from xsearch.indexer.lock import writer_lock

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(folder, error) from error
    with writer_lock(folder, "xsearch, creating the library", wait):
        create(folder)
