"""What it means for a library that the file system refuses something."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from xsearch.core.errors import Error, LibraryReadOnlyError, StorageError

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def refused(library: Path, error: OSError) -> Error:
    """The error to raise for a write in a library's folder that the system refused."""
    why = error.strerror or str(error)
    if error.errno in _READ_ONLY:
        return LibraryReadOnlyError(
            f"{library}: cannot be written to ({why}). A library there can still be searched; "
            "copy its folder elsewhere to change it, or name another with --library."
        )
    return StorageError(
        f"{library}: the disk refused a write ({why}). Everything committed before is safe; "
        "free some space and run the command again."
    )


class Reachable:
    """Whether roots can be reached, asked once each: there, and not empty."""

    def __init__(self) -> None:
        self._known: dict[Path, bool] = {}

    def __contains__(self, root: Path) -> bool:
        if root not in self._known:
            try:
                with os.scandir(root) as entries:
                    self._known[root] = next(entries, None) is not None
            except OSError:
                self._known[root] = False
        return self._known[root]


def bytes_of(paths: Iterable[Path]) -> int:
    """The size of some files together; those that a writer has just deleted count nothing."""
    size = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size


def delete_others(folder: Path, keep: set[Path]) -> list[Path]:
    """Delete a folder's files other than `keep`; those that a reader holds open (Windows) stay."""
    dropped = []
    for path in sorted(folder.glob("*")):
        if path not in keep:
            with contextlib.suppress(OSError):
                path.unlink()
                dropped.append(path)
    return dropped
