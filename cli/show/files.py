"""Writes files whole or not at all, and never over a file that is not of xsearch."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from xsearch.core.errors import SourceError, StorageError
from xsearch.core.paths import displayable


def refuse_foreign(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Raise `SourceError` where a file cannot be put: no folder, or another's file is there."""
    if not path.parent.is_dir():
        raise SourceError(f"{displayable(path.parent)}: no such folder. Make it first.")
    if os.path.lexists(path) and not (path.is_file() and is_ours(path)):
        raise SourceError(
            f"{displayable(path)} is there already and was not made by xsearch: nothing is "
            "overwritten. Give another name, or move it away."
        )


@contextmanager
def whole_file(path: Path, is_ours: Callable[[Path], bool]) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` once all is written, or leaves no trace.

    Raises:
        SourceError: as `refuse_foreign` does.
        StorageError: the disk refused.
    """
    refuse_foreign(path, is_ours)
    place = path.resolve()  # what a symbolic link leads to, so that the link stays
    was_there = place.exists()
    partial = partial_name(place.parent)
    try:
        with partial.open("xb") as file:
            yield file
            settle(file)
        if was_there:
            partial.replace(place)
        else:
            put(partial, place)
    except FileExistsError:
        refuse_foreign(path, lambda _: False)
        raise
    except OSError as error:
        raise StorageError(f"{displayable(path)}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def partial_name(folder: Path) -> Path:
    """A name in a folder for what is not whole yet; hidden, and nobody else's."""
    return folder / f".xsearch-{secrets.token_hex(6)}.partial"


def settle(file: BinaryIO) -> None:
    """Bring a file to the disk before it gets its name."""
    file.flush()
    os.fsync(file.fileno())


def put(partial: Path, place: Path) -> None:
    """Give a whole file its name; `FileExistsError` if something, be it a broken link, has it.

    Not every file system knows hard links, and renaming overwrites on most: so the name is
    taken by an empty file first, which nobody else can have made.
    """
    os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        partial.replace(place)
    except OSError:
        place.unlink()
        raise
