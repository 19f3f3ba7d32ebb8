"""A folder for each class: `cat/1.jpg`, `dog/2.jpg`, or the same inside `train`, `val`, `test`.

The class is called as its folder, `_` being read as a space.
"""

from __future__ import annotations

from pathlib import Path

from xsearch.data.records import ImageFile

from .collect import Collector
from .files import Source
from .folder import folders, split_and_rest


def find(source: Source) -> list[Path]:
    """The folder itself, where all pictures are in two classes or more, and have no texts."""
    if not source.is_folder:
        return []
    classes = set()
    for files in folders(source.path):
        _, inner = split_and_rest(files.path.relative_to(source.path))
        if files.texts or (files.pictures and not inner):
            return []
        if files.pictures:
            classes.add(inner[0])
    return [source.path] if len(classes) > 1 else []


def read(path: Path, out: Collector) -> None:
    """Read every picture; those in no folder of a class are counted as broken."""
    for files in folders(path):
        relative = files.path.relative_to(path)
        split, inner = split_and_rest(relative)
        for name in files.pictures:
            key = (relative / name).as_posix()
            if inner:
                image = ImageFile(files.path / name)
                out.add(key, key, image, labels=[inner[0].replace("_", " ")], split=split)
            else:
                out.broken(key, "in no folder of a class")
