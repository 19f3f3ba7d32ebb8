"""A folder of pictures with texts beside them: `photo.jpg`, and `photo.txt` with a caption a line.

`photo.de.txt` holds German ones, `photo.jpg.txt` is for that one file where several are called
photo, `photo.json` is as img2dataset writes it. Folders called `train`, `val` and `test` are
splits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from xsearch.core.errors import SourceError
from xsearch.core.formats import is_image_name
from xsearch.data.records import ImageFile

from .collect import Collector
from .files import Source, lines, read_json, refuse, split_named
from .rows import Row, RowError, add_row, joined, rows_of

_TEXT = re.compile(r"(?P<of>.+?)(?:\.(?P<language>[a-z]{2,3}(?:_\w+)?))?\.(?:txt|caption)")
_OBJECT = re.compile(r"(?P<of>.+)\.json")


def find(source: Source) -> list[Path]:
    """The folder itself, where pictures are anywhere below it."""
    if source.is_folder and any(files.pictures for files in folders(source.path)):
        return [source.path]
    return []


class Files:
    """The names in one folder, in order: of its pictures, and of texts by what they are beside."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path = path
        self.pictures = sorted(name for name in names if is_image_name(name))
        self._names = set(names)
        stems = {name.rpartition(".")[0] for name in self.pictures}
        self.owners = stems.union(self.pictures)
        self.texts: dict[str, list[tuple[str, str | None]]] = {}
        for name in sorted(names):
            for form in (_TEXT, _OBJECT):
                if (found := form.fullmatch(name)) is None:
                    continue
                owner, language = found["of"], found.groupdict().get("language")
                if language and f"{owner}.{language}" in self.owners:
                    owner, language = f"{owner}.{language}", None
                if owner in self.owners:
                    self.texts.setdefault(owner, []).append((name, language))

    def beside(self, picture: str) -> list[tuple[str, str | None]]:
        """Names of the texts beside a picture, each with its language if it says one."""
        own = self.texts.get(picture, [])
        return own + self.texts.get(picture.rpartition(".")[0], [])


def folders(top: Path) -> Iterator[Files]:
    """A folder and those below it, in order, hidden ones and links left out."""

    def fail(error: OSError) -> None:
        if error.filename == str(top):
            refuse(top, error)

    for path, inner, names in os.walk(top, onerror=fail):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield Files(Path(path), [name for name in names if not name.startswith(".")])


def split_and_rest(relative: Path) -> tuple[str | None, tuple[str, ...]]:
    """The split that the first of a path's folders names, and the folders after it."""
    parts = relative.parts
    split = split_named(parts[0]) if parts else None
    return split, parts[1:] if split else parts


def read(path: Path, out: Collector) -> None:
    """Read every picture with its texts; those without any have no captions."""
    for files in folders(path):
        relative = files.path.relative_to(path)
        split, _ = split_and_rest(relative)
        for name in files.pictures:
            key = (relative / name).as_posix()
            image = ImageFile(files.path / name)
            try:
                row = _row(key, files, name, out.language)
            except RowError as error:
                out.broken(key, str(error))
            else:
                add_row(out, key, row, image, split)


def _row(key: str, files: Files, picture: str, language: str) -> Row:
    """What the texts beside a picture say. Raises RowError where one is broken."""
    captions: dict[str, list[str]] = {}
    objects: list[Row] = []
    for name, code in files.beside(picture):
        path = files.path / name
        if name.endswith(".json"):
            try:
                objects += rows_of(read_json(path), language, key)
            except SourceError as error:
                raise RowError(str(error)) from error
        else:
            captions.setdefault(code or language, []).extend(_sentences(path))
    return joined(key, captions, (), objects)


def _sentences(path: Path) -> list[str]:
    """The lines of a text file. Raises RowError."""
    try:
        found = [line for _, line in lines(path)]
    except SourceError as error:
        raise RowError(str(error)) from error
    if None in found:
        raise RowError(f"{path.name} beside it is not UTF-8")
    return [line for line in found if line is not None]
