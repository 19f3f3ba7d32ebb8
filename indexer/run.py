"""One `index` run: scan, read, embed, commit every few seconds, then bring the index up to date."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import DualEncoder
from xsearch.core.images import DEFAULT_MAX_PIXELS, quiet_pillow
from xsearch.core.paths import displayable
from xsearch.core.reports import IndexReport, Progress, ProgressCallback, Rates, silent
from xsearch.indexer import roots as roots_
from xsearch.indexer import words
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.commit import Committer, Counts
from xsearch.indexer.derive import (
    Reference,
    ReferenceTexts,
    unmet_wishes,
    update_indices,
)
from xsearch.indexer.diff import Difference, compare
from xsearch.indexer.fill import fill
from xsearch.indexer.indices.choice import revise
from xsearch.indexer.links import link_captions
from xsearch.indexer.ocr import TextReader, load_reader, read_texts
from xsearch.indexer.outcomes import ImageRead, Outcome, TextsRead
from xsearch.indexer.reader import EncoderRow, Reader
from xsearch.indexer.reading import FileReader, read_in_order
from xsearch.indexer.remember import Keeper, Rememberer
from xsearch.indexer.vectors import VectorWriter, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = Callable[[ImageRead], NDArray[np.float32] | None]

_MAX_OUTCOMES = 4_096
_BATCH = 16


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How to index; None leaves what the root has, or what the machine suggests.

    Attributes:
        exclude_dirs: folders to leave out, names or glob patterns; remembered for the root.
        include_hidden: index hidden files and folders too; remembered for the root.
        workers: threads that read and decode; default: the number of cores.
        batch_size: pictures given to the encoder at once; default: what suits it.
        prune: mark files that are gone; never where a whole root is missing or empty.
        max_pixels: pictures with more are refused.
        draft: decode JPEG at a reduced scale where that still covers the encoder's input.
        commit_seconds: how much work, in seconds, a crash may cost.
        index_kind, memory_budget, recall: what is asked of the library's index, remembered; see
            `choice.revise`.
        reference: texts as people write them, which scores and recall are measured with.
        ocr: read the text in pictures that were not looked at; needs the extra `ocr`.
    """

    exclude_dirs: tuple[str, ...] | None = None
    include_hidden: bool | None = None
    workers: int | None = None
    batch_size: int | None = None
    prune: bool = True
    max_pixels: int = DEFAULT_MAX_PIXELS
    draft: bool = True
    commit_seconds: float = 3.0
    index_kind: str | None = None
    memory_budget: int | None = None
    recall: float | None = None
    reference: ReferenceTexts | None = None
    ocr: bool = False

    @property
    def threads(self) -> int:
        """How many threads read and decode."""
        return self.workers or os.cpu_count() or 1

    def batch_for(self, encoder: DualEncoder) -> int:
        """How many pictures to give to an encoder at once."""
        return self.batch_size or max(_BATCH, getattr(encoder, "image_batch", 0))


def index(
    folder: Path,
    encoder: DualEncoder,
    paths: Sequence[Path | str] | None,
    options: IndexOptions,
    progress: ProgressCallback | None,
    version: str,
    others: Sequence[DualEncoder] = (),
    vectors: Vectors | None = None,
    rememberer: Rememberer | None = None,
) -> IndexReport:
    """Index paths (None: all roots again) into the library in `folder`; the caller holds the lock.

    `others` are further encoders of the library, which get the vectors that they lack. `vectors`
    gives the vector, float32 (dim,) of unit length, that another program made of a picture with
    this encoder, or None: then it is embedded. With a `rememberer` the region cache is filled, too.
    What was committed stays whatever ends the run: an error, Ctrl-C, a crash.

    Raises:
        SourceError: a path cannot be indexed (nothing was changed).
        EncoderMismatchError: the library holds another encoder's vectors.
        StorageError: the disk is full or failed.
        MissingExtraError: text in pictures was asked for, and cannot be read (nothing was changed).
    """
    reader = load_reader() if options.ocr else None
    with Catalog(folder) as catalog, quiet_pillow():
        wishes = revise(catalog.wishes(), options.index_kind, options.memory_budget, options.recall)
        row = catalog.use_encoder(encoder.info)
        change = roots_.RuleChange(options.exclude_dirs, options.include_hidden)
        if paths is None:
            scopes = roots_.all_scopes(catalog, change)
        else:
            scopes = roots_.plan(catalog, paths, change)
        if wishes != catalog.wishes():
            catalog.wish(wishes)
        told = progress or silent
        keeper = Keeper(folder, rememberer, options, told) if rememberer else None
        run = _Run(folder, catalog, row, encoder, options, told, vectors, keeper)
        id_ = catalog.start_run("import" if vectors else "index", version)
        state = "failed"
        try:
            run.go(scopes, others)
            run.read_regions()
            if reader is not None:
                run.read_texts(reader)
            state = "done"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            if keeper is not None:
                keeper.close()
            report = run.report()
            catalog.finish_run(id_, state, _short(report))
        return report


