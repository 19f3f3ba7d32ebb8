"""Changing the encoder of a library: its items are embedded anew beside the vectors in use."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import LibraryLockedError, UsageError
from xsearch.core.reports import ProgressCallback, ReindexReport
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.derive import Reference, update_indices
from xsearch.indexer.fill import Filled, current, fill
from xsearch.indexer.liveness import missing_items
from xsearch.indexer.maintenance import drop_damaged
from xsearch.indexer.reader import EncoderRow
from xsearch.indexer.tables import items

if TYPE_CHECKING:
    from xsearch.indexer.run import IndexOptions


class Lock(Protocol):
    """The writer's lock, to be held for a moment; `wait` in seconds, below 0 for ever."""

    def __call__(self, wait: float) -> AbstractContextManager[None]:
        """Take it, and give it back at the end of the block."""


def reindex(
    folder: Path,
    encoder: DualEncoder,
    options: IndexOptions,
    lock: Lock,
    progress: ProgressCallback,
    version: str,
    *,
    switch: bool,
    keep: bool,
    partial: bool,
    wait: float,
) -> ReindexReport:
    """Embed every item with an encoder, then search with it.

    Searches use the vectors in use until all are there; then one transaction switches. What was
    committed stays whatever ends the run, and the next one goes on from there.

    Args:
        folder: the library's folder.
        encoder: the one to change to, or to add.
        options: how to read, as for indexing.
        lock: takes the writer's lock, for moments only.
        progress: called often.
        version: of this program, for the record.
        switch: make it the library's own; otherwise it is only kept beside it.
        keep: keep the encoder that was the library's own, too.
        partial: do not wait for pictures that cannot be reached.
        wait: seconds to wait for another writer at the beginning.

    Raises:
        StorageError: the disk refused a write; the library is searched as before.
    """
    started = time.perf_counter()
    with lock(wait), Catalog(folder) as catalog:
        used = catalog.encoder()
        own = used and used.fingerprint
        before = catalog.encoder(encoder.fingerprint)
        row = catalog.add_encoder(encoder.info)
        if before is not None and before.state == "retired":
            drop_damaged(folder, catalog, row)
        run = catalog.start_run("reindex", version)
    state, done, switched = "failed", Filled(), False
    try:
        while not switched:
            filled = fill(folder, encoder, options, lock, progress)
            done = _sum(done, filled)
            with lock(-1), Catalog(folder) as catalog:
                row = current(catalog, encoder)
                if _came_in(catalog, row, filled):
                    continue
                if filled.unreadable and not partial:
                    break
                texts = Reference((encoder,), options.reference)
                update_indices(folder, catalog, also=row, reference=texts)
                catalog.activate(row, switch=switch, keep=keep)
                update_indices(folder, catalog, reference=texts)
                switched = True
        state = "done"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        report = ReindexReport(
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            images=done.images,
            texts=done.texts,
            stale=done.stale,
            complete=switched,
            switched=switched and (switch or own == encoder.fingerprint),
            seconds=time.perf_counter() - started,
            unreadable=done.unreadable,
            failures=tuple(done.named),
        )
        # The record of the run is worth no wait.
        with suppress(LibraryLockedError), lock(0), Catalog(folder) as catalog:
            short = report.to_dict()
            del short["failures"]
            catalog.finish_run(run, state, short)
    return report


def retire(catalog: Catalog, fingerprint: str, name: str) -> None:
    """Take a kept encoder out of the library; its vectors go with the next compaction.

    Its indices go at once.

    Raises:
        UsageError: it is the library's own, or none of its encoders.
    """
    row = catalog.encoder(fingerprint)
    own = catalog.encoder()
    if row is None or row.state == "retired":
        raise UsageError(f"{catalog.path.parent}: it has no vectors of {name}")
    if own is not None and own.id == row.id:
        raise UsageError(
            f"{catalog.path.parent}: {name} is the encoder it is searched with. Change to another "
            "first, with: xsearch reindex --encoder OTHER"
        )
    catalog.retire(row)
    update_indices(catalog.path.parent, catalog)


def _came_in(catalog: Catalog, row: EncoderRow, filled: Filled) -> bool:
    """Whether others have indexed something since the last look."""
    with catalog.reading() as connection:
        missing = set(connection.scalars(missing_items(row.id, items.c.id)))
    return not missing <= filled.failed


def _sum(before: Filled, now: Filled) -> Filled:
    """Two passes as one: what was embedded in either, what failed in the last."""
    return Filled(
        before.images + now.images,
        before.texts + now.texts,
        now.stale,
        now.unreadable,
        now.named,
        now.failed,
    )
