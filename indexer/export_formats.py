"""The files of an export: vectors and what is known of their pictures, a piece at a time."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xsearch.core.extras import require
from xsearch.core.paths import to_stored
from xsearch.indexer.imports.clip_retrieval import MARK, METADATA, VECTORS
from xsearch.indexer.reader import EncoderRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE = 2_000
"""Pictures written at once."""
SHARD = 50 * PIECE
"""Pictures in one file of vectors of clip-retrieval's layout."""
TABLE = "pictures.parquet"

_PLAIN = (
    "id",
    "width",
    "height",
    "taken_at",
    "taken_offset",
    "camera",
    "latitude",
    "longitude",
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What an export says of a picture; `paths` are its files, one that exists first.

    `taken_at` is the camera's local time, `taken_offset` minutes east of UTC.
    """

    id: int
    paths: tuple[Path, ...]
    content_hash: bytes
    width: int | None
    height: int | None
    taken_at: datetime | None
    taken_offset: int | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    captions: tuple[str, ...]


class Writer(ABC):
    """Writes pictures with their vectors into a folder; use it in a `with` block.

    Raises:
        OSError: the disk refused a write.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, folder: Path, encoder: EncoderRow, total: int, captions: bool) -> None:
        require("pyarrow.parquet", "parquet", "exporting a library")
        self._folder = folder
        self._encoder = encoder
        self._total = total
        self._captions = captions
        self._open = ExitStack()

    @abstractmethod
    def write(self, pictures: Sequence[Picture], rows: NDArray[np.float16]) -> None:
        """Append at most `PIECE` pictures with their vectors, float16 (n, dim)."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _file(self, path: Path) -> BinaryIO:
        """A new file, which is on the disk once it is closed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
        self._open.callback(_finish, file)
        return file

    def _table(self, path: Path, fields: list[tuple[str, Any]]) -> Any:
        """A new parquet file with these columns, and what made it."""
        import pyarrow as pa
        import pyarrow.parquet

        encoder = self._encoder
        made = {
            "encoder": encoder.source,
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "upright": True,
        }
        schema = pa.schema(fields, metadata={MARK: json.dumps(made)})
        # Through a file of Python's own, whose errors are those of the system.
        file = self._file(path)
        return self._open.enter_context(pa.parquet.ParquetWriter(file, schema, compression="zstd"))


class ClipRetrievalWriter(Writer):
    """`img_emb/img_emb_N.npy` and `metadata/metadata_N.parquet`, as clip-retrieval reads them."""

    _done = 0

    def write(self, pictures: Sequence[Picture], rows: NDArray[np.float16]) -> None:
        """Append pictures; another pair of files begins every `SHARD`."""
        if self._done % SHARD == 0:
            self._begin()
        self._vectors.write(np.ascontiguousarray(rows, "<f2").tobytes())
        columns: dict[str, list[Any]] = {
            "image_path": [to_stored(str(picture.paths[0])) for picture in pictures],
            "other_paths": [_stored(picture.paths[1:]) for picture in pictures],
        }
        if self._captions:
            columns["caption"] = ["\n".join(picture.captions) for picture in pictures]
        _append(self._rows, columns)
        self._done += len(pictures)

    def _begin(self) -> None:
        import pyarrow as pa

        self._open.close()
        shards = -(-self._total // SHARD)
        # Readers take the files in the order of their names.
        name = str(self._done // SHARD).zfill(len(str(shards - 1)))
        self._vectors = self._file(self._folder / VECTORS / f"{VECTORS}_{name}.npy")
        shape = (min(SHARD, self._total - self._done), self._encoder.dim)
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._vectors, header)
        fields = [("image_path", pa.string()), ("other_paths", pa.list_(pa.string()))]
        if self._captions:
            fields.append(("caption", pa.string()))
        path = self._folder / METADATA / f"{METADATA}_{name}.parquet"
        self._rows = self._table(path, fields)


class ParquetWriter(Writer):
    """One parquet file with a row a picture, its vector included."""

    def __enter__(self) -> Writer:
        import pyarrow as pa

        fields = [
            ("id", pa.int64()),
            ("path", pa.string()),
            ("other_paths", pa.list_(pa.string())),
            ("content_hash", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("taken_at", pa.timestamp("us")),
            ("taken_offset", pa.int16()),
            ("camera", pa.string()),
            ("latitude", pa.float64()),
            ("longitude", pa.float64()),
            *([("captions", pa.list_(pa.string()))] if self._captions else []),
            # Few programs read float16 out of parquet yet; no value changes.
            ("embedding", pa.list_(pa.float32(), self._encoder.dim)),
        ]
        self._rows = self._table(self._folder / TABLE, fields)
        return self

    def write(self, pictures: Sequence[Picture], rows: NDArray[np.float16]) -> None:
        """Append a group of rows."""
        import pyarrow as pa

        columns: dict[str, Any] = {
            name: [getattr(picture, name) for picture in pictures] for name in _PLAIN
        }
        columns["path"] = [to_stored(str(picture.paths[0])) for picture in pictures]
        columns["other_paths"] = [_stored(picture.paths[1:]) for picture in pictures]
        columns["content_hash"] = [picture.content_hash.hex() for picture in pictures]
        if self._captions:
            columns["captions"] = [list(picture.captions) for picture in pictures]
        numbers = pa.array(rows.astype(np.float32).ravel())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(numbers, self._encoder.dim)
        _append(self._rows, columns)


def _append(table: Any, columns: dict[str, Any]) -> None:
    import pyarrow as pa

    table.write_table(pa.table({name: columns[name] for name in table.schema.names}, table.schema))


def _stored(paths: Sequence[Path]) -> list[str]:
    return [to_stored(str(path)) for path in paths]


def _finish(file: BinaryIO) -> None:
    with file:
        file.flush()
        os.fsync(file.fileno())
