"""Values on the way from a scan to the catalog: candidates, and what became of them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xsearch.indexer.disk import refused
from xsearch.indexer.sources import TextRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.core.values import ImageMetadata

Role = Literal["image", "text", "sidecar"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is new or may have changed, with what the catalog knows of it.

    `folder` is relative to the root, `path` absolute. `was_ok` says that it is in the library
    now, `old_hash` with which content (hexadecimal). `images` names a sidecar's pictures.
    """

    root: int
    path: str
    folder: str
    name: str
    role: Role
    size: int
    mtime_ns: int
    error: str | None = None
    file_id: int | None = None
    old_item: int | None = None
    old_hash: str | None = None
    was_ok: bool = False
    was_gone: bool = False
    old_code: str | None = None
    old_error: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was read: content hash, size in bytes, modification time.

    `racy` says that it was written so recently that a further change need not show in its time.
    """

    digest: bytes
    size: int
    mtime_ns: int
    racy: bool


@dataclass(slots=True)
class ImageRead:
    """A picture that was read; without `pixels` where its content is in the library already.

    `pixels` is uint8 (S, S, 3) and goes once `vector`, float32 (dim,), is there; `imported` says
    that the vector is one that another program made.
    """

    candidate: Candidate
    state: FileState
    metadata: ImageMetadata | None = None
    perceptual_hash: int | None = None
    pixels: NDArray[np.uint8] | None = None
    vector: NDArray[np.float32] | None = None
    imported: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FileFailed:
    """A file that cannot be used; `code` as in `ImageError`."""

    candidate: Candidate
    code: str
    reason: str
    state: FileState | None = None
    decoded: bool = True


@dataclass(frozen=True, slots=True)
class TextsRead:
    """A piece of a text file, or all of a sidecar. Its last piece has the file's `state`.

    The piece holds all there is from position `start` up to its last row, or to the file's end.
    """

    candidate: Candidate
    rows: tuple[TextRow, ...]
    state: FileState | None
    start: int = 0


Outcome = ImageRead | FileFailed | TextsRead


class Spool:
    """A list of candidates on disk, so that memory does not grow with the folder.

    Raises:
        StorageError: the disk of temporary files is full.
    """

    def __init__(self) -> None:
        with _explained():
            self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - see close
        self._count = 0

    def add(self, candidate: Candidate) -> None:
        """Append one."""
        with _explained():
            self._file.write(json.dumps(asdict(candidate)) + "\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Candidate]:
        with _explained():
            self._file.seek(0)
        for line in self._file:
            values = json.loads(line)
            yield Candidate(**{**values, "images": tuple(values["images"])})

    def close(self) -> None:
        """Delete the list."""
        with contextlib.suppress(OSError):  # What could not be written is not needed any more.
            self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(Path(tempfile.gettempdir()), error) from error
