"""Giving a library's vectors away: in clip-retrieval's layout, or as one parquet file."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from xsearch.core.errors import (
    EncoderMismatchError,
    LibraryError,
    SourceError,
    StorageError,
    UsageError,
)
from xsearch.core.extras import require
from xsearch.core.paths import absolute, displayable
from xsearch.core.reports import ExportReport, Progress, ProgressCallback
from xsearch.indexer.export_formats import (
    PIECE,
    TABLE,
    ClipRetrievalWriter,
    ParquetWriter,
    Picture,
    Writer,
)
from xsearch.indexer.imports.clip_retrieval import MARK, METADATA, VECTORS
from xsearch.indexer.reader import EncoderRow, Reader, Snapshot
from xsearch.indexer.vectors import open_rows, sync_folder, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

Format = Literal["clip-retrieval", "parquet"]
FORMATS: tuple[Format, ...] = ("clip-retrieval", "parquet")

_WRITERS: dict[Format, type[Writer]] = {
    "clip-retrieval": ClipRetrievalWriter,
    "parquet": ParquetWriter,
}
_RETRIES = 5
_LIVE = (
    "FROM items i JOIN embeddings e ON e.item_id = i.id"
    " LEFT JOIN images m ON m.item_id = i.id"
    " WHERE i.kind = 'image' AND i.deleted_at IS NULL AND e.encoder_id = ?"
)


def export(
    reader: Reader,
    choose: Callable[[Snapshot], EncoderRow | None],
    folder: str | os.PathLike[str],
    form: Format,
    captions: bool,
    progress: ProgressCallback,
) -> ExportReport:
    """Write every picture and its vector into a new folder; indexing goes on meanwhile.

    The folder is made beside its place and moved there once it is complete. One that is empty or
    an earlier export is replaced.

    Args:
        reader: the library, as of now.
        choose: which encoder's vectors; None where the library has none.
        folder: where to.
        form: `clip-retrieval` or `parquet`.
        captions: the texts of pictures, too.
        progress: told how many pictures are written.

    Raises:
        UsageError: an unknown form.
        SourceError: the library has no pictures, or the folder holds something else.
        EncoderMismatchError: the vectors of the encoder are not complete.
        MissingExtraError: pyarrow is not installed.
        StorageError: the disk refused a write; nothing was exported.
    """
    if form not in FORMATS:
        raise UsageError(f"the format must be one of {', '.join(FORMATS)}, not {form!r}")
    require("pyarrow.parquet", "parquet", "exporting a library")
    target = absolute(folder)
    with _staged(target) as place:
        for _ in range(_RETRIES):
            with reader.snapshot() as snapshot:
                encoder = _usable(choose(snapshot), reader.folder)
                path = vector_path(reader.folder, encoder.fingerprint, encoder.generation)
                try:
                    vectors = open_rows(path, encoder.rows, encoder.dim)
                except FileNotFoundError:
                    continue  # A compaction switched generations after the snapshot was taken.
                count = _write(snapshot, encoder, vectors, place, form, captions, progress)
                break
        else:
            raise LibraryError(
                f"{reader.folder}: the vectors are missing. Run `xsearch check`, then "
                "`xsearch index`."
            )
        sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    return ExportReport(target, count, len(sizes), sum(sizes))


def _usable(encoder: EncoderRow | None, library: Path) -> EncoderRow:
    if encoder is None:
        raise SourceError(
            f"{displayable(library)}: nothing was indexed yet, so that there is nothing to export"
        )
    if encoder.state != "active":
        raise EncoderMismatchError(
            f"{displayable(library)}: its vectors of {encoder.name} are not complete, or out of "
            "date. Complete them with `xsearch reindex`, or export those of another encoder."
        )
    return encoder


def _write(
    snapshot: Snapshot,
    encoder: EncoderRow,
    vectors: NDArray[np.float16],
    place: Path,
    form: Format,
    captions: bool,
    progress: ProgressCallback,
) -> int:
    total = int(snapshot.one(f"SELECT count(*) {_LIVE}", (encoder.id,)))
    if not total:
        raise SourceError("the library holds no pictures: there is nothing to export")
    done = 0
    with _WRITERS[form](place, encoder, total, captions) as writer:
        for pictures, rows in _pictures(snapshot, encoder, captions):
            writer.write(pictures, vectors[rows])
            done += len(pictures)
            progress(Progress("write", done, total))
    return done


def _pictures(
    snapshot: Snapshot, encoder: EncoderRow, captions: bool
) -> Iterator[tuple[list[Picture], NDArray[np.int64]]]:
    """All pictures by id, at most `PIECE` at once, with the rows of their vectors."""
    last = 0
    while found := snapshot.all(
        "SELECT i.id, e.row, i.content_hash, m.width, m.height, m.taken_at, m.taken_offset,"
        f" m.camera, m.latitude, m.longitude {_LIVE} AND i.id > ? ORDER BY i.id LIMIT {PIECE}",
        (encoder.id, last),
    ):
        last = found[-1][0]
        rows = [row for _, row, *_ in found]
        items = snapshot.items_at(encoder.id, rows)
        texts = _captions(snapshot, found[0][0], last) if captions else {}
        pictures = []
        for id_, row, digest, width, height, taken, offset, camera, north, east in found:
            paths = _existing_first([file.path for file in items[row].files])
            moment = datetime.fromisoformat(taken) if taken else None
            known = (digest, width, height, moment, offset, camera, north, east)
            pictures.append(Picture(id_, paths, *known, tuple(texts.get(id_, ()))))
        yield pictures, np.array(rows, np.int64)


def _captions(snapshot: Snapshot, first: int, last: int) -> dict[int, dict[str, None]]:
    """The texts of the pictures with ids from `first` to `last`, each once, in order."""
    texts: dict[int, dict[str, None]] = {}
    for image, text in snapshot.all(
        "SELECT c.image_id, t.text FROM captions c JOIN items t ON t.id = c.item_id"
        " LEFT JOIN files f ON f.id = c.file_id WHERE c.image_id BETWEEN ? AND ?"
        " AND t.deleted_at IS NULL AND f.missing_since IS NULL ORDER BY c.image_id, c.id",
        (first, last),
    ):
        texts.setdefault(image, {})[text] = None
    return texts


def _existing_first(paths: list[Path]) -> tuple[Path, ...]:
    if len(paths) > 1:
        paths = sorted(paths, key=lambda path: not path.exists())
    return tuple(paths)


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` if all goes well."""
    place = folder.with_name(f".{folder.name}.partial")
    try:
        _refuse_others(folder)
        shutil.rmtree(place, ignore_errors=True)  # Of a run that was killed.
        place.mkdir(parents=True)
        yield place
        _move(place, folder)
    except OSError as error:
        raise StorageError(
            f"{displayable(folder)}: the disk refused a write ({error.strerror or error}). Nothing "
            "was exported; free some space there, or name another folder."
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _refuse_others(folder: Path) -> None:
    """Only what an export wrote is replaced."""
    if not folder.exists() or (folder.is_dir() and (_is_empty(folder) or _is_export(folder))):
        return
    raise SourceError(
        f"{displayable(folder)}: holds something that is no export of xsearch: name another folder"
    )


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def _is_export(folder: Path) -> bool:
    names = {entry.name for entry in folder.iterdir()}
    if names == {VECTORS, METADATA}:
        tables = list((folder / METADATA).iterdir())
        arrays = list((folder / VECTORS).iterdir())
        return all(path.suffix == ".npy" for path in arrays) and all(map(_is_marked, tables))
    return names == {TABLE} and _is_marked(folder / TABLE)


def _is_marked(path: Path) -> bool:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return MARK in (read_schema(path).metadata or {})
    except (OSError, ArrowException):
        return False


def _move(place: Path, folder: Path) -> None:
    """Put the finished folder into its place; whatever fails, one of the two is there."""
    if folder.exists():
        aside = place.with_name(f".{folder.name}.before")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        try:
            place.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    else:
        place.rename(folder)
    sync_folder(folder.parent)
