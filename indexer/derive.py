"""Bringing what is derived from the vectors up to date with them: FAISS indices, by the policy of
`segments.plan`, and the background that scores are measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import StorageError
from xsearch.core.values import KINDS, Kind
from xsearch.indexer.background import (
    Bank,
    damaged_backgrounds,
    drop_stale_backgrounds,
    keep_bank,
    open_background,
    open_bank,
    update_background,
)
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.indices import choice, segments, store
from xsearch.indexer.indices.coverage import Coverage
from xsearch.indexer.indices.recall import Queries, sample_queries
from xsearch.indexer.indices.rows import StoredRows
from xsearch.indexer.indices.sealing import codes_are_whole
from xsearch.indexer.indices.store import Place, Segment
from xsearch.indexer.reader import EncoderRow
from xsearch.indexer.tables import embeddings, items
from xsearch.indexer.vectors import current_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Vectors from which queries are drawn that measure recall.
_SAMPLE = 2_048


@dataclass(frozen=True, slots=True)
class ReferenceTexts:
    """Texts as people write them: `digest` tells which, `embed` gives float32 (m, dim)."""

    digest: str
    embed: Callable[[DualEncoder], NDArray[np.float32]]


class Reference:
    """The vectors of the reference texts by those encoders that are at hand, embedded once."""

    def __init__(
        self, encoders: Sequence[DualEncoder] = (), texts: ReferenceTexts | None = None
    ) -> None:
        self._encoders = {encoder.fingerprint: encoder for encoder in encoders}
        self._texts = texts
        self._made: dict[str, NDArray[np.float16]] = {}

    def bank(self, library: Path, fingerprint: str) -> Bank | None:
        """Their vectors: those that the library has, or new ones.

        Without the encoder, whichever the library has.
        """
        encoder, texts = self._encoders.get(fingerprint), self._texts
        known = open_bank(library, fingerprint)
        if encoder is None or texts is None or (known and known.digest == texts.digest):
            return known
        if fingerprint not in self._made:
            self._made[fingerprint] = texts.embed(encoder).astype("<f2")
        return Bank(texts.digest, self._made[fingerprint])


def update_indices(
    library: Path,
    catalog: Catalog,
    force: bool = False,
    also: EncoderRow | None = None,
    reference: Reference | None = None,
) -> list[Path]:
    """Build what is worth building and delete what is stale; returns the index files written.

    Indices are for active encoders, and for `also`, which is about to be one. `reference` gives
    the texts that backgrounds are made of, and the queries that recall is measured with where the
    library has no texts.

    Raises:
        StorageError: the disk is full; searching goes on over the rows themselves.
    """
    keep: set[Path] = set()
    backgrounds: set[Path] = set()
    written: list[Path] = []
    renewed = False
    wanted = catalog.encoders("active")
    if also is not None and also.id not in {encoder.id for encoder in wanted}:
        wanted.append(also)
    texts = reference or Reference()
    for encoder in wanted:
        try:
            for kind in KINDS:
                kept, new = _Update(library, catalog, encoder, kind, texts).run(force)
                keep |= {*kept, *new}
                written += new
            files, new_background = _background(library, catalog, encoder, texts, force)
            backgrounds |= files
            renewed |= new_background
        except IsADirectoryError as error:
            raise StorageError(
                f"{error.filename2 or error.filename}: a folder is where an index file has "
                "to be. Everything indexed is safe and can be searched; move the folder away "
                "and run `xsearch index` again."
            ) from error
        except OSError as error:
            raise StorageError(
                f"{library}: the index could not be written ({error.strerror or error}). "
                "Everything indexed is safe and can be searched; free some space and run "
                "`xsearch index` again."
            ) from error
    dropped = store.drop_stale(library, keep)
    if drop_stale_backgrounds(library, backgrounds) or dropped or written or renewed:
        # Readers look again: what they opened may be without what was made now.
        with catalog.transaction():
            pass
    return written


def _background(
    library: Path, catalog: Catalog, encoder: EncoderRow, reference: Reference, force: bool
) -> tuple[set[Path], bool]:
    """Bring an encoder's background up to date; its files, and whether it was written."""
    bank = reference.bank(library, encoder.fingerprint)
    if bank is None or bank.vectors.shape[1:] != (encoder.dim,) or not encoder.rows:
        return set(), False
    kept = keep_bank(library, encoder.fingerprint, bank)
    generation, rows, dim = encoder.generation, encoder.rows, encoder.dim
    before = open_background(library, encoder.fingerprint, generation, rows, dim)
    vectors = current_rows(vector_path(library, encoder.fingerprint, generation), rows, dim)
    path = update_background(
        library,
        (encoder.fingerprint, generation, dim),
        vectors,
        {kind: _held_count(catalog, kind) for kind in KINDS},
        lambda kind, limit: sample_rows(catalog, encoder, kind, limit),
        bank,
        None if force else before,
    )
    return {kept, path}, before is None or path != before.path


