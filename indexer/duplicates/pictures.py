"""What the catalog knows of a library's pictures, best first, and of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import SourceError
from xsearch.core.paths import absolute, displayable, from_stored, to_stored
from xsearch.indexer.found import FoundFile, found_file
from xsearch.indexer.sqlite import in_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.reader import Snapshot

    Int64 = NDArray[np.int64]

_PIECE = 50_000
_EPOCH = datetime(1970, 1, 1)
_LOSSLESS = {"PNG", "TIFF", "BMP", "PPM", "PSD", "TGA", "GIF", "DIB", "SGI", "PCX"}
_HERE = "f.missing_since IS NULL AND f.state = 'ok'"


@dataclass(frozen=True, slots=True)
class Place:
    """Which files are meant: a condition on the table of files, called `f`, and its parameters."""

    sql: str = _HERE
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures by number, the best first: arrays (n,).

    `rows` are those of their vectors, -1 where there is none; `hashes` are 0 where they say
    nothing. `files` is how many files have the content. `ranks` (n, 5) are the marks by which one
    is better, the lower the better: pixels, when taken, when written, lossless, bytes a pixel.
    """

    ids: Int64
    rows: Int64
    hashes: Int64
    files: Int64
    ranks: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Details:
    """What a picture's entry in the catalog says."""

    width: int
    height: int
    format: str
    taken_at: datetime | None


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A file as it was when it was indexed; `size` is in bytes."""

    found: FoundFile
    size: int
    mtime_ns: int


def at(snapshot: Snapshot, paths: Sequence[Path] | None) -> Place:
    """The files at or below some paths; all where there are none.

    Raises:
        SourceError: the library has no picture at or below a path.
    """
    if not paths:
        return Place()
    conditions: list[str] = []
    parameters: list[Any] = []
    for path in map(absolute, paths):
        here: list[tuple[str, tuple[Any, ...]]] = []
        for id_, stored, name in snapshot.all("SELECT id, path, name FROM roots"):
            root = Path(from_stored(stored))
            if (root / from_stored(name)).is_relative_to(path):
                here.append(("f.root_id = ?", (id_,)))
            elif path.is_relative_to(root):
                here.append(_below(id_, to_stored(path.relative_to(root).as_posix())))
        if not any(snapshot.all(_any_image(sql), values) for sql, values in here):
            raise SourceError(
                f"{displayable(path)}: the library has no picture there. Index it first, or see "
                "its roots with `xsearch status`."
            )
        for sql, values in here:
            conditions.append(sql)
            parameters.extend(values)
    return Place(f"{_HERE} AND ({' OR '.join(conditions)})", tuple(parameters))


def _below(root: int, relative: str) -> tuple[str, tuple[Any, ...]]:
    folder, _, name = relative.rpartition("/")
    sql = (
        "(f.root_id = ? AND (f.folder = ? OR substr(f.folder, 1, ?) = ?"
        " OR (f.folder = ? AND f.name = ?)))"
    )
    return sql, (root, relative, len(relative) + 1, relative + "/", folder, name)


def _any_image(condition: str) -> str:
    return f"SELECT 1 FROM files f WHERE f.role = 'image' AND {_HERE} AND {condition} LIMIT 1"


def read_pictures(snapshot: Snapshot, encoder: int, place: Place) -> Pictures:
    """The pictures that have files there, best first."""
    pieces: list[NDArray[np.float64]] = []
    integers: list[Int64] = []
    last = 0
    while found := snapshot.all(
        "SELECT i.id, coalesce(e.row, -1), coalesce(m.perceptual_hash, 0), count(*),"
        " coalesce(m.width * m.height, 0), m.format, m.taken_at, min(f.size), min(f.mtime_ns)"
        f" FROM items i JOIN files f ON f.item_id = i.id AND {place.sql}"
        " LEFT JOIN images m ON m.item_id = i.id"
        " LEFT JOIN embeddings e ON e.item_id = i.id AND e.encoder_id = ?"
        " WHERE i.kind = 'image' AND i.deleted_at IS NULL AND i.id > ?"
        f" GROUP BY i.id ORDER BY i.id LIMIT {_PIECE}",
        (*place.parameters, encoder, last),
    ):
        last = found[-1][0]
        integers.append(np.array([row[:4] for row in found], np.int64))
        pieces.append(np.array([_ranks(*row[4:]) for row in found]))
    if not integers:
        nothing = np.empty(0, np.int64)
        return Pictures(nothing, nothing, nothing, nothing, np.empty((0, 5)))
    numbers, ranks = np.concatenate(integers), np.concatenate(pieces)
    # Ids are those of the order in which pictures came: the last to decide.
    order = np.lexsort((numbers[:, 0], *ranks.T[::-1]))
    ids, rows, hashes, files = np.ascontiguousarray(numbers[order].T)
    return Pictures(ids, rows, hashes, files, ranks[order])


def _ranks(
    pixels: int, form: str | None, taken: str | None, size: int, mtime_ns: int
) -> tuple[float, ...]:
    when = _moment(taken)
    lossless = form in _LOSSLESS
    return (
        -pixels,
        (when - _EPOCH).total_seconds() if when else np.inf,
        mtime_ns / 1e9,
        not lossless,
        0 if lossless else -size / max(pixels, 1),
    )


def _moment(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)


def read_details(snapshot: Snapshot, ids: Sequence[int]) -> dict[int, Details]:
    """What the catalog says of some pictures."""
    details: dict[int, Details] = {}
    for part in in_parts(ids):
        marks = ",".join("?" * len(part))
        for id_, width, height, form, taken in snapshot.all(
            "SELECT item_id, width, height, format, taken_at FROM images"
            f" WHERE item_id IN ({marks})",
            part,
        ):
            details[id_] = Details(width, height, form, _moment(taken))
    return details


def read_files(
    snapshot: Snapshot, ids: Sequence[int], place: Place
) -> dict[int, list[CatalogFile]]:
    """The files there of some pictures, as they were when they were indexed."""
    files: dict[int, list[CatalogFile]] = {id_: [] for id_ in ids}
    for part in in_parts(ids):
        marks = ",".join("?" * len(part))
        for id_, size, mtime_ns, *parts in snapshot.all(
            "SELECT f.item_id, f.size, f.mtime_ns, r.path, f.folder, f.name FROM files f"
            f" JOIN roots r ON r.id = f.root_id WHERE {place.sql} AND f.item_id IN ({marks})",
            (*place.parameters, *part),
        ):
            files[id_].append(CatalogFile(found_file(*parts), size, mtime_ns))
    return files
