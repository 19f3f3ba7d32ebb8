"""Texts in files: lines of .txt, rows of .csv and .jsonl, sidecars beside pictures."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from xsearch.core.errors import SourceError

TEXT_SUFFIXES = frozenset({".txt", ".csv", ".jsonl"})
MAX_TEXT_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class TextRow:
    """One text: where it stands (`position`, from 0), and the picture it names, if any."""

    position: int
    text: str
    image: str | None = None


def is_text_name(name: str) -> bool:
    """Whether a file named by the user is read as texts."""
    return Path(name).suffix.lower() in TEXT_SUFFIXES


def source_of(name: str) -> str:
    """What a caption's `source` says for a text file: `line` or `row`."""
    return "line" if Path(name).suffix.lower() == ".txt" else "row"


def read_rows(path: Path) -> Iterator[TextRow]:
    """The texts of a file; empty ones are left out, white space around them too.

    `.txt` has a text a line; `.csv` a column `text` and optionally `image`; `.jsonl` an
    object a line with the same names.

    Raises:
        SourceError: not UTF-8 (or UTF-16 with a byte order mark), a broken row (with its
            number), no `text` column.
    """
    reader = {".csv": _csv_rows, ".jsonl": _json_rows}.get(path.suffix.lower(), _lines)
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            for row in reader(file):
                text = row.text.strip()
                if text:
                    yield TextRow(row.position, text[:MAX_TEXT_CHARS], row.image or None)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"not UTF-8 text (byte {error.start}); save it as UTF-8, then index again"
        ) from error


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _lines(file: TextIO) -> Iterator[TextRow]:
    # Only line ends split: str.splitlines would also split at form feeds and the like.
    for number, line in enumerate(file):
        yield TextRow(number, line.rstrip("\r\n"))


def _csv_rows(file: TextIO) -> Iterator[TextRow]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(file, strict=True)
    try:
        names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        if "text" not in names:
            found = ", ".join(reader.fieldnames or ()) or "nothing"
            raise SourceError(f"has no column `text` (the first row has: {found})")
        image = names.get("image")
        for number, row in enumerate(reader):
            yield TextRow(number, row[names["text"]] or "", row.get(image) if image else None)
    except csv.Error as error:
        # `line_num` is the last line of the row before.
        raise SourceError(f"line {reader.line_num + 1} is no valid CSV: {error}") from error


def _json_rows(file: TextIO) -> Iterator[TextRow]:
    for number, line in enumerate(file):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
            text, image = row["text"], row.get("image")
            if not isinstance(text, str) or not isinstance(image, str | None):
                raise ValueError("`text` and `image` must be strings")
        except KeyError as error:
            raise SourceError(f"line {number + 1} has no {error}") from error
        except (ValueError, RecursionError) as error:
            raise SourceError(f"line {number + 1} is no valid JSON row: {error}") from error
        yield TextRow(number, _whole(text), image and _whole(image))


def _whole(text: str) -> str:
    """The text with halves of characters, which JSON can spell, as replacement characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
