"""CSV and its kin: a header, then a row a caption or a picture.

`image,caption` as in Kaggle's Flickr8k, `image_name| comment_number| comment` as in its Flickr30k,
`file_name,text` as in Hugging Face's image folders, `file,label`, tabs or semicolons for commas.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from xsearch.core.errors import SourceError
from xsearch.core.paths import displayable

from .collect import Collector
from .files import SPLIT_FOLDERS, Source, files_like, lines, refuse, split_folder, split_named
from .rows import (
    CAPTION_FIELDS,
    FILE_FIELDS,
    LABEL_FIELDS,
    RowError,
    add_row,
    is_caption,
    parse_row,
)

_NAMES = r"(captions|metadata|labels|results|train|val|valid|validation|dev|test)\.(csv|tsv)"
_DELIMITERS = (",", "\t", "|", ";")


class _Form(NamedTuple):
    delimiter: str
    columns: list[str]


def find(source: Source) -> list[Path]:
    """The files of this form that a folder holds, or the file itself where it is one."""
    if source.is_folder:
        here = files_like(source.path, _NAMES) + files_like(source.path, r"captions\.txt")
        here = [path for path in here if _form(path) is not None]
        return here or files_like(source.path, r"metadata\.csv", SPLIT_FOLDERS)
    known = source.suffix in (".csv", ".tsv")
    known = known or (source.suffix == ".txt" and _form(source.path) is not None)
    return [source.path] if known else []


def read(path: Path, out: Collector) -> None:
    """Read a file's rows; those that cannot be used are listed, and counted as broken.

    Raises SourceError where no column names pictures, or none says anything of them.
    """
    form = _form(path)
    if form is None:
        raise SourceError(
            f"{displayable(path)}: the first row must name the columns, one for pictures (such as "
            "`file` or `image`) and one for texts or classes (`caption`, `text`, `label`)"
        )
    folder = split_folder(path)
    split = split_named(folder or path.stem)
    prefix = f"{folder}/" if folder else ""
    seen: set[tuple[str, ...]] = set()
    for where, values in _rows(path, form, out):
        try:
            row = parse_row(dict(zip(form.columns, values, strict=True)), out.language)
        except RowError as error:
            out.broken(where, str(error))
            continue
        row = replace(row, file=prefix + row.file)
        image = out.picture(where, row.file, row.file.removeprefix(prefix))
        if image is None:
            continue
        if tuple(values) in seen:
            out.note(where, "the same as an earlier row")
            continue
        seen.add(tuple(values))
        add_row(out, where, row, image, split)


def _form(path: Path) -> _Form | None:
    """How a file is divided, and into what; None where its first row is no such header."""
    _, header = next(lines(path), (0, None))
    for delimiter in _DELIMITERS:
        columns = next(csv.reader([header or ""], delimiter=delimiter, skipinitialspace=True), [])
        columns = [column.strip().lower() for column in columns]
        known = set(columns)
        tells = known.intersection((*CAPTION_FIELDS, *LABEL_FIELDS, "question"))
        if known.intersection(FILE_FIELDS) and (tells or any(map(is_caption, columns))):
            return _Form(delimiter, columns)
    return None


def _rows(path: Path, form: _Form, out: Collector) -> Iterator[tuple[str, list[str]]]:
    """The rows behind the header that have as many values as it has columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding=_encoding(path), errors="surrogateescape", newline="") as file:
            # What stands between bars is never quoted: captions begin and end with quotes there.
            reader = csv.reader(
                file,
                delimiter=form.delimiter,
                skipinitialspace=True,
                strict=True,
                quoting=csv.QUOTE_NONE if form.delimiter == "|" else csv.QUOTE_MINIMAL,
            )
            yield from _checked(reader, form, path.name, out)
    except OSError as error:
        refuse(path, error)


def _checked(
    reader: Any, form: _Form, name: str, out: Collector
) -> Iterator[tuple[str, list[str]]]:
    header = False
    while True:
        first = reader.line_num + 1
        where = f"{name}:{first}"
        try:
            values = [value.strip() for value in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            # A quote that is never closed swallows all lines behind it.
            last = max(reader.line_num, first)
            reason = f"no valid CSV up to line {last}: {error}"
            out.broken(where, reason, rows=last - first + 1)
            continue
        if not any(values):
            continue
        if not header:
            header = True
        elif any("\udc80" <= char <= "\udcff" for value in values for char in value):
            out.broken(where, "not UTF-8")
        elif len(values) != len(form.columns):
            out.broken(where, f"{len(values)} values for {len(form.columns)} columns")
        else:
            yield where, values


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
