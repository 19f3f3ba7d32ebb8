"""One writer at a time: a lock file that the system frees, and a note that says who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from xsearch.core.errors import LibraryLockedError
from xsearch.indexer.disk import refused

LOCK_NAME = "writer.lock"
HOLDER_NAME = "writer.json"


@contextlib.contextmanager
def writer_lock(folder: Path, command: str, wait: float) -> Iterator[None]:
    """Hold the library's writer lock; the system frees it when a process dies.

    Args:
        folder: the library's folder.
        command: what to tell others that they wait for, such as `xsearch index`.
        wait: seconds to wait for another writer before giving up.

    Raises:
        LibraryLockedError: another writer holds the lock; the message says which.
        LibraryReadOnlyError, StorageError: the folder cannot be written to.
    """
    import filelock

    # A new object each time: two threads of one process exclude each other like two processes.
    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=wait, poll_interval=0.05)
    except filelock.Timeout as error:
        raise LibraryLockedError(
            f"{folder}: {_holder(folder)} is writing to this library. Wait until it is done, or "
            "give --wait SECONDS; searching goes on meanwhile."
        ) from error
    except OSError as error:
        raise refused(folder, error) from error
    note = folder / HOLDER_NAME
    try:
        # The note only helps people; on a full disk the work itself says so better.
        with contextlib.suppress(OSError):
            note.write_text(json.dumps(_me(command)), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
        lock.release()


def _me(command: str) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "command": command,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _holder(folder: Path) -> str:
    try:
        note = json.loads((folder / HOLDER_NAME).read_text(encoding="utf-8"))
        return (
            f"`{note['command']}` (process {note['pid']} on {note['host']}, since {note['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
