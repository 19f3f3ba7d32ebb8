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
from .files import files_like, lines, read_json, split_named
from .rows import RowError, add_row, parse_row

NAMES = r"(captions|metadata|train|val|valid|validation|dev|test)\.(jsonl|ndjson)"


SPLIT_FOLDERS = ("train", "val", "valid", "validation", "dev", "test")
"""Folders that hold a split each, with a table of its own."""


def find(source: Path) -> list[Path]:
    """The files of this form that a folder holds, or the file itself where it is one."""
    if source.is_dir():
        here = files_like(source, NAMES)
        return here or files_like(source, r"metadata\.jsonl", SPLIT_FOLDERS)
    suffix = source.suffix.lower()
    listed = suffix == ".json" and isinstance(read_json(source), list)
    return [source] if listed or suffix in (".jsonl", ".ndjson") else []


def read(path: Path, out: Collector) -> None:
    """Read a file's rows; those that cannot be used are listed, and counted as broken."""
    split = split_named(path.stem) or split_named(path.parent.name if _is_inner(path) else "")
    prefix = f"{path.parent.name}/" if _is_inner(path) else ""
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


def _is_inner(path: Path) -> bool:
    """Whether it describes one split's folder, and names pictures relative to that."""
    return path.stem == "metadata" and path.parent.name in SPLIT_FOLDERS


def _objects(path: Path, out: Collector) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() == ".json":
        for number, fields in enumerate(read_json(path), 1):
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
