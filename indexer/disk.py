"""What it means for a library that the file system refuses something."""

from __future__ import annotations

import contextlib
import errno
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


def delete_others(folder: Path, keep: set[Path]) -> list[Path]:
    """Delete a folder's files other than `keep`; those that a reader holds open (Windows) stay."""
    dropped = []
    for path in sorted(folder.glob("*")):
        if path not in keep:
            with contextlib.suppress(OSError):
                path.unlink()
                dropped.append(path)
    return dropped
