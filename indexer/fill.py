"""Gives items the vectors that an encoder lacks: all of them for a new one, some after damage.

Embedding happens outside of the writer's lock, which is taken for each commit alone: others
search and write meanwhile, and a crash costs a few seconds of work.
"""

from __future__ import annotations

import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import EncoderMismatchError, LibraryLockedError
from xsearch.core.images import quiet_pillow
from xsearch.core.paths import displayable
from xsearch.core.reports import FailedFile, Progress, ProgressCallback
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.disk import Reachable
from xsearch.indexer.found import FoundFile
from xsearch.indexer.liveness import missing_items
from xsearch.indexer.outcomes import Candidate, FileFailed, ImageRead
from xsearch.indexer.reader import EncoderRow, MissingItem, Reader, word
from xsearch.indexer.reading import FileReader, nothing_known, read_in_order
from xsearch.indexer.tables import embeddings, encoders, items
from xsearch.indexer.vectors import VectorWriter, checksums, to_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.run import IndexOptions

    Lock = Callable[[float], AbstractContextManager[None]]

_CHUNK = 256
_NAMED = 1_000


@dataclass(slots=True)
class Filled:
    """What was done: items embedded, and those that could not be.

    `unreadable` counts items whose pictures cannot be read now (a drive that is not mounted, a
    decoder that is not installed), of which `named` has the first; `stale` those whose file is
    gone or shows something else now, which the next `index` sorts out. `failed` holds the ids
    of both.
    """

    images: int = 0
    texts: int = 0
    stale: int = 0
    unreadable: int = 0
    named: list[FailedFile] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)

    def fail(self, item: int, path: Path, reason: str) -> None:
        """Count an item that cannot be read now."""
        self.failed.add(item)
        self.unreadable += 1
        if len(self.named) < _NAMED:
            self.named.append(FailedFile(path, reason))


def fill(
    folder: Path,
    encoder: DualEncoder,
    options: IndexOptions,
    lock: Lock,
    progress: ProgressCallback,
) -> Filled:
    """Embed every live item that has no vector of an encoder, which the catalog knows already.

    `lock` gives the writer's lock for one commit, or nothing where the caller holds it; it is
    given the seconds to wait, below 0 for ever.

    Raises:
        EncoderMismatchError: the encoder was retired meanwhile.
        StorageError: the disk refused a write; what was committed stays.
    """
    reader = Reader(folder)
    try:
        with quiet_pillow():
            return _Fill(folder, encoder, options, lock, progress, reader).run()
    finally:
        reader.close()


