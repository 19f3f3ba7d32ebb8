"""Conditions to the items that meet them: SQL for all that a database does well, arrays beyond it.

Every condition gives the pictures that meet it, as ids; what meets all is where these overlap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core import globs
from xsearch.core.errors import SourceError
from xsearch.core.paths import displayable, from_stored, to_stored
from xsearch.indexer.geography import distance_km, ranges
from xsearch.indexer.ids import distinct, overlap, union
from xsearch.indexer.sqlite import in_parts, matches_glob

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.filters import Circle, Conditions
    from xsearch.core.values import Kind
    from xsearch.indexer.reader import Snapshot

    Int64 = NDArray[np.int64]

_MAX_NS = (1 << 63) - 1
# Two 32-bit ids travel as one number.
_PAIR = 1 << 32

_LIVE = "f.missing_since IS NULL AND f.state = 'ok'"
# Texts of pictures; one in a file of its own lasts as long as that.
_CAPTIONS = (
    "FROM captions c LEFT JOIN files f ON f.id = c.file_id"
    " WHERE c.image_id IS NOT NULL AND f.missing_since IS NULL"
)
# Lines and rows of text files; a text beside a picture has no place but that.
_LINES = f"FROM captions c JOIN files f ON f.id = c.file_id WHERE c.source <> 'sidecar' AND {_LIVE}"


@dataclass(frozen=True, slots=True)
class _Where:
    """A part of a statement that is true for some rows, and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()

    def __and__(self, other: _Where) -> _Where:
        return _Where(f"{self.sql} AND {other.sql}", self.parameters + other.parameters)


def select(snapshot: Snapshot, conditions: Conditions, target: Kind) -> Int64:
    """The items of a kind that meet all conditions: their ids, ascending.

    A text does where a picture that it belongs to does; a text of a file in the place that is
    asked for (`paths`, `root`) does, too, where nothing else is asked, or else its picture meets
    that. Deleted items may be among them.

    Raises:
        SourceError: the library has nothing at `root`.
    """
    place = _place(snapshot, conditions)
    pictures = _pictures(snapshot, conditions)
    if target == "text":
        return _texts(snapshot, pictures, place)
    sets = [] if pictures is None else [pictures]
    if place is not None:
        sets.append(_pictures_in(snapshot, place))
    return overlap(sets) if sets else _all(snapshot, "image")


def _all(snapshot: Snapshot, kind: Kind) -> Int64:
    return snapshot.integers("SELECT id FROM items WHERE kind = ?", (kind,))


# Pictures


def _pictures(snapshot: Snapshot, asked: Conditions) -> Int64 | None:
    """The pictures that meet what is asked of them wherever they lie; None for all of them."""
    sets: list[Int64] = []
    described = list(_described(snapshot, asked))
    if described:
        where = reduce(_Where.__and__, described)
        sets.append(
            snapshot.integers(
                f"SELECT m.item_id AS id FROM images m WHERE {where.sql}", where.parameters
            )
        )
    if asked.near is not None:
        sets.append(_near(snapshot, asked.near))
    if asked.after is not None or asked.before is not None:
        sets.append(_dated(snapshot, asked.after, asked.before))
    for tag in asked.tags:
        sets.append(snapshot.integers("SELECT item_id AS id FROM tags WHERE name = ?", (tag,)))
    if asked.has_text is not None:
        captioned = snapshot.integers(f"SELECT c.image_id AS id {_CAPTIONS}")
        if asked.has_text:
            sets.append(captioned)
        else:
            images = _all(snapshot, "image")
            sets.append(images[~np.isin(images, captioned)])
    return overlap(sets) if sets else None


def _described(snapshot: Snapshot, asked: Conditions) -> Iterator[_Where]:
    """What the pictures' own rows tell."""
    if asked.camera:
        yield _named(snapshot, "camera", asked.camera)
    if asked.lens:
        yield _named(snapshot, "lens", asked.lens)
    if asked.formats:
        yield _one_of("m.format", asked.formats)
    if asked.sides is not None:
        longer, shorter = asked.sides
        yield _Where(
            "(m.width >= ? AND m.height >= ? OR m.width >= ? AND m.height >= ?)",
            (longer, shorter, shorter, longer),
        )
    if asked.pixels is not None:
        # Factors of 32 bits may have a product of more.
        yield _Where("CAST(m.width AS BIGINT) * m.height >= ?", (asked.pixels,))
    if asked.orientation is not None:
        sign = {"landscape": ">", "portrait": "<", "square": "="}[asked.orientation]
        yield _Where(f"m.width {sign} m.height")