def _held(_: float) -> AbstractContextManager[None]:
    """In place of the lock, which the caller of `index` holds."""
    return nullcontext()


def _short(report: IndexReport) -> dict[str, object]:
    row = report.to_dict()
    del row["failures"]
    return row


class _Run:
    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        row: EncoderRow,
        encoder: DualEncoder,
        options: IndexOptions,
        progress: ProgressCallback,
        vectors: Vectors | None,
        keeper: Keeper | None,
    ) -> None:
        self._folder = folder
        self._catalog = catalog
        self._row = row
        self._encoder = encoder
        self._options = options
        self._progress = progress
        self._vectors = vectors
        self._keeper = keeper
        self._counts = Counts()
        self._warnings: list[str] = []
        self._started = time.perf_counter()
        self._workers = options.threads
        self._batch_size = options.batch_for(encoder)
        self._clock = _Clock()
        self._outcomes: list[Outcome] = []
        self._batch: list[ImageRead] = []
        self._pending: set[bytes] = set()
        self._committer: Committer | None = None
        self._known: Callable[[bytes], bool] = lambda _: False

    def go(self, scopes: list[roots_.Scope], others: Sequence[DualEncoder]) -> None:
        words.complete(self._catalog, self._progress)
        listed = _Tally(lambda count: self._progress(Progress("scan", count)))
        difference = compare(self._catalog, scopes, self._folder, listed.add)
        self._counts = difference.counts
        self._warnings = difference.warnings
        with difference.spool:
            if len(difference.spool):
                self._read(difference)
        if self._options.prune:
            moved = self._committer.moved_rows if self._committer else set()
            gone, texts = self._catalog.mark_gone(
                [row for row in difference.gone if row not in moved]
            )
            self._counts.removed += gone
            self._counts.texts_removed += texts
        link_captions(self._catalog)
        self._catalog.mark_scanned({scope.root.id for scope in scopes})
        for encoder in (self._encoder, *others):
            self._fill(encoder)
        self._progress(Progress("index", 0))
        reference = Reference((self._encoder, *others), self._options.reference)
        update_indices(self._folder, self._catalog, reference=reference)
        self._warnings += unmet_wishes(self._folder, self._catalog)

    def read_regions(self) -> None:
        """Put the pictures that lack a record into the region cache."""
        if self._keeper is None:
            return
        self._keeper.fill()
        if self._keeper.failure is not None:
            self._warnings.append(f"the region cache is not kept up: {self._keeper.failure}")
        elif self._keeper.unread:
            self._warnings.append(
                f"{self._keeper.unread:,} pictures cannot be opened now for the region cache; the "
                "next `xsearch index` tries again"
            )

    def read_texts(self, reader: TextReader) -> None:
        """Read the text in pictures that were not looked at; last, since it takes long."""
        self._counts.ocr, failed = read_texts(self._catalog, reader, self._options, self._progress)
        if failed:
            self._warnings.append(
                f"{failed:,} pictures cannot be opened now to read their text; the next `xsearch "
                "index --ocr` tries again"
            )

    def _fill(self, encoder: DualEncoder) -> None:
        """Embed what has no vector: for another encoder what is new, for any what was damaged."""
        filled = fill(self._folder, encoder, self._options, _held, self._progress)
        self._counts.embedded += filled.images + filled.texts
        if filled.failed:
            self._warnings.append(
                f"{len(filled.failed):,} items have no vector of {encoder.name}, and their "
                "pictures cannot be read now"
            )

    def _read(self, difference: Difference) -> None:
        path = vector_path(self._folder, self._row.fingerprint, self._row.generation)
        reader = Reader(self._folder)
        try:
            with VectorWriter(path, self._row.rows, self._row.dim) as vectors:
                self._committer = Committer(self._catalog, self._row, vectors, self._embed_texts)
                try:
                    self._read_all(difference, reader)
                except KeyboardInterrupt:
                    self._commit_rest()
                    raise
        finally:
            reader.close()

    def _read_all(self, difference: Difference, reader: Reader) -> None:
        def known(digest: bytes) -> bool:
            with reader.snapshot() as snapshot:
                return snapshot.has_image(self._row.id, digest)

        self._known = known
        files = FileReader(self._encoder, known, self._options.max_pixels, self._options.draft)
        window = self._workers * 2 + self._batch_size
        total, done = len(difference.spool), 0
        last_commit = time.monotonic()
        for outcome in read_in_order(iter(difference.spool), files, self._workers, window):
            self._take(outcome)
            done += not (isinstance(outcome, TextsRead) and outcome.state is None)
            self._progress(Progress("embed", done, total, displayable(outcome.candidate.path)))
            due = time.monotonic() - last_commit >= self._options.commit_seconds
            if due or len(self._outcomes) >= _MAX_OUTCOMES:
                self._commit_rest()
                last_commit = time.monotonic()
        self._commit_rest()

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, ImageRead):
            self._queue(outcome)
        # Last, so that Ctrl-C at any moment leaves nothing here that has yet to be queued.
        self._outcomes.append(outcome)

    def _queue(self, read: ImageRead) -> None:
        """Put a picture into the encoder's batch, unless its content has a vector already."""
        self._clock.decode(read)
        if read.pixels is None:
            return
        if read.state.digest in self._pending or self._known(read.state.digest):
            # The same content twice: in this batch, or committed while this one was read.
            read.pixels = None
            return
        self._pending.add(read.state.digest)
        read.vector = self._vectors(read) if self._vectors else None
        if read.vector is not None:
            read.imported, read.pixels = True, None
            return
        self._batch.append(read)
        if len(self._batch) >= self._batch_size:
            self._embed_batch()

    def _embed_batch(self) -> None:
        if not self._batch:
            return
        start = time.perf_counter()
        pixels = np.stack([read.pixels for read in self._batch if read.pixels is not None])
        if self._keeper is None:
            vectors = self._encoder.embed_images(pixels)
        else:
            digests = [read.state.digest for read in self._batch]
            vectors = self._keeper.embed(digests, pixels)
        for read, vector in zip(self._batch, vectors, strict=True):
            read.vector = vector
        batch, self._batch = self._batch, []
        for read in batch:
            read.pixels = None
        self._clock.encoded(len(batch), time.perf_counter() - start)

    def _embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        start = time.perf_counter()
        vectors = self._encoder.embed_texts(texts).vectors
        self._clock.encoded(len(texts), time.perf_counter() - start)
        return vectors

    def _commit_rest(self) -> None:
        """Embed and commit everything read so far."""
        assert self._committer is not None
        self._embed_batch()
        outcomes, self._outcomes = self._outcomes, []
        self._pending.clear()
        start, encoding = time.perf_counter(), self._clock.encode_seconds
        self._committer.commit(outcomes, self._counts)
        if self._keeper is not None:
            self._keeper.commit()
        spent = time.perf_counter() - start - (self._clock.encode_seconds - encoding)
        self._clock.written(len(outcomes), spent)

    def report(self) -> IndexReport:
        counts = self._counts
        return IndexReport(
            added=counts.added,
            updated=counts.updated,
            moved=counts.moved,
            removed=counts.removed,
            unchanged=counts.unchanged,
            failed=len(counts.failures),
            texts=counts.texts,
            texts_removed=counts.texts_removed,
            skipped=counts.skipped,
            decoded=counts.decoded,
            embedded=counts.embedded,
            imported=counts.imported,
            ocr=counts.ocr,
            regions=self._keeper.count if self._keeper else 0,
            seconds=time.perf_counter() - self._started,
            rates=self._clock.rates(self._workers),
            failures=tuple(counts.failures),
            warnings=tuple(self._warnings),
        )


class _Tally:
    """Adds up increments and tells the sum."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._sum = 0

    def add(self, count: int) -> None:
        self._sum += count
        self._tell(self._sum)


class _Clock:
    """Time spent in each stage, and what went through it."""

    def __init__(self) -> None:
        self._decoded = self._encoded = self._written = 0
        self._decode_seconds = self._write_seconds = 0.0
        self.encode_seconds = 0.0

    def decode(self, read: ImageRead) -> None:
        if read.pixels is not None:
            self._decoded += 1
            self._decode_seconds += read.seconds

    def encoded(self, count: int, seconds: float) -> None:
        self._encoded += count
        self.encode_seconds += seconds

    def written(self, count: int, seconds: float) -> None:
        self._written += count
        self._write_seconds += seconds

    def rates(self, workers: int) -> Rates:
        return Rates(
            decode=_rate(self._decoded * workers, self._decode_seconds),
            encode=_rate(self._encoded, self.encode_seconds),
            write=_rate(self._written, self._write_seconds),
        )


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if count and seconds > 0 else None
