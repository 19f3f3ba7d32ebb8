"""`Library`: everything a program does with one searchable collection."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.arguments import as_paths, check_counts, names
from xsearch.captioning import Captioning
from xsearch.choice import EncoderChoice
from xsearch.core.paths import absolute
from xsearch.duplicating import Duplicating
from xsearch.explaining import Explaining
from xsearch.looking import Looking
from xsearch.reranking import RerankerChoice
from xsearch.searching import Searching
from xsearch.tagging import DEFAULT_WAIT, Tagging

if TYPE_CHECKING:
    from types import TracebackType

    from xsearch.core.encoder import DualEncoder
    from xsearch.core.reports import (
        CheckReport,
        CompactReport,
        ExportReport,
        IndexReport,
        ProgressCallback,
        ReindexReport,
        RemoveReport,
    )
    from xsearch.indexer.export import Format as ExportFormat
    from xsearch.indexer.imports import ImportKind
    from xsearch.indexer.reader import EncoderRow, Reader, Snapshot
    from xsearch.retrieval.search import Searcher

    PathLike = str | os.PathLike[str]
    Wanted = str | os.PathLike[str] | DualEncoder


class Library(Searching, Tagging, Looking, Captioning, Explaining, Duplicating):
    """One searchable collection; made by `xsearch.open`. Usable from threads; close it, or use
    it in a `with` block.

    Searching never waits for a writer. One writer works at a time: `index`, `remove`, `compact`
    and `check` wait for another up to `wait` seconds, then raise `LibraryLockedError`.
    """

    def __init__(
        self,
        path: Path,
        encoder: Wanted | Sequence[Wanted] | None,
        device: str | None = None,
        reranker: PathLike | None = None,
    ) -> None:
        self.path = path
        self._choice = EncoderChoice(path, encoder, device)
        self._reranking = RerankerChoice(path, None if reranker is None else Path(reranker))
        self._device = device
        self._reader: Reader | None = None
        self._searcher: Searcher | None = None
        self._lock = threading.RLock()

    # Searching

    @property
    def encoder(self) -> DualEncoder:
        """The encoder of this library, the first where several were asked for; see `encoders`."""
        return self.encoders[0]

    @property
    def encoders(self) -> list[DualEncoder]:
        """The encoders that searches use: those asked for, or the library's own.

        Loaded on first use; the library's own again when it was changed by `reindex`.

        Raises:
            EncoderError: one cannot be loaded.
            EncoderMismatchError: the library has no vectors of one, or not all.
        """
        with self._lock, self._open_reader().snapshot() as snapshot:
            return self._choice.load(snapshot)

    # Writing

    def index(
        self,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        exclude_dirs: Iterable[str] | None = None,
        include_hidden: bool | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        prune: bool = True,
        max_pixels: int | None = None,
        draft: bool = True,
        commit_seconds: float = 3.0,
        index_kind: str | None = None,
        memory_budget: int | None = None,
        recall: float | None = None,
        ocr: bool = False,
        region_cache: bool | None = None,
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
            batch_size: pictures given to the encoder at once; default: what suits it.
            prune: take files that are gone out of the results (never where a root is missing
                or empty).
            max_pixels: refuse larger pictures; default 200 million.
            draft: decode JPEG at a reduced scale where that still covers the encoder's input.
            commit_seconds: seconds between commits.
            index_kind: `flat`, `rabitq`, `ivf`, `hnsw`, or `auto`: what suits; remembered.
            memory_budget: bytes that an index may take in memory (0: any); remembered.
            recall: the share of the 10 nearest that a search should find; remembered.
            ocr: also read the text in pictures, each once, to find them by it; needs the extra
                `ocr`.
            region_cache: keep beside the vectors what a reranker reads of pictures, so that
                reranking is quick; remembered. False removes it.
            wait: seconds to wait for another writer.
            progress: called often, from the calling thread, with a `Progress`.

        Raises:
            SourceError: a path that cannot be indexed; nothing was changed.
            UsageError: a value that cannot be meant; nothing was changed.
            MissingExtraError: `ocr` without its extra.
            LibraryLockedError, LibraryReadOnlyError, StorageError, EncoderError.
        """
        from xsearch import __version__
        from xsearch.core.images import DEFAULT_MAX_PIXELS
        from xsearch.indexer.run import IndexOptions, index
        from xsearch.retrieval.reference import reference_texts

        check_counts(workers, batch_size)
        options = IndexOptions(
            exclude_dirs=names(exclude_dirs),
            include_hidden=include_hidden,
            workers=workers,
            batch_size=batch_size,
            prune=prune,
            max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
            draft=draft,
            commit_seconds=commit_seconds,
            index_kind=index_kind,
            memory_budget=memory_budget,
            recall=recall,
            reference=reference_texts(),
            ocr=ocr,
        )
        chosen = None if paths is None else as_paths(paths)
        with self._writing("xsearch index", wait):
            # Under the lock: nobody changes the encoders now.
            encoder, others = self._to_index_with()
            memories, warnings = self._reranking.to_index_with(encoder, region_cache)
            run = (options, progress, __version__, others)
            report = index(self.path, encoder, chosen, *run, rememberer=memories)
            return replace(report, warnings=report.warnings + warnings)

    def reindex(
        self,
        encoder: Wanted | None = None,
        *,
        switch: bool = True,
        keep: bool = False,
        partial: bool = False,
        workers: int | None = None,
        batch_size: int | None = None,
        max_pixels: int | None = None,
        wait: float = DEFAULT_WAIT,
        progress: ProgressCallback | None = None,
    ) -> ReindexReport:
        """Change the library's encoder: embed everything with another, then search with that.

        Searching and indexing go on meanwhile with the encoder in use; the change is one
        transaction. A crash or Ctrl-C loses nothing: call it again to go on. The old vectors stay
        until `compact`.

        Args:
            encoder: a name, a folder or an encoder object; by default the library's own, as this
                version of xsearch has it.
            switch: make it the library's own; otherwise it is only kept beside it.
            keep: keep the one that was the library's own, for `encoder="A+B"` or going back.
            partial: change even where pictures cannot be read now; they are embedded by the
                next `index` that can.
            workers: threads that read and decode; default: the number of cores.
            batch_size: pictures given to the encoder at once; default: what suits it.
            wait: seconds to wait for another writer at the beginning.
            progress: called often, from the calling thread, with a `Progress`.

        Raises:
            EncoderError: the encoder cannot be loaded.
            LibraryLockedError, LibraryReadOnlyError, StorageError.
        """
        from xsearch import __version__
        from xsearch.core.images import DEFAULT_MAX_PIXELS
        from xsearch.core.reports import silent
        from xsearch.indexer.reindex import reindex
        from xsearch.indexer.run import IndexOptions
        from xsearch.retrieval.reference import reference_texts

        check_counts(workers, batch_size)
        with self._open_reader().snapshot() as snapshot:
            chosen = self._choice.load_one(snapshot, encoder)
        return reindex(
            self.path,
            chosen,
            IndexOptions(
                workers=workers,
                batch_size=batch_size,
                max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
                reference=reference_texts(),
            ),
            lambda wait: self._writing("xsearch reindex", wait),
            progress or silent,
            __version__,
            switch=switch,
            keep=keep or not switch,
            partial=partial,
            wait=wait,
        )

    def retire(self, encoder: Wanted, *, wait: float = DEFAULT_WAIT) -> None:
        """Stop keeping an encoder beside the library's own; `compact` frees its space.

        Raises:
            UsageError: it is the library's own, or none of its encoders.
        """
        from xsearch.indexer.catalog import Catalog
        from xsearch.indexer.reindex import retire

        with self._open_reader().snapshot() as snapshot:
            row = self._choice.find(snapshot, encoder, kept_first=True)
        with self._writing("xsearch reindex", wait), Catalog(self.path) as catalog:
            retire(catalog, row.fingerprint, row.name)

    def import_embeddings(
        self,
        kind: ImportKind,
        source: PathLike | None = None,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        images: PathLike | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        wait: float = DEFAULT_WAIT,
        progress: ProgressCallback | None = None,
    ) -> IndexReport:
        """Index pictures with the vectors that another program made of them.

        The library's encoder must be the model that made them: a sample of the pictures is
        embedded and compared before anything is written. A picture without a usable vector is
        embedded as always. Further arguments are those of `index`.

        Args:
            kind: `clip-retrieval` or `rclip`.
            source: the folder that clip-retrieval wrote, or rclip's database (default: where
                rclip keeps it).
            paths: what to index; default: the common folder of the pictures.
            images: the folder that clip-retrieval's pictures lie in now.

        Raises:
            SourceError: the source or a path cannot be read, or no picture can be found.
            EncoderMismatchError: another model made the vectors.
            MissingExtraError, LibraryLockedError, LibraryReadOnlyError, StorageError.
        """
        from xsearch import __version__
        from xsearch.indexer.imports import open_source
        from xsearch.indexer.imports.take import check, take_over
        from xsearch.indexer.run import IndexOptions
        from xsearch.retrieval.reference import reference_texts

        check_counts(workers, batch_size)
        options = IndexOptions(workers=workers, batch_size=batch_size, reference=reference_texts())
        with open_source(kind, source, images) as found, self._writing("xsearch import", wait):
            encoder, others = self._to_index_with()
            check(found, encoder, options, progress)
            run = (options, progress, __version__, others)
            chosen = None if paths is None else as_paths(paths)
            return take_over(self.path, encoder, found, chosen, *run)

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

    # Giving away

    def export(
        self,
        folder: PathLike,
        format: ExportFormat,
        *,
        encoder: str | os.PathLike[str] | DualEncoder | None = None,
        captions: bool = False,
        progress: ProgressCallback | None = None,
    ) -> ExportReport:
        """Write all pictures' vectors to a folder that other programs read.

        Args:
            folder: where to; one that is empty or an earlier export is replaced.
            format: `clip-retrieval` (`img_emb` and `metadata`) or `parquet` (one file).
            encoder: which of the library's encoders; default: its own.
            captions: the texts of the pictures, too.
            progress: called often with a `Progress`.

        Raises:
            UsageError: an unknown format, or an encoder that the library does not have.
            SourceError: no pictures, or the folder holds something else.
            MissingExtraError, StorageError: nothing was exported.
        """
        from xsearch.core.reports import silent
        from xsearch.indexer.export import export

        def choose(snapshot: Snapshot) -> EncoderRow | None:
            return self._choice.find(snapshot, encoder) if encoder else snapshot.encoder()

        told = progress or silent
        return export(self._open_reader(), choose, folder, format, captions, told)

    # Opening and closing

    def close(self) -> None:
        """Release files and connections; searching again opens them anew."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = self._searcher = None
            self._reranking.forget()

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

    def _to_index_with(self) -> tuple[DualEncoder, list[DualEncoder]]:
        """The library's own encoder, and the others that are kept up to date with it."""
        with self._lock, self._open_reader().snapshot() as snapshot:
            return self._choice.to_index_with(snapshot)

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

                self._searcher = Searcher(self._open_reader(), self._device != "cpu")
            return self._searcher

    def _writing(self, command: str, wait: float) -> AbstractContextManager[None]:
        from xsearch.indexer.lock import writer_lock

        return writer_lock(self.path, command, wait)


def open(
    path: PathLike | None = None,
    *,
    encoder: Wanted | Sequence[Wanted] | None = None,
    device: str | None = None,
    reranker: PathLike | None = None,
    create: bool = True,
    wait: float = DEFAULT_WAIT,
) -> Library:
    """Open the library in a folder, and create it if there is none.

    Args:
        path: the library's folder; by default the one the command line would use.
        encoder: a name, a folder or an encoder object; by default the library's own, and
            `builtin` for a new one. `A+B`, or a list, searches with several that
            the library keeps.
        device: where encoders run, see `load_encoder`: `cpu`, `cuda`, `mps` or `auto`. With
            `cpu`, FAISS uses no graphics card either.
        reranker: the folder of one for the (first) encoder, for `search(rerank=...)`,
            `explain` and the region cache; by default that in the encoder's own folder.
        create: make a library where there is none.
        wait: seconds to wait for another process that creates or migrates it.

    Raises:
        LibraryNotFoundError: there is none and `create` is False.
        LibraryTooNewError, LibraryError: it cannot be read by this program.
        LibraryReadOnlyError: it cannot be created there.
    """
    from xsearch.locate import locate

    folder = absolute(path) if path is not None else locate()
    library = Library(folder, encoder, device, reranker)
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
