"""The folder that clip-retrieval's `inference` writes: vectors as .npy, paths as parquet.

`img_emb/img_emb_N.npy` holds float16 (n, dim), `metadata/metadata_N.parquet` a row for each of
them, in the same order, with the picture's path as it was given, relative or absolute; for
pictures out of tar files the path inside, without suffix. The model is not recorded.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import SourceError
from xsearch.core.extras import require
from xsearch.core.formats import is_image_name
from xsearch.core.paths import absolute, displayable, from_stored, to_stored
from xsearch.indexer.disk import refused
from xsearch.indexer.imports.source import SHUFFLED, Recorded, Source, picture_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    PathLike = str | os.PathLike[str]

VECTORS, METADATA = "img_emb", "metadata"
MARK = b"xsearch"
"""Under this name an export of xsearch says in its parquet files what made it, as JSON."""

# In the releases of OpenAI the activation is QuickGELU.
OPENAI = {
    "RN50": "RN50-quickgelu/openai",
    "RN101": "RN101-quickgelu/openai",
    "RN50x4": "RN50x4-quickgelu/openai",
    "RN50x16": "RN50x16-quickgelu/openai",
    "RN50x64": "RN50x64-quickgelu/openai",
    "ViT-B/32": "ViT-B-32-quickgelu/openai",
    "ViT-B/16": "ViT-B-16-quickgelu/openai",
    "ViT-L/14": "ViT-L-14-quickgelu/openai",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu/openai",
}
"""Models as OpenAI's own package calls them, and so does clip-retrieval; ViT-B/32 by default."""
OPEN_CLIP = "open_clip:"
"""How clip-retrieval marks a model of open_clip."""

_NEED = "reading clip-retrieval's metadata"
_PATH, _OTHERS = "image_path", "other_paths"
_NUMBER = re.compile(r"(\d+)\.\w+")
_ROWS = 16_384
_TRIED = 1_000


@dataclass(frozen=True, slots=True)
class _Shard:
    vectors: Path
    metadata: Path


def recorded_model(place: PathLike) -> str | None:
    """The model that made the vectors, where xsearch wrote them.

    Raises:
        SourceError: there are none.
        MissingExtraError: pyarrow is not installed.
    """
    require("pyarrow.parquet", "parquet", _NEED)
    found = _mark(_open_table(_shards(absolute(place))[0].metadata)).get("encoder")
    return found if isinstance(found, str) else None


class ClipRetrieval(Source):
    """Vectors out of a folder of clip-retrieval, memory-mapped.

    Where a picture's row is stands in a temporary database on disk, so that memory does not
    grow with the number of pictures.

    Args:
        place: the folder that holds `img_emb` and `metadata`.
        images: the folder that the pictures lie in now; leading parts of the recorded paths
            are dropped until a picture is found there. Without it, relative paths start here.
    """

    program = "clip-retrieval"
    moved = "Say where they lie now with --images, or run it where they were embedded."

    def __init__(self, place: PathLike, images: PathLike | None = None) -> None:
        require("pyarrow.parquet", "parquet", _NEED)
        self.place = absolute(place)
        self.count = 0
        self.dim = 0
        self.encoder = None
        self.upright = False
        self._vectors: list[NDArray[Any]] = []
        # Without a name it is temporary, and grows on disk.
        self._rows = sqlite3.connect("")
        try:
            self._rows.execute("PRAGMA journal_mode=OFF")
            self._rows.execute(
                "CREATE TABLE rows (path TEXT NOT NULL UNIQUE, shard INTEGER, row INTEGER)"
            )
            shards = _shards(self.place)
            root = _Root(shards[0].metadata, images)
            for shard in shards:
                self._add(shard, root)
        except BaseException:
            self._rows.close()
            raise

    def _add(self, shard: _Shard, root: _Root) -> None:
        vectors = _open_vectors(shard.vectors)
        self.dim = self.dim or vectors.shape[1]
        if vectors.shape[1] != self.dim:
            raise SourceError(
                f"{displayable(shard.vectors)}: {vectors.shape[1]} dimensions, where the files "
                f"before it have {self.dim}: take out what another model made"
            )
        table = _open_table(shard.metadata)
        if table.metadata.num_rows != len(vectors):
            raise SourceError(
                f"{displayable(shard.metadata)}: {table.metadata.num_rows:,} rows for the "
                f"{len(vectors):,} vectors of {shard.vectors.name}: take both out of their "
                "folders, or make them again"
            )
        mark = _mark(table)
        self.encoder, self.upright = mark.get("encoder"), bool(mark.get("upright"))
        number = len(self._vectors)
        entries = (
            (to_stored(root.place(path)), number, row)
            for row, paths in enumerate(_paths(shard.metadata, table, bool(mark)))
            for path in paths
        )
        try:
            self._rows.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", entries)
        except sqlite3.OperationalError as error:
            raise refused(Path(tempfile.gettempdir()), OSError(errno.ENOSPC, str(error))) from error
        self._vectors.append(vectors)
        self.count += len(vectors)

    def find(self, path: str) -> Recorded | None:
        """The vector of a picture by its absolute path, or by that without its suffix."""
        place = self._at(path)
        stem = os.path.splitext(path)[0]  # noqa: PTH122 - a string, not a Path, in a hot loop
        if place is None and not is_image_name(stem):
            place = self._at(stem)
        if place is None:
            return None
        shard, row = place
        with np.errstate(over="ignore"):
            return Recorded(self._vectors[shard][row].astype(np.float32))

    def _at(self, path: str) -> tuple[int, int] | None:
        found = self._rows.execute(
            "SELECT shard, row FROM rows WHERE path = ?", (to_stored(path),)
        ).fetchone()
        return None if found is None else (int(found[0]), int(found[1]))

    def paths(self) -> Iterator[str]:
        """Where the pictures should be, shuffled."""
        for (path,) in self._rows.execute(f"SELECT path FROM rows ORDER BY {SHUFFLED}"):
            yield from_stored(path)

    def close(self) -> None:
        """Close the files and drop the temporary database."""
        self._vectors.clear()
        self._rows.close()


