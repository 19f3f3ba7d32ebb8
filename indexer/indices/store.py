"""The index files of a library: their names, opening and building them.

A file is one segment: `<fingerprint>.<generation>.<kind>.<first>-<end>.<structure>.faiss`. One that
is absent, stale, damaged or another's is never an error: its rows are searched exactly.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.core.values import Kind
from xsearch.indexer.disk import delete_others
from xsearch.indexer.indices.coverage import Coverage
from xsearch.indexer.indices.flat import FlatIndex
from xsearch.indexer.indices.interface import Effort, Structure, VectorIndex
from xsearch.indexer.indices.rows import StoredRows
from xsearch.indexer.indices.sealing import Header, Sealed, read_sealed, write_sealed
from xsearch.indexer.indices.segments import Span, chain
from xsearch.indexer.vectors import sample_checksum, vector_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.indexer.indices.gpu import Cards
    from xsearch.indexer.indices.recall import Queries, Tunable

FOLDER = "indices"
_NAME = re.compile(
    r"(?P<fingerprint>.+)\.(?P<generation>\d+)\.(?P<kind>image|text)"
    r"\.(?P<first>\d+)-(?P<end>\d+)\.(?P<structure>[a-z]+)\.faiss"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Whose index it is: one encoder's vectors of one generation, of one kind of item."""

    library: Path
    fingerprint: str
    generation: int
    kind: Kind
    dim: int

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.library / FOLDER


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of an index whose seal is whole."""

    path: Path
    sealed: Sealed

    @property
    def header(self) -> Header:
        """What it says of itself."""
        return self.sealed.header

    @property
    def span(self) -> Span:
        """The segment as the policy sees it."""
        header = self.header
        return Span(header.first, header.end, header.count, header.structure == "flat")


def find_segments(place: Place, rows: int) -> list[Segment]:
    """The segments to search of the first `rows` rows, one after the other from row 0 on."""
    found = [
        Segment(path, sealed)
        for path in _files(place)
        if (sealed := _usable(path, place)) and sealed.header.end <= rows
    ]
    return [found[at] for at in chain([segment.span for segment in found])]


def damaged(place: Place) -> list[Path]:
    """Files that have the name of a segment and cannot be used as one."""
    return [path for path in _files(place) if not _usable(path, place)]


def open_segments(
    place: Place, rows: int, vectors: NDArray[np.float16], cards: Cards | None = None
) -> tuple[list[VectorIndex], int]:
    """The index of the first `rows` rows, and the first row that it does not cover.

    Where `cards` are given, they answer in time.
    """
    stored = StoredRows(vectors)
    opened: list[VectorIndex] = []
    end = 0
    for segment in find_segments(place, rows):
        try:
            opened.append(open_segment(segment, stored, cards))
        except (OSError, RuntimeError):
            break  # Just deleted by a writer: search its rows, and those after it, themselves.
        end = segment.header.end
    return opened, end


def open_segment(segment: Segment, rows: StoredRows, cards: Cards | None = None) -> VectorIndex:
    """One segment, to be searched; on `cards` where it is worth it.

    Raises:
        OSError, RuntimeError: it cannot be read (any more).
    """
    header = segment.header
    coverage = Coverage.unpack(header.first, header.end, segment.sealed.bits)
    index: VectorIndex
    if header.effort is None:
        index = FlatIndex(rows, coverage)
    else:
        index = _searcher(
            _load(segment.path, header), header.structure, rows, coverage, header.effort
        )
    return index if cards is None else cards.placed(segment.path, index, rows, coverage)


def readable(segment: Segment, rows: StoredRows) -> bool:
    """Whether the FAISS that runs here reads a segment: another version may have written it."""
    try:
        open_segment(segment, rows)
    except (OSError, RuntimeError):
        return False
    return True


def build_flat(place: Place, first: int, end: int, numbers: NDArray[np.int64]) -> Path:
    """Write an exact segment over some rows; returns its file.

    Raises:
        OSError: the disk refused.
    """
    coverage = Coverage.of(first, end, numbers)
    header = _header(place, "flat", coverage, len(numbers))
    return _write(place, header, coverage, None, 0)


def build_approximate(
    place: Place,
    first: int,
    end: int,
    numbers: NDArray[np.int64],
    vectors: NDArray[np.float16],
    lists: int,
    queries: Queries,
    wanted: float,
) -> Path:
    """Write a segment over some rows, tuned to the wanted recall; returns its file.

    It is an inverted file of so many lists, or a graph where `lists` is 0.

    Raises:
        OSError: the disk refused.
    """
    import faiss

    from xsearch.indexer.indices import hnsw, ivf
    from xsearch.indexer.indices.recall import tune

    coverage = Coverage.of(first, end, numbers)
    rows = StoredRows(vectors)
    structure: Structure
    if lists:
        structure = "rabitq" if lists == 1 else "ivf"
        index = ivf.build(rows, coverage, lists)
        efforts = ivf.efforts(lists, len(numbers), place.dim)
        codes = ivf.codes_size(index)
    else:
        structure = "hnsw"
        index, efforts = hnsw.build(rows, coverage), hnsw.efforts()
        codes = hnsw.codes_size(index)
    searcher = _searcher(index, structure, rows, coverage, efforts[0])
    effort, recall = tune(searcher, efforts, rows, coverage, queries, wanted)
    header = _header(place, structure, coverage, len(numbers), lists, wanted)
    header = header.measured(effort, recall, queries.words)
    return _write(place, header, coverage, faiss.serialize_index(index), codes)


def _load(path: Path, header: Header) -> Any:
    """FAISS' index of a file that is sealed, memory-mapped.

    Raises:
        RuntimeError: FAISS cannot read it, or it is not what its header says.
    """
    import faiss

    # Any: FAISS' own annotations leave out most of what its Python wrapper offers.
    index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    kind: Any = faiss.IndexHNSWSQ if header.structure == "hnsw" else faiss.IndexIVFRaBitQ
    same = isinstance(index, kind) and (index.d, index.ntotal) == (header.dim, header.count)
    if not same or getattr(index, "nlist", 0) != header.lists:
        raise RuntimeError(f"{path}: not the index that its header tells of")
    return index


def _searcher(
    index: Any, structure: Structure, rows: StoredRows, coverage: Coverage, effort: Effort
) -> Tunable:
    if structure == "hnsw":
        from xsearch.indexer.indices.hnsw import HnswIndex

        return HnswIndex(index, rows, coverage, effort)
    from xsearch.indexer.indices.ivf import IvfIndex

    return IvfIndex(index, rows, coverage, effort)


def drop_stale(library: Path, keep: set[Path]) -> list[Path]:
    """Delete index files other than `keep`."""
    return delete_others(library / FOLDER, keep)


def _header(
    place: Place,
    structure: Structure,
    coverage: Coverage,
    count: int,
    lists: int = 0,
    wanted: float = 1.0,
) -> Header:
    import faiss

    return Header(
        structure,
        place.fingerprint,
        place.generation,
        place.kind,
        place.dim,
        coverage.first,
        coverage.end,
        count,
        lists,
        wanted=wanted,
        sample=_sample(place, coverage.first, coverage.end),
        faiss=faiss.__version__,
    )


def _write(
    place: Place,
    header: Header,
    coverage: Coverage,
    data: NDArray[np.uint8] | None,
    codes_size: int,
) -> Path:
    place.folder.mkdir(exist_ok=True)
    path = place.folder / _name(header)
    write_sealed(path, header, coverage.pack(), data, codes_size)
    return path


def _name(header: Header) -> str:
    return (
        f"{header.fingerprint}.{header.generation}.{header.kind}.{header.first}-{header.end}."
        f"{header.structure}.faiss"
    )


def _files(place: Place) -> list[Path]:
    """Files that have the name of one of an index's segments, in the order of their names."""
    try:
        names = sorted(path.name for path in place.folder.iterdir())
    except OSError:
        return []
    wanted = (place.fingerprint, str(place.generation), place.kind)
    return [
        place.folder / name
        for name in names
        if (match := _NAME.fullmatch(name))
        and match.group("fingerprint", "generation", "kind") == wanted
    ]


def _usable(path: Path, place: Place) -> Sealed | None:
    """What a file holds, where it is whole and what its name says."""
    with contextlib.suppress(OSError):
        sealed = read_sealed(path)
        header = sealed.header if sealed else None
        if (
            header
            and header.dim == place.dim
            and _name(header) == path.name
            and header.sample == _sample(place, header.first, header.end)
        ):
            return sealed
    return None


def _sample(place: Place, first: int, end: int) -> int:
    """What tells whether vectors are those that a segment was made of.

    Raises:
        OSError: the vectors cannot be read.
    """
    path = vector_path(place.library, place.fingerprint, place.generation)
    return sample_checksum(path, first, end, place.dim)
