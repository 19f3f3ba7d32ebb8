"""The files of pictures as they are now, without those that are gone or changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xsearch.indexer.disk import Reachable
from xsearch.indexer.duplicates.pictures import CatalogFile


@dataclass(frozen=True, slots=True)
class PresentFile:
    """A file that can be kept or be a copy; `missing` where its drive cannot be reached."""

    path: Path
    size: int
    mtime_ns: int
    missing: bool


class Files:
    """Looks at files; `changed` counts those that are no longer what was indexed."""

    def __init__(self) -> None:
        self._reachable = Reachable()
        self.changed = 0

    def present(self, files: Iterable[CatalogFile]) -> list[PresentFile]:
        """Of one picture's files those that may be in a group: the oldest first, then by path.

        Several names of one file (links) are one file, since deleting one would free nothing, and
        deleting what a link points to would lose it.
        """
        found: list[PresentFile] = []
        named: dict[object, PresentFile] = {}
        for file in files:
            path = file.found.path
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                if file.found.root not in self._reachable:
                    found.append(PresentFile(path, file.size, file.mtime_ns, missing=True))
                continue
            except OSError:
                found.append(PresentFile(path, file.size, file.mtime_ns, missing=True))
                continue
            if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
                self.changed += 1
                continue
            # Some file systems do not number their files.
            which = (status.st_dev, status.st_ino) if status.st_ino else path
            if which not in named or _leads_straight(path):
                named[which] = PresentFile(path, file.size, file.mtime_ns, missing=False)
        found += named.values()
        return sorted(found, key=lambda file: (file.mtime_ns, os.fsencode(file.path)))


def _leads_straight(path: Path) -> bool:
    """Whether a path leads to its file without symbolic links."""
    return os.path.realpath(path) == os.fspath(path)


def reachable(files: Sequence[PresentFile]) -> Path | None:
    """The first file that can be read now."""
    return next((file.path for file in files if not file.missing), None)