def _held_count(catalog: Catalog, kind: Kind) -> int:
    """How many live items of a kind there are."""
    query = sa.select(sa.func.count()).where(items.c.kind == kind, items.c.deleted_at.is_(None))
    with catalog.reading() as connection:
        return int(connection.scalar(query) or 0)


def sample_rows(catalog: Catalog, encoder: EncoderRow, kind: Kind, limit: int) -> NDArray[np.int64]:
    """Some rows of live items; the catalog lists items by the hash of their content."""
    query = (
        sa.select(embeddings.c.row)
        .join(items, items.c.id == embeddings.c.item_id)
        .where(embeddings.c.encoder_id == encoder.id, embeddings.c.row < encoder.rows)
        .where(items.c.kind == kind, items.c.deleted_at.is_(None))
        .order_by(items.c.content_hash)
        .limit(limit)
    )
    with catalog.reading() as connection:
        return np.fromiter(connection.scalars(query), dtype=np.int64)


class _Update:
    """The index of one encoder's vectors of one kind of item."""

    def __init__(
        self,
        library: Path,
        catalog: Catalog,
        encoder: EncoderRow,
        kind: Kind,
        reference: Reference,
    ) -> None:
        self._catalog = catalog
        self._encoder = encoder
        self._place = place_of(library, encoder, kind)
        self._reference = reference
        self._wishes = catalog.wishes()

    def run(self, force: bool) -> tuple[list[Path], list[Path]]:
        """The files that stay, and those that were written."""
        end = self._encoder.rows
        found = [] if force else self._readable(store.find_segments(self._place, end))
        new = self._new(found)
        total = _count(found) + len(new)
        if total == 0:
            return [], []
        chosen = choice.choose(total, self._encoder.dim, self._wishes)
        suitable = self._suitable(found, chosen)
        if len(suitable) < len(found):
            found = suitable
            new = self._new(found)
        files = {segment.span: segment.path for segment in found}
        exact_rows = total if chosen.structure == "flat" else 0
        plan = segments.plan(list(files), len(new), end, exact_rows)
        # What segments say of their rows spares the catalog a look at each.
        rows = np.concatenate([*(_held(segment) for segment in found), new])
        written = []
        if plan.build is not None:
            first, end = plan.build
            written.append(self._build(first, end, rows[rows >= first], chosen))
        if plan.tail is not None:
            first, end = plan.tail
            written.append(store.build_flat(self._place, first, end, rows[rows >= first]))
        return [files[span] for span in plan.keep], written

    def _readable(self, found: list[Segment]) -> list[Segment]:
        """Those before the first that another version of FAISS wrote and this one cannot read."""
        import faiss

        if all(segment.header.faiss == faiss.__version__ for segment in found):
            return found
        rows = StoredRows(self._vectors())
        unread = (at for at, one in enumerate(found) if not store.readable(one, rows))
        return found[: next(unread, len(found))]

    def _vectors(self) -> NDArray[np.float16]:
        encoder = self._encoder
        path = vector_path(self._place.library, encoder.fingerprint, encoder.generation)
        return current_rows(path, encoder.rows, encoder.dim)

    def _suitable(self, found: list[Segment], chosen: choice.Choice) -> list[Segment]:
        """Those before the first that is not what is wished for now."""
        suitable: list[Segment] = []
        for segment in found:
            header = segment.header
            approximate = header.structure != "flat"
            # Small parts of an inverted file have one list.
            fitting = ("rabitq", "ivf") if chosen.structure == "ivf" else (chosen.structure,)
            other = header.structure not in fitting
            if chosen.structure == "ivf" and header.structure == "rabitq":
                other = choice.lists_of("ivf", header.count) > 1
            if approximate and (other or header.wanted != self._wishes.recall):
                break
            suitable.append(segment)
        return suitable

    def _build(self, first: int, end: int, rows: NDArray[np.int64], chosen: choice.Choice) -> Path:
        vectors = self._vectors()
        lists = choice.lists_of(chosen.structure, len(rows))
        queries = self._queries(vectors)
        return store.build_approximate(
            self._place, first, end, rows, vectors, lists, queries, self._wishes.recall
        )

    def _queries(self, vectors: NDArray[np.float16]) -> Queries:
        kind = self._place.kind
        stored = StoredRows(vectors)
        other_kind: Kind = "text" if kind == "image" else "image"
        own, other = (
            stored[np.sort(sample_rows(self._catalog, self._encoder, which, _SAMPLE))]
            for which in (kind, other_kind)
        )
        texts = None
        if kind == "image":
            bank = self._reference.bank(self._place.library, self._place.fingerprint)
            texts = None if bank is None else bank.vectors.astype(np.float32)
        return sample_queries(own.astype(np.float32), other.astype(np.float32), texts)

    def _new(self, found: list[Segment]) -> NDArray[np.int64]:
        """The rows beyond those of some segments."""
        return _rows_of(self._catalog, self._encoder, self._place.kind, _end(found))