class _Root:
    """Where recorded paths start now."""

    def __init__(self, metadata: Path, images: PathLike | None) -> None:
        self._base = str(absolute(images or Path()))
        self._dropped = 0
        if images is not None:
            if not Path(self._base).is_dir():
                raise SourceError(f"{displayable(self._base)}: there is no such folder")
            table = _open_table(metadata)
            first = islice(_paths(metadata, table, bool(_mark(table))), _TRIED)
            self._dropped = self._missing_parts([path for paths in first for path in paths])
        self._rebased = images is not None

    def place(self, path: str) -> str:
        """The absolute path of a picture from the recorded one."""
        # Strings, not Paths, in a hot loop.
        parts = _parts(path)[self._dropped :] if self._rebased else [path]
        return os.path.normpath(os.path.join(self._base, *parts))  # noqa: PTH118

    def _missing_parts(self, paths: list[str]) -> int:
        """How many leading parts of the paths to drop, so that a picture is found."""
        for path in paths:
            parts = _parts(path)
            for dropped in range(len(parts)):
                if picture_at(os.path.join(self._base, *parts[dropped:])):  # noqa: PTH118
                    return dropped
        return 0


def _parts(path: str) -> list[str]:
    """The parts of a path that was recorded on this system or another, without drive and root."""
    parts = re.split(r"[/\\]", path) if re.match(r"[A-Za-z]:\\", path) else path.split("/")
    return [part for part in parts if part not in ("", ".") and not part.endswith(":")]


def _shards(folder: Path) -> list[_Shard]:
    """The files of vectors, each with its metadata, by their number."""
    vectors = {_number(path): path for path in folder.glob(f"{VECTORS}/*.npy")}
    if not vectors:
        raise SourceError(
            f"{displayable(folder)}: no .npy file in {VECTORS} there: name the folder that "
            "clip-retrieval inference wrote, not that of its index"
        )
    metadata = {_number(path): path for path in folder.glob(f"{METADATA}/*.parquet")}
    shards = []
    for number, path in sorted(vectors.items()):
        if number not in metadata:
            raise SourceError(
                f"{displayable(path)}: there is no parquet file of the same number in {METADATA} "
                "that says which pictures these are"
            )
        shards.append(_Shard(path, metadata[number]))
    return shards


def _number(path: Path) -> int:
    found = _NUMBER.search(path.name)
    return int(found[1]) if found else -1


def _open_vectors(path: Path) -> NDArray[Any]:
    """Memory-mapped vectors (n, dim); a pickle is never loaded."""
    try:
        vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(
            f"{displayable(path)}: not a whole .npy file of numbers: take it and its metadata out "
            "of their folders, or make them again"
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise SourceError(
            f"{displayable(path)}: holds {vectors.dtype} {vectors.shape}, not a vector a row"
        )
    return vectors


def _open_table(path: Path) -> Any:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise _no_table(path) from error
    if _PATH not in table.schema_arrow.names:
        raise SourceError(
            f"{displayable(path)}: has no column {_PATH}: what it holds cannot be told apart "
            "(was clip-retrieval run without pictures?)"
        )
    return table


def _paths(path: Path, table: Any, marked: bool) -> Iterator[list[str]]:
    """The recorded paths of each row; none where the row names none."""
    from pyarrow import ArrowException

    columns = [_PATH, _OTHERS] if marked and _OTHERS in table.schema_arrow.names else [_PATH]
    try:
        for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
            first = batch.column(0).to_pylist()
            others = batch.column(1).to_pylist() if len(columns) > 1 else [None] * len(first)
            for one, more in zip(first, others, strict=True):
                recorded = [name for name in (one, *(more or ())) if isinstance(name, str) and name]
                yield [from_stored(name) for name in recorded] if marked else recorded
    except (OSError, ArrowException) as error:
        raise _no_table(path) from error


def _mark(table: Any) -> dict[str, Any]:
    """What an export of xsearch says of itself; empty for all others."""
    try:
        found = json.loads((table.schema_arrow.metadata or {}).get(MARK, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _no_table(path: Path) -> SourceError:
    return SourceError(
        f"{displayable(path)}: damaged, or no parquet file: take it and its vectors out of their "
        "folders, or make them again"
    )