def _named(snapshot: Snapshot, column: str, words: Sequence[str]) -> _Where:
    """Names that hold all words; there are few, and databases disagree about capitals."""
    found = snapshot.all(f"SELECT DISTINCT {column} FROM images WHERE {column} IS NOT NULL")
    return _one_of(
        f"m.{column}",
        [name for (name,) in found if all(word in name.casefold() for word in words)],
    )


def _one_of(column: str, values: Sequence[Any]) -> _Where:
    if not values:
        return _Where("1 = 0")
    return _Where(f"{column} IN ({','.join('?' * len(values))})", tuple(values))


def _dated(snapshot: Snapshot, after: datetime | None, before: datetime | None) -> Int64:
    """Pictures by the time they were taken or else by their oldest file's, in local time."""
    taken = _between("m.taken_at", after and _stored_time(after), before and _stored_time(before))
    written = _between(
        "min(f.mtime_ns)", after and _nanoseconds(after), before and _nanoseconds(before)
    )
    return union(
        (
            snapshot.integers(
                f"SELECT m.item_id AS id FROM images m WHERE {taken.sql}", taken.parameters
            ),
            snapshot.integers(
                "SELECT m.item_id AS id FROM images m JOIN files f ON f.item_id = m.item_id"
                f" WHERE m.taken_at IS NULL AND {_LIVE} GROUP BY m.item_id HAVING {written.sql}",
                written.parameters,
            ),
        )
    )


def _between(column: str, first: Any, end: Any) -> _Where:
    sides = [(f"{column} >= ?", first), (f"{column} < ?", end)]
    return reduce(
        _Where.__and__, [_Where(sql, (value,)) for sql, value in sides if value is not None]
    )


def _stored_time(moment: datetime) -> str:
    return moment.isoformat(" ", "microseconds")