def unmet_wishes(library: Path, catalog: Catalog) -> list[str]:
    """What was asked of the indices and is not reached, in words."""
    wishes = catalog.wishes()
    unmet = []
    for encoder in catalog.encoders("active"):
        for kind in KINDS:
            found = store.find_segments(place_of(library, encoder, kind), encoder.rows)
            count = _count(found)
            chosen = choice.choose(count, encoder.dim, wishes)
            taken = choice.cost(chosen.structure, count, encoder.dim).memory
            if wishes.memory is not None and wishes.memory < taken:
                least = choice.smallest_memory(count, encoder.dim)
                unmet.append(
                    f"the memory budget of {wishes.memory / 2**20:,.1f} MiB is too small for "
                    f"the {chosen.structure} index of {count:,} {kind} vectors of {encoder.dim} "
                    f"dimensions, which takes {taken / 2**20:,.1f} MiB; the smallest takes "
                    f"{least / 2**20:,.1f} MiB"
                )
            recalls = [one.header.recall for one in found if one.header.recall is not None]
            if recalls and min(recalls) < wishes.recall:
                unmet.append(
                    f"the index of {kind}s finds {min(recalls):.1%} of the nearest, less than "
                    f"the {wishes.recall:.1%} wanted; --index-kind flat finds all, slower"
                )
    return unmet


def index_problems(library: Path, catalog: Catalog) -> list[str]:
    """What is wrong with the index files: damage, and rows that are not the catalog's."""
    problems = [f"{path.name}: damaged; built again" for path in damaged_backgrounds(library)]
    for encoder in catalog.encoders("active"):
        for kind in KINDS:
            place = place_of(library, encoder, kind)
            harmed = store.damaged(place)
            found = store.find_segments(place, encoder.rows)
            harmed += [one.path for one in found if not codes_are_whole(one.path, one.sealed)]
            if found:
                path = vector_path(library, encoder.fingerprint, encoder.generation)
                stored = StoredRows(current_rows(path, encoder.rows, encoder.dim))
                harmed += [
                    one.path
                    for one in found
                    if one.path not in harmed and not store.readable(one, stored)
                ]
            problems += [f"{path.name}: damaged; built again" for path in harmed]
            rows = _rows_of(catalog, encoder, kind)
            problems += [
                f"{segment.path.name}: out of date; built again"
                for segment in found
                if not _covers(segment, rows)
            ]
    return problems


def _covers(segment: Segment, rows: NDArray[np.int64]) -> bool:
    """Whether a segment holds those of some rows that lie in its range."""
    header = segment.header
    inside = rows[(rows >= header.first) & (rows < header.end)]
    return header.count == len(inside) and np.array_equal(_held(segment), inside)


def _held(segment: Segment) -> NDArray[np.int64]:
    """The rows that a segment says it holds."""
    header = segment.header
    return Coverage.unpack(header.first, header.end, segment.sealed.bits).rows


def place_of(library: Path, encoder: EncoderRow, kind: Kind) -> Place:
    """Whose index it is."""
    return Place(library, encoder.fingerprint, encoder.generation, kind, encoder.dim)


def _end(found: list[Segment]) -> int:
    return found[-1].header.end if found else 0


def _count(found: list[Segment]) -> int:
    return sum(segment.header.count for segment in found)


def _rows_of(
    catalog: Catalog, encoder: EncoderRow, kind: Kind, first: int = 0
) -> NDArray[np.int64]:
    # Not a join, which would begin with all items of the kind.
    own = sa.select(items.c.kind).where(items.c.id == embeddings.c.item_id).scalar_subquery()
    query = (
        sa.select(embeddings.c.row)
        .where(embeddings.c.encoder_id == encoder.id, own == kind)
        .where(embeddings.c.row >= first, embeddings.c.row < encoder.rows)
        .order_by(embeddings.c.row)
    )
    with catalog.reading() as connection:
        return np.fromiter(connection.scalars(query), dtype=np.int64)
