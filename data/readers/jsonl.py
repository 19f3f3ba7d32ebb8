"""JSON Lines: an object a line, with a picture's file and its captions or labels.

`{"file": "1.jpg", "split": "train", "captions": {"en": ["A dog ."], "de": ["Ein Hund."]}}` and the
like; `.json` files with a list of such objects too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .collect import Collector
from .files import SPLIT_FOLDERS, Source, files_like, lines, read_json, split_folder, split_named
from .rows import RowError, add_row, parse_row

_NAMES = r"(captions|metadata|train|val|valid|validation|dev|test)\.(jsonl|ndjson)"


def find(source: Source) -> list[Path]:
    """The files of this form that a folder holds, or the file itself where it is one."""
    if source.is_folder:
        here = files_like(source.path, _NAMES)
        return here or files_like(source.path, r"metadata\.jsonl", SPLIT_FOLDERS)
    known = source.suffix in (".jsonl", ".ndjson") or isinstance(source.json, list)
    return [source.path] if known else []


def read(path: Path, out: Collector) -> None:
    """Read a file's rows; those that cannot be used are and counted as broken."""
    folder = split_folder(path)
    split = split_named(folder or path.stem)
    prefix = f"{folder}/" if folder else ""
    seen: set[str] = set()
    for where, fields in _objects(path, out):
        try:
            row = parse_row(fields, out.language)
        except RowError as error:
            out.broken(where, str(error))
            continue
        row = replace(row, file=prefix + row.file)
        image = out.picture(where, row.file, row.file.removeprefix(prefix))
        if image is None:
            continue
        content = json.dumps(fields, sort_keys=True)
        if content in seen:
            out.note(where, "the same as an earlier row")
            continue
        seen.add(content)
        add_row(out, where, row, image, split)


def _objects(path: Path, out: Collector) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() == ".json":
        content = read_json(path)
        for number, fields in enumerate(content if isinstance(content, list) else [content], 1):
            yield f"{path.name}, object {number}", fields
        return
    for number, line in lines(path):
        where = f"{path.name}:{number}"
        if line is None:
            out.broken(where, "not UTF-8")
            continue
        try:
            yield where, json.loads(line)
        except RecursionError:
            out.broken(where, "no valid JSON: nested too deeply")
        except ValueError as error:
            out.broken(where, f"no valid JSON: {error}")
