"""Items as searching shows them: with their texts, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.paths import from_stored, to_stored
from xsearch.indexer.sqlite import in_parts

if TYPE_CHECKING:
    from xsearch.core.values import Kind
    from xsearch.indexer.reader import Snapshot

    Places = tuple["FoundFile", ...]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of an item: its path and the root under which it lies."""

    path: Path
    root: Path


@dataclass(frozen=True, slots=True)
class FoundItem:
    """An item as searching shows it; `files` are its own, `image_files` its picture's."""

    id: int
    kind: Kind
    text: str | None
    files: Places
    image_files: Places = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What an item is: the hash of its content, and of a text the text itself."""

    kind: Kind
    content_hash: bytes
    text: str | None


def found_file(root: str, folder: str, name: str) -> FoundFile:
    """A file from its stored parts."""
    base = Path(from_stored(root))
    return FoundFile(base / from_stored(folder) / from_stored(name), base)


def items_of(snapshot: Snapshot, ids: Sequence[int]) -> dict[int, FoundItem]:
    """Some items, with their files, by id."""
    found: list[tuple[int, Kind, str | None]] = []
    for marks, part in in_marks(ids):
        found += snapshot.all(f"SELECT id, kind, text FROM items WHERE id IN ({marks})", part)
    images = image_files(snapshot, [id_ for id_, kind, _ in found if kind == "image"])
    texts = _text_places(snapshot, [id_ for id_, kind, _ in found if kind == "text"])
    items = {}
    for id_, kind, text in found:
        files, pictures = texts.get(id_, ((), ())) if kind == "text" else (images[id_], ())
        items[id_] = FoundItem(id_, kind, text, files, pictures)
    return items


def contents_of(snapshot: Snapshot, ids: Sequence[int]) -> dict[int, Content]:
    """What some items are, by id; those that there are none of are left out."""
    found: dict[int, Content] = {}
    for marks, part in in_marks(ids):
        for id_, *content in snapshot.all(
            f"SELECT id, kind, content_hash, text FROM items WHERE id IN ({marks})", part
        ):
            found[id_] = Content(*content)
    return found


def ids_at(snapshot: Snapshot, encoder: int, rows: Sequence[int]) -> dict[int, int]:
    """The ids of the items at some vector rows, by row; damaged rows may have none."""
    found: dict[int, int] = {}
    for marks, part in in_marks(rows):
        found.update(
            snapshot.all(
                f"SELECT row, item_id FROM embeddings WHERE encoder_id = ? AND row IN ({marks})",
                (encoder, *part),
            )
        )
    return found


def captioned_images(snapshot: Snapshot) -> list[tuple[Places, tuple[str, ...]]]:
    """Every picture that has texts of its own: its files, and the texts, each once."""
    texts: dict[int, dict[str, None]] = {}
    for image, text in snapshot.all(
        "SELECT c.image_id, t.text FROM captions c JOIN items t ON t.id = c.item_id"
        " JOIN items i ON i.id = c.image_id LEFT JOIN files f ON f.id = c.file_id"
        " WHERE t.deleted_at IS NULL AND i.deleted_at IS NULL AND f.missing_since IS NULL"
        " ORDER BY c.image_id, c.id"
    ):
        texts.setdefault(image, {})[text] = None
    files = image_files(snapshot, texts)
    return [(files[image], tuple(found)) for image, found in texts.items() if files[image]]


def image_files(snapshot: Snapshot, ids: Iterable[int]) -> dict[int, Places]:
    """The files that hold some pictures, in the order in which they came."""
    files: dict[int, list[FoundFile]] = {id_: [] for id_ in ids}
    for marks, part in in_marks(list(files)):
        for id_, *place in snapshot.all(
            "SELECT f.item_id, r.path, f.folder, f.name FROM files f"
            " JOIN roots r ON r.id = f.root_id WHERE f.missing_since IS NULL"
            f" AND f.state = 'ok' AND f.item_id IN ({marks}) ORDER BY f.id",
            part,
        ):
            files[id_].append(found_file(*place))
    return {id_: tuple(places) for id_, places in files.items()}


def _text_places(snapshot: Snapshot, ids: Sequence[int]) -> dict[int, tuple[Places, Places]]:
    """For each text the files that it stands in, and those of the pictures it belongs to."""
    links: list[tuple[int, int | None, FoundFile | None]] = []
    for marks, part in in_marks(ids):
        for id_, image, source, path, folder, name in snapshot.all(
            "SELECT c.item_id, c.image_id, c.source, r.path, f.folder, f.name FROM captions c"
            " LEFT JOIN files f ON f.id = c.file_id LEFT JOIN roots r ON r.id = f.root_id"
            f" WHERE f.missing_since IS NULL AND c.item_id IN ({marks}) ORDER BY c.id",
            part,
        ):
            # A sidecar is no place of its own: without its picture, the text is gone.
            own = path is not None and source != "sidecar"
            place = found_file(path, folder, name) if own else None
            links.append((id_, image, place))
    images = image_files(snapshot, dict.fromkeys(image for _, image, _ in links if image))
    places: dict[int, tuple[Places, Places]] = {}
    for id_, image, place in links:
        files, pictures = places.get(id_, ((), ()))
        places[id_] = (
            files if place is None else (*files, place),
            pictures if not image else (*pictures, *images[image]),
        )
    return places


def item_at(snapshot: Snapshot, path: Path) -> int | None:
    """The id of the picture at an absolute path; None where the library has none there."""
    for root, place in snapshot.all("SELECT id, path FROM roots"):
        base = Path(from_stored(place))
        if path.is_relative_to(base):
            folder = path.parent.relative_to(base).as_posix() if path != base else "."
            found = snapshot.one(
                "SELECT f.item_id FROM files f JOIN items i ON i.id = f.item_id"
                " WHERE f.root_id = ? AND f.folder = ? AND f.name = ? AND i.kind = 'image'"
                " AND f.missing_since IS NULL",
                (root, "" if folder == "." else to_stored(folder), to_stored(path.name)),
            )
            if found is not None:
                return int(found)
    return None


def in_marks(values: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Pieces of a long list, each with as many question marks for a statement."""
    for part in in_parts(values):
        yield ",".join("?" * len(part)), [int(value) for value in part]