def _nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970 of a local time."""
    try:
        seconds = moment.timestamp()
    except (OSError, OverflowError, ValueError):
        # Before 1970 on Windows, and at the ends of time.
        seconds = moment.replace(tzinfo=UTC).timestamp()
    return max(-_MAX_NS, min(_MAX_NS, round(seconds * 1_000_000) * 1000))


def _near(snapshot: Snapshot, circle: Circle) -> Int64:
    """Pictures in a circle: first those in its ranges of degrees, then by their distance."""
    latitudes, longitudes = ranges(circle)
    east_west = " OR ".join(["m.longitude >= ? AND m.longitude <= ?"] * len(longitudes))
    found = snapshot.all(
        "SELECT m.item_id, m.latitude, m.longitude FROM images m"
        f" WHERE m.latitude >= ? AND m.latitude <= ? AND ({east_west})",
        (*latitudes, *chain.from_iterable(longitudes)),
    )
    rows = np.fromiter(chain.from_iterable(found), np.float64).reshape(-1, 3)
    near = distance_km(circle.latitude, circle.longitude, rows[:, 1], rows[:, 2]) <= circle.radius
    return distinct(rows[near, 0].astype(np.int64))


# Places in folders


def _place(snapshot: Snapshot, asked: Conditions) -> list[_Where] | None:
    """What is true for files in the place asked for, each by one part; None for all files."""
    if asked.root is None and not asked.paths:
        return None
    parts = [_Where("1 = 1")] if asked.root is None else list(_at(snapshot, asked.root))
    if asked.paths:
        matching = list(_matching(snapshot, asked.paths))
        parts = [place & pattern for place in parts for pattern in matching]
    return parts


def _at(snapshot: Snapshot, target: Path) -> Iterator[_Where]:
    """Files at or below a path."""
    whole: list[int] = []
    inside: list[_Where] = []
    for id_, stored, name in snapshot.all("SELECT id, path, name FROM roots"):
        root = Path(from_stored(stored))
        if (root / from_stored(name)).is_relative_to(target):
            whole.append(id_)
        elif not name and target.is_relative_to(root):
            path = to_stored(target.relative_to(root).as_posix())
            folder, _, file = path.rpartition("/")
            below = f"{path}/"
            inside.append(
                _Where(
                    "f.root_id = ? AND (f.folder = ? OR substr(f.folder, 1, ?) = ?"
                    " OR f.folder = ? AND f.name = ?)",
                    (id_, path, len(below), below, folder, file),
                )
            )
    parts = [_one_of("f.root_id", part) for part in in_parts(whole)] + inside
    found = "SELECT 1 FROM files f WHERE"
    if not any(snapshot.one(f"{found} {at.sql} LIMIT 1", at.parameters) for at in parts):
        raise SourceError(
            f"root: {displayable(target)}: the library has nothing there. Index it first, or see "
            "its roots with `xsearch status`."
        )
    yield from parts


def _matching(snapshot: Snapshot, patterns: Sequence[str]) -> Iterator[_Where]:
    """Files whose name or path one of some patterns matches: the folders here, names in SQL."""
    parsed = [globs.parse(pattern) for pattern in patterns]
    if any(pattern.folder for pattern in parsed):
        folders: dict[int, list[str]] = {}
        for root, folder in snapshot.all("SELECT DISTINCT root_id, folder FROM files"):
            folders.setdefault(root, []).append(folder)
        bases = {
            root: _slashed(path.replace(os.sep, "/").strip("/"))
            for root, path in snapshot.all("SELECT id, path FROM roots")
        }
    for pattern in parsed:
        name = _Where(matches_glob("f.name"), (pattern.name,))
        if pattern.folder is None:
            yield name
            continue
        for root, known in folders.items():
            base = bases[root] if pattern.whole else ""
            found = [
                folder for folder in known if pattern.folder.fullmatch(base + _slashed(folder))
            ]
            if len(found) == len(known):
                yield _Where("f.root_id = ?", (root,)) & name
                continue
            for part in in_parts(found):
                yield _Where("f.root_id = ?", (root,)) & _one_of("f.folder", part) & name


def _slashed(path: str) -> str:
    return f"{path}/" if path else ""


def _pictures_in(snapshot: Snapshot, place: list[_Where]) -> Int64:
    return union(
        snapshot.integers(
            f"SELECT f.item_id AS id FROM files f WHERE f.item_id IS NOT NULL AND {_LIVE}"
            f" AND {part.sql}",
            part.parameters,
        )
        for part in place
    )


# Texts


def _texts(snapshot: Snapshot, pictures: Int64 | None, place: list[_Where] | None) -> Int64:
    """The texts of pictures, and those that stand in the place themselves."""
    if place is None:
        return _all(snapshot, "text") if pictures is None else _of(snapshot, pictures)
    placed = _pictures_in(snapshot, place)
    if pictures is not None:
        own = [_of(snapshot, pictures, part) for part in place]
        return union([_of(snapshot, overlap([pictures, placed])), *own])
    own = [
        snapshot.integers(f"SELECT c.item_id AS id {_LINES} AND {part.sql}", part.parameters)
        for part in place
    ]
    return union([_of(snapshot, placed), *own])


def _of(snapshot: Snapshot, pictures: Int64, place: _Where | None = None) -> Int64:
    """The texts of some pictures; with a place, those alone that stand in a file there."""
    among = _CAPTIONS if place is None else f"{_LINES} AND c.image_id IS NOT NULL AND {place.sql}"
    pairs = snapshot.integers(
        f"SELECT CAST(c.item_id AS BIGINT) * {_PAIR} + c.image_id AS id {among}",
        () if place is None else place.parameters,
    )
    # Of every kind: asked for pictures alone, SQLite would look at all of them.
    gone = snapshot.integers("SELECT id FROM items WHERE deleted_at IS NOT NULL")
    images = pairs % _PAIR
    return distinct(pairs[np.isin(images, pictures) & ~np.isin(images, gone)] // _PAIR)