class _Fill:
    def __init__(
        self,
        folder: Path,
        encoder: DualEncoder,
        options: IndexOptions,
        lock: Lock,
        progress: ProgressCallback,
        reader: Reader,
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._options = options
        self._lock = lock
        self._progress = progress
        self._reader = reader
        self._files = FileReader(encoder, nothing_known, options.max_pixels, options.draft)
        self._reachable = Reachable()
        self._filled = Filled()
        self._batch: list[tuple[int, NDArray[np.uint8]]] = []
        self._vectors: list[tuple[int, NDArray[np.float32]]] = []
        self._batch_size = options.batch_for(encoder)
        self._total = self._done = 0
        self._last_commit = time.monotonic()

    def run(self) -> Filled:
        with self._reader.snapshot() as snapshot:
            self._total = snapshot.count_missing(self._encoder.fingerprint)
        if not self._total:
            return self._filled
        try:
            self._embed_all()
        except KeyboardInterrupt:
            # Who stops it should not wait for another writer.
            with suppress(LibraryLockedError):
                self._commit(wait=0)
            raise
        return self._filled

    def _embed_all(self) -> None:
        waiting: deque[tuple[MissingItem, list[FoundFile]]] = deque()
        workers = self._options.threads
        window = workers * 2 + self._batch_size
        for outcome in read_in_order(self._candidates(waiting), self._files, workers, window):
            assert isinstance(outcome, ImageRead | FileFailed)
            item, others = waiting.popleft()
            self._take(item, outcome, others)
            self._tell(1, displayable(outcome.candidate.path))
            self._commit_if_due()
        self._embed_images()
        self._commit()

    def _tell(self, count: int, path: str | None = None) -> None:
        self._done += count
        self._progress(Progress("embed", self._done, self._total, path))

    def _commit_if_due(self) -> None:
        if time.monotonic() - self._last_commit >= self._options.commit_seconds:
            self._embed_images()
            self._commit()
            self._last_commit = time.monotonic()

    def _candidates(
        self, waiting: deque[tuple[MissingItem, list[FoundFile]]]
    ) -> Iterator[Candidate]:
        """The file to read for each picture; texts are embedded on the way."""
        after = 0
        while True:
            with self._reader.snapshot() as snapshot:
                found = snapshot.missing(self._encoder.fingerprint, after, _CHUNK)
            if not found:
                return
            after = found[-1].id
            self._embed_texts([item for item in found if item.text is not None])
            for item in found:
                if item.text is not None:
                    continue
                there = [
                    file
                    for file in item.files
                    if file.root in self._reachable and _is_there(file.path)
                ]
                if there:
                    waiting.append((item, there[1:]))
                    yield _candidate(there[0])
                else:
                    self._skip(item)
                    self._tell(1)

    def _take(
        self, item: MissingItem, outcome: ImageRead | FileFailed, others: list[FoundFile]
    ) -> None:
        """Keep the picture of an item for the next batch, from whichever file still shows it."""
        failed = None
        for file in (None, *others):
            read = outcome if file is None else self._files.read(_candidate(file))
            if isinstance(read, FileFailed):
                failed = failed or _still_unreadable(item, read)
            elif read.state.digest == item.content_hash and read.pixels is not None:
                self._batch.append((item.id, read.pixels))
                if len(self._batch) >= self._batch_size:
                    self._embed_images()
                return
        self._skip(item, failed)

    def _skip(self, item: MissingItem, failed: FileFailed | None = None) -> None:
        away = [file for file in item.files if file.root not in self._reachable]
        if failed is not None:
            self._filled.fail(item.id, Path(failed.candidate.path), failed.reason)
        elif away:
            reason = f"{displayable(away[0].root)} cannot be reached now"
            self._filled.fail(item.id, away[0].path, reason)
        else:
            self._filled.failed.add(item.id)
            self._filled.stale += 1

    def _embed_texts(self, texts: list[MissingItem]) -> None:
        if not texts:
            return
        vectors = self._encoder.embed_texts([item.text or "" for item in texts]).vectors
        self._filled.texts += self._keep([item.id for item in texts], vectors)
        self._tell(len(texts))
        self._commit_if_due()

    def _embed_images(self) -> None:
        if not self._batch:
            return
        vectors = self._encoder.embed_images(np.stack([pixels for _, pixels in self._batch]))
        self._filled.images += self._keep([id_ for id_, _ in self._batch], vectors)
        self._batch = []

    def _keep(self, ids: list[int], vectors: NDArray[np.float32]) -> int:
        """Put vectors aside for the next commit; returns how many can be used."""
        lengths = np.linalg.norm(vectors, axis=1)
        usable = np.isfinite(lengths) & (lengths > 0)
        for id_, vector, good in zip(ids, vectors, usable, strict=True):
            if good:
                self._vectors.append((id_, vector))
            else:
                reason = f"{self._encoder.name} gives it a vector that is not finite or zero"
                self._filled.fail(id_, Path(f"item {id_}"), reason)
        return int(usable.sum())

    def _commit(self, wait: float = -1) -> None:
        """Append what was embedded to the vectors, then name it in the catalog."""
        vectors, self._vectors = self._vectors, []
        if not vectors:
            return
        with self._lock(wait), Catalog(self._folder) as catalog:
            row = current(catalog, self._encoder)
            wanted = _still_missing(catalog, row, [id_ for id_, _ in vectors])
            kept = [(id_, vector) for id_, vector in vectors if id_ in wanted]
            if kept:
                _append(self._folder, catalog, row, kept)


def _candidate(file: FoundFile) -> Candidate:
    return Candidate(0, str(file.path), "", file.path.name, "image", 0, 0)


def _is_there(path: Path) -> bool:
    """Whether there is a file, as far as can be told: what cannot be asked is tried."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _still_unreadable(item: MissingItem, failed: FileFailed) -> FileFailed | None:
    """A failure that says nothing of the item's content, or fails on that very content."""
    if failed.state is None:
        return failed if _is_there(Path(failed.candidate.path)) else None
    return failed if failed.state.digest == item.content_hash else None


def current(catalog: Catalog, encoder: DualEncoder) -> EncoderRow:
    """The encoder's row as it is now: compaction may have changed it.

    Raises:
        EncoderMismatchError: others have retired it.
    """
    row = catalog.encoder(encoder.fingerprint)
    if row is None or row.state == "retired":
        raise EncoderMismatchError(
            f"{catalog.path.parent}: {encoder.name} was taken out of the library meanwhile; begin "
            f"again with: xsearch reindex --encoder {word(encoder.info.source)}"
        )
    return row


def _still_missing(catalog: Catalog, row: EncoderRow, ids: list[int]) -> set[int]:
    """Of some items, those that live and have no vector: others write, too."""
    found: set[int] = set()
    with catalog.reading() as connection:
        for start in range(0, len(ids), _CHUNK):
            part = ids[start : start + _CHUNK]
            query = missing_items(row.id, items.c.id).where(items.c.id.in_(part))
            found |= set(connection.scalars(query))
    return found


def _append(
    folder: Path, catalog: Catalog, row: EncoderRow, kept: list[tuple[int, NDArray[np.float32]]]
) -> None:
    rows = to_rows(np.stack([vector for _, vector in kept]))
    path = vector_path(folder, row.fingerprint, row.generation)
    with VectorWriter(path, row.rows, row.dim) as writer:
        first = writer.append(rows)
        values = [
            {"encoder_id": row.id, "item_id": id_, "row": first + at, "crc": crc}
            for at, ((id_, _), crc) in enumerate(zip(kept, checksums(rows), strict=True))
        ]
        with catalog.transaction() as connection:
            connection.execute(sa.insert(embeddings), values)
            connection.execute(
                encoders.update().where(encoders.c.id == row.id).values(rows=writer.rows)
            )
