"""Reads the text files of data sets, bad encodings and all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from xsearch.core.errors import SourceError
from xsearch.core.paths import displayable

_SPLITS = {
    "train": "train",
    "training": "train",
    "restval": "restval",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# `captions_train2017.json`, `v2_..._mscoco_val2014_questions.json`, `test-dev2015`.
_YEARED = re.compile(r"(?:^|[_\-])(train|val|test)(?:-dev|-std)?20\d\d(?:[_\-.]|$)")


SPLIT_FOLDERS = ("train", "val", "valid", "validation", "dev", "test")
"""Folders that may hold a split each, with a `metadata` file of its own."""


class Source:
    """A data set's folder or file. A JSON file is read once, whoever asks for its content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_folder = path.is_dir()
        self.suffix = "" if self.is_folder else path.suffix.lower()

    @cached_property
    def json(self) -> Any:
        """The content of a `.json` file, None for any other. Raises SourceError."""
        return read_json(self.path) if self.suffix == ".json" else None


def split_folder(path: Path) -> str | None:
    """The name of the folder of a split that a `metadata` file describes by itself, if it does."""
    inner = path.stem == "metadata" and path.parent.name.lower() in SPLIT_FOLDERS
    return path.parent.name if inner else None


def split_named(name: str) -> str | None:
    """The split that a word stands for: `train`, `val`, `test`, `restval`; None for other words."""
    return _SPLITS.get(name.lower())


def split_of_year(name: str) -> str | None:
    """The split in a file name of COCO and its kin, such as `captions_train2017.json`."""
    found = _YEARED.search(name)
    return found[1] if found else None


def lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """The lines of a file that hold anything, numbered from 1; None for one that is not UTF-8.

    Only line ends split. UTF-16 with a byte order mark is read too. Raises SourceError.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            if start in (b"\xff\xfe", b"\xfe\xff"):
                text = file.read().decode("utf-16", "replace")
                yield from _numbered(text.split("\n"))
            else:
                yield from _numbered(map(_decoded, file))
    except OSError as error:
        refuse(path, error)


def _numbered(found: Iterable[str | None]) -> Iterator[tuple[int, str | None]]:
    for number, line in enumerate(found, 1):
        kept = line.rstrip("\r\n") if line is not None else None
        if number == 1 and kept:
            kept = kept.removeprefix("\ufeff")
        if kept is None or kept.strip():
            yield number, kept


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def read_json(path: Path) -> Any:
    """A file that is one JSON value. Raises SourceError."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        refuse(path, error)
    except RecursionError as error:
        raise SourceError(f"{displayable(path)} is no valid JSON: nested too deeply") from error
    except ValueError as error:  # JSON's errors and those of UTF-8
        raise SourceError(f"{displayable(path)} is no valid JSON: {error}") from error


def listed(content: Any, name: str, path: Path) -> list[Any]:
    """A list in a JSON object. Raises SourceError where there is none."""
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise SourceError(f"{displayable(path)}: there is no list `{name}` in it")
    return found


def refuse(path: Path, error: OSError) -> NoReturn:
    """Raise the SourceError of a file that the system does not give."""
    raise SourceError(f"{displayable(path)} cannot be read: {error.strerror or error}") from error


def files_like(folder: Path, pattern: str, inside: Iterable[str] = ("",)) -> list[Path]:
    """Files in a folder, or in some of its folders, whose names match a regular expression.

    Upper and lower case are alike. Hidden files are not there. Raises SourceError.
    """
    matches = re.compile(pattern, re.IGNORECASE).fullmatch
    found = []
    for name in inside:
        try:
            entries = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        except OSError as error:
            refuse(folder / name, error)
        found += [
            path
            for path in entries
            if matches(path.name) and not path.name.startswith(".") and path.is_file()
        ]
    return found
