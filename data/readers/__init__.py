"""Readers of image-text data sets, each into the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.paths import displayable
from xsearch.data.records import Dataset

from . import coco, cocoqa, flickr, folder, jsonl, karpathy, labels, table, vqa, webdataset
from .collect import Collector
from .files import Source
from .pictures import Pictures

__all__ = ["FORMATS", "read_dataset"]


class _Reader(Protocol):
    """What each module of a format offers."""

    def find(self, source: Source) -> list[Path]:
        """What is to be read of a data set's folder or file; nothing: it has another format."""

    def read(self, path: Path, out: Collector) -> None:
        """Hand what a file (or folder) says to a collector."""


# In the order in which they are looked for: what describes pictures before bare pictures.
_READERS: dict[str, _Reader] = {
    "jsonl": jsonl,
    "csv": table,
    "karpathy": karpathy,
    "flickr": flickr,
    "coco": coco,
    "vqa": vqa,
    "cocoqa": cocoqa,
    "webdataset": webdataset,
    "labels": labels,
    "folder": folder,
}
# What they hold needs no file that describes it: whoever names one of these means it.
_WHOLE_FOLDERS = ("labels", "folder")

FORMATS = tuple(_READERS)
"""Names of the formats that `read_dataset` reads."""


def read_dataset(
    source: str | Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    language: str = "en",
) -> Dataset:
    """Read a data set of pictures and texts.

    Args:
        source: its folder, or a file that describes it.
        format: one of `FORMATS`; None: found out from what is there.
        images: where the pictures are; None: looked for beside what describes them.
        language: of captions whose source does not say.

    Rows that cannot be used are left out and listed in the result's `problems`. Pictures are
    looked for, not opened. Raises SourceError: nothing there, nothing usable, or more rows broken
    than not; UsageError: no such format.
    """
    path = Path(source).expanduser()
    if format is not None and format not in _READERS:
        raise UsageError(f"there is no format {format!r} of data sets; there are {_formats()}")
    if images is not None and not images.is_dir():
        raise SourceError(f"{displayable(images)}: there is no such folder of pictures")
    reader, files = _found(path, format)
    base = path if path.is_dir() else path.parent
    out = Collector(_name(path), Pictures(base, images), language)
    for file in files:
        reader.read(file, out)
    return out.dataset()


def _found(path: Path, format: str | None) -> tuple[_Reader, list[Path]]:
    """The reader, and the files that it is to read."""
    if not path.exists():
        raise SourceError(f"{displayable(path)}: there is no such file or folder")
    if format is not None and not path.is_dir():
        return _READERS[format], [path]
    if format in _WHOLE_FOLDERS:
        return _READERS[format], [path]
    seen = Source(path)
    for name, reader in _READERS.items():
        if format in (None, name) and (files := reader.find(seen)):
            return reader, files
    what = f"of the format {format}" if format else f"of a known format ({_formats()})"
    raise SourceError(f"{displayable(path)}: no data set {what}")


def _formats() -> str:
    return ", ".join(FORMATS)


def _name(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.stem
