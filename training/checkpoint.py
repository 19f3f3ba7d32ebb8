"""Checkpoints that are whole or not there at all, and that run nothing when they are read."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from xsearch.core.errors import StorageError, TrainingError
from xsearch.core.extras import require

FOLDER = "checkpoints"
LAST = "last.pt"
BEST = "best.pt"
FORMAT = 1


def last_of(out: Path) -> Path:
    """The newest checkpoint of a run: all that it needs to go on."""
    return out / FOLDER / LAST


def best_of(out: Path) -> Path:
    """The weights that did best on validation."""
    return out / FOLDER / BEST


def write(path: Path, content: dict[str, Any]) -> None:
    """Put a checkpoint of tensors, numbers, texts, lists and mappings in place of the one there.

    It is written beside it, forced to the disk and then renamed, so that whatever happens one
    whole checkpoint remains. Raises StorageError where the disk refuses; the old one stays.
    """
    torch = require("torch", "train", "training")
    with replacing(path) as file:
        torch.save({"format": FORMAT, **content}, file)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint, its tensors on the CPU. No code in it is run (`weights_only`).

    Raises TrainingError where it is missing, damaged or of another version.
    """
    torch = require("torch", "train", "training")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no checkpoint to go on from") from None
    except Exception as error:  # a damaged file makes torch raise nearly anything
        first = str(error).strip().partition("\n")[0]
        raise TrainingError(f"{path} cannot be read, it is probably damaged ({first})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is of a form this version of xsearch does not know")
    return content


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of another when it is whole and on the disk.

    Raises StorageError where the disk refuses; what was there stays, and no half file.
    """
    watched: _Watched | None = None
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile: what it makes, others may not read.
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
        with temporary.open("xb") as file:
            watched = _Watched(file)
            yield cast(IO[bytes], watched)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _force_folder(path.parent)
    except Exception as error:
        # torch raises its own errors where a write has failed.
        refused = error if isinstance(error, OSError) else watched.refused if watched else None
        if refused is None:
            raise
        raise StorageError(
            f"{path} cannot be written: {refused.strerror or refused}; free some space"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file, whole or not at all. Raises StorageError."""
    with replacing(path) as file:
        file.write(text.encode())


class _Watched:
    """A file that remembers what the disk refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.refused: OSError | None = None

    def write(self, data: Any) -> int:
        return int(self._guarded(lambda: self._file.write(data)))

    def flush(self) -> None:
        self._guarded(self._file.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _guarded(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except OSError as error:
            self.refused = error
            raise


def _force_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
